"""Objects: bytes that have the digest which their name says, and nothing else in their folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from kit.archive import Objects
from kit.artifact import Artifact, Tree
from kit.files import sha256_file
from kit.verify.findings import Code, Finding, false, noted, short

_FIRST, _REST = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{62}")
_CHANGED = "whatever rests on these bytes is void"


class Hashed(msgspec.Struct):
    """Objects that were hashed.

    Attributes:
        sound: digests of those whose bytes are what their name says.
        damaged: digests of the others.
        n_bytes: of all of them.
        findings: what is wrong.
    """

    sound: set[str]
    damaged: set[str]
    n_bytes: int
    findings: list[Finding]

    @property
    def n_objects(self) -> int:
        """How many there are."""
        return len(self.sound) + len(self.damaged)


def hash_objects(archive: Path) -> Hashed:
    """Hash every object of an archive."""
    hashed = Hashed(set(), set(), 0, [])
    for folder, folders, names in os.walk(archive / "objects"):
        folders.sort()
        for name in (*sorted(names), *(each for each in folders if Path(folder, each).is_symlink())):
            _take(hashed, archive, Path(folder, name))
    return hashed


def hash_named(archive: Path, digests: Iterable[str]) -> Hashed:
    """Hash those objects that are named; one that is not there is neither sound nor damaged."""
    hashed, objects = Hashed(set(), set(), 0, []), Objects(archive / "objects")
    for sha256 in sorted(set(digests)):
        if (path := objects.path(sha256)).is_file():
            _take(hashed, archive, path)
    return hashed


def _take(hashed: Hashed, archive: Path, path: Path) -> None:
    parts = path.relative_to(archive).as_posix().split("/")
    name = "/".join(parts)
    if parts[1] == "tmp" or path.name.startswith("."):
        hashed.findings.append(noted(Code.LEFTOVER, name, "a temporary file", "a copy was killed; nothing reads it"))
    elif not (len(parts) == 4 and parts[1] == "sha256" and _FIRST.fullmatch(parts[2]) and _REST.fullmatch(parts[3])):
        hashed.findings.append(false(Code.UNLOGGED, name, "objects only", "something else", "no kit put it there"))
    elif path.is_symlink():
        hashed.findings.append(false(Code.EDITED, name, "a file", "a link", _CHANGED))
    else:
        _hash(hashed, name, path, parts[2] + parts[3])


def _hash(hashed: Hashed, name: str, path: Path, sha256: str) -> None:
    try:
        found = sha256_file(path)
        hashed.n_bytes += path.stat().st_size
    except OSError as error:
        hashed.damaged.add(sha256)
        hashed.findings.append(false(Code.MISSING, name, "bytes", f"{error.strerror}", "they cannot be read"))
        return
    if found == sha256:
        hashed.sound.add(sha256)
    else:
        hashed.damaged.add(sha256)
        hashed.findings.append(false(Code.EDITED, name, short(sha256), short(found), _CHANGED))


def list_needed(artifact: Artifact, archive: Path) -> Iterator[str]:
    """Digests of the objects that an artifact is made of; those of a folder only as far as its tree can be read."""
    yield artifact.sha256
    if not artifact.is_folder:
        return
    try:
        tree = msgspec.json.decode(Objects(archive / "objects").path(artifact.sha256).read_bytes(), type=Tree)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError):
        return  # that the tree itself is missing or changed is found where it is looked at
    yield from (entry.sha256 for entry in tree.files)
