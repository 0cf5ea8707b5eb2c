"""Names of files that every system can hold and keeps apart, and that lead nowhere else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_NAME_BYTES = 255  # what the file systems of Linux, macOS and Windows hold
_PATH_BYTES = 1024


def find_unportable(paths: Iterable[str]) -> str:
    """What is wrong with the names of some files that go into one folder; empty if nothing.

    Wrong are absolute names, `.` and `..`, a backslash or a control character, a name twice, two names that differ only in
    case or in how an accent is written, and a file that is also the folder of another.
    """
    folded: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")
        if not is_portable(path):
            return f"{path!r} is no name that every system can hold inside of a folder"
        if path in files:
            return f"the name {path!r} stands twice"
        files.add(path)
        for n in range(1, len(parts) + 1):
            name = "/".join(parts[:n])
            other = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if other != name:
                return (
                    f"{other!r} and {name!r} differ only in case or accents: some systems would hold one of them only"
                )
            if n < len(parts):
                folders.add(name)
    both = sorted(files & folders)
    return f"{both[0]!r} is a file and also a folder" if both else ""


def is_portable(path: str) -> bool:
    """True for a relative path, with `/`, that stays inside and that every system can hold."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        return False
    return len(path.encode()) <= _PATH_BYTES and all(len(part.encode()) <= _NAME_BYTES for part in parts)


def is_plain(name: str) -> bool:
    """True for the name of one file or folder that is not hidden."""
    return is_portable(name) and "/" not in name and not name.startswith(".")
