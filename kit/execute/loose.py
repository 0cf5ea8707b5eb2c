"""Sources that a stage's code reaches and that neither a bundle nor a version pins: editable installations, PYTHONPATH."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from kit.files import canonical_json, sha256_bytes, sha256_file
from kit.notebook.source import read_module

# folders whose content a version tells, and what has no file
_PINNED = (*(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")), "built-in", "frozen")
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_CUSTOMISING = (
    "sitecustomize",
    "usercustomize",
)  # executed as each interpreter starts, and of no version wherever they lie
_CACHE = "__pycache__"


def digest_loose(modules: Iterable[str]) -> dict[str, str]:
    """Digests of imported sources that neither a bundle nor a version pins, and of what each interpreter executes at its start.

    Args:
        modules: dotted names of third-party modules; what their loose sources import is followed.

    Returns:
        Digest of all files by top-level name; what is installed with a version is not in it.
    """
    found: dict[str, str] = {}
    known, waiting = set(_CUSTOMISING), list(_CUSTOMISING)
    waiting += _add_new(modules, known)
    while waiting:
        name = waiting.pop()
        if files := dict(_find_files(name)):
            digests = {path: sha256_file(file) for path, file in sorted(files.items())}
            found[name] = sha256_bytes(canonical_json(digests))
            waiting += _add_new(_list_imports(files.values()), known)
    return dict(sorted(found.items()))


def _add_new(modules: Iterable[str], known: set[str]) -> set[str]:
    """Top-level names that were not known; they are known from now on."""
    new = {module.split(".")[0] for module in modules} - known
    known |= new
    return new


def _list_imports(files: Iterable[Path]) -> Iterator[str]:
    """Absolute names that some files import, those that are Python."""
    for file in files:
        if file.suffix == ".py":
            yield from (
                each.module for each in read_module(file.read_bytes()).imports if each.module and not each.level
            )


def _find_files(name: str) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of all that a top-level module consists of, its data too; nothing of one that a version pins."""
    for place in _find_places(name):
        if place.is_file():
            yield place.name, place
        for folder, folders, files in os.walk(place):
            folders[:] = [each for each in folders if each != _CACHE and not each.startswith(".")]
            paths = (Path(folder, each) for each in files)
            yield from ((path.relative_to(place).as_posix(), path) for path in paths if path.is_file())


def _find_places(name: str) -> list[Path]:
    """Where a module lies, if that is neither the interpreter's own folder nor that of installed packages."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return []
    origins = [spec.origin] if spec and spec.origin else []
    places = list(spec.submodule_search_locations or origins) if spec else []
    return [Path(place) for place in places if name in _CUSTOMISING or not _is_pinned(place)]


def _is_pinned(place: str) -> bool:
    return not _INSTALLED.isdisjoint(Path(place).parts) or place.startswith(_PINNED)
