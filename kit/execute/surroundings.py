"""What is around an execution beside code, parameters and data: packages, Python, kit, variables that change results."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from kit.archive import Archive
from kit.files import read_regular
from kit.provenance import ARITHMETIC_VARIABLES, describe_software, list_packages
from kit.record import Record, Software

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NORMALISE = re.compile(r"[-_.]+")
_INCLUDES = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable", ".", "/")


class Surroundings(msgspec.Struct, frozen=True):
    """What is installed and set where a stage executes.

    Attributes:
        packages: version by normalised name.
        python: implementation and version, as a record has it.
        kit: version, and the digest of the sources where it is an editable installation.
        variables: those of the environment that choose other arithmetic, where they are set.
        environ: all variables; empty where nobody knows them any more.
    """

    packages: Mapping[str, str]
    python: str
    kit: dict[str, str]
    variables: dict[str, str]
    environ: Mapping[str, str] = {}


def look_around() -> Surroundings:
    """The surroundings of what is executed here and now; what is installed is looked up once in a process."""
    packages, kit = _look_up()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Surroundings(packages, python, kit, _pick(os.environ), os.environ)


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
    """Of the variables that a record keeps those that count; how many threads there are belongs to the machine."""
    return {name: variables[name] for name in ARITHMETIC_VARIABLES if name in variables}


def choose_packages(lock: bytes | None, packages: Mapping[str, str], modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the packages that a lock names, empty for one that is not installed; without a lock those of all.

    A lock that includes other files, or cannot be read, names all.

    Args:
        lock: its bytes; None without one.
        packages: version by normalised name of what is installed.
        modules: dotted names of imported ones: a package of the same name counts although the lock does not name it.
    """
    names = _list_names(lock) if lock is not None else None
    if names is None:
        return dict(packages)
    imported = {_normalise(module.split(".")[0]) for module in modules} & packages.keys()
    return {name: packages.get(name, "") for name in sorted(names | imported)}


def _normalise(name: str) -> str:
    return _NORMALISE.sub("-", name).lower()


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
            names.add(_normalise(match[0]))
    return names
