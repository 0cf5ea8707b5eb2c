"""What is around an execution beside code, parameters and data: packages, Python, kit, variables that change results."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.files import canonical_json, read_regular, sha256_bytes
from kit.provenance import describe_software, list_packages
from kit.record import Record, Software

# Of the variables that a record keeps those that choose other arithmetic; how many threads there are belongs to the machine.
_VARIABLES = ("KERAS_BACKEND", "TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NORMALISE = re.compile(r"[-_.]+")
# folders whose content a version tells, and what has no file
_PINNED = (
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    f"{sys.base_prefix}{os.sep}",
    "built-in",
    "frozen",
)
_INCLUDES = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable", ".", "/")


class Surroundings(msgspec.Struct, frozen=True):
    """What is installed and set where a stage executes.

    Attributes:
        packages: version by normalised name.
        python: implementation and version, as a record has it.
        kit: version, and the digest of the sources where it is an editable installation.
        variables: those of the environment that choose other arithmetic, where they are set.
    """

    packages: Mapping[str, str]
    python: str
    kit: dict[str, str]
    variables: dict[str, str]


def look_around() -> Surroundings:
    """The surroundings of what is executed here and now; what is installed is looked up once in a process."""
    packages, kit = _look_up()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Surroundings(packages, python, kit, _pick(os.environ))


@lru_cache(1)
def _look_up() -> tuple[dict[str, str], dict[str, str]]:
    return dict(list_packages()), _describe_kit(describe_software(None))


def surroundings_of(archive: Archive, record: Record) -> Surroundings:
    """The surroundings that a record was executed in, as far as it tells.

    Raises:
        OSError: its requirements.txt cannot be read.
        IntegrityError: it is none.
    """
    from kit.compare.causes import read_packages  # with all of its package, which few commands need

    data = read_regular(archive.record_folder(record.id) / "requirements.txt")
    variables = _pick(record.machine.thread_settings)
    return Surroundings(read_packages(data), record.machine.python, _describe_kit(record.software), variables)


def _describe_kit(software: Software) -> dict[str, str]:
    sources = software.kit_sources_sha256
    return {"version": software.kit_version} | ({"sources_sha256": sources} if sources else {})


def _pick(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in _VARIABLES if name in variables}


def choose_packages(lock: bytes | None, packages: Mapping[str, str]) -> dict[str, str]:
    """Versions of the packages that a lock names, empty for one that is not installed; without a lock those of all.

    A lock that includes other files, or cannot be read, names all.
    """
    names = _list_names(lock) if lock is not None else None
    if names is None:
        return dict(packages)
    return {name: packages.get(name, "") for name in sorted(names)}


@lru_cache(8)
def _list_names(lock: bytes) -> set[str] | None:
    """Normalised names in a lock; None if it leaves open which these are."""
    try:
        lines = [line.strip() for line in lock.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        return None
    names = set()
    for line in lines:
        if line.startswith(_INCLUDES):
            return None
        if not line.startswith(("-", "#")) and (match := _NAME.match(line)):
            names.add(_NORMALISE.sub("-", match[0]).lower())
    return names


def digest_loose(modules: Iterable[str]) -> dict[str, str]:
    """Digests of imported sources that neither a bundle nor a version pins: editable installations, PYTHONPATH.

    Args:
        modules: dotted names of third-party modules.

    Returns:
        Digest of all Python files by top-level name; what is installed with a version is not in it.
    """
    found = {}
    for name in sorted({module.split(".")[0] for module in modules}):
        if paths := list(_find_loose(name)):
            found[name] = sha256_bytes(canonical_json([[path.name, sha256_bytes(path.read_bytes())] for path in paths]))
    return found


def _find_loose(name: str) -> Iterator[Path]:
    for place in _find_places(name):
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from sorted(place.rglob("*.py"))


def _find_places(name: str) -> list[Path]:
    """Where a module lies, if that is neither the interpreter's own folder nor that of installed packages."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return []
    origins = [spec.origin] if spec and spec.origin else []
    places = list(spec.submodule_search_locations or origins) if spec else []
    return [Path(place) for place in places if not place.startswith(_PINNED)]
