"""Rebuilding the packages that a record was executed with, by uv, in a cache below `.kit/environments/`."""

from __future__ import annotations

import importlib.metadata
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from kit.archive import Archive
from kit.compare import read_packages
from kit.errors import IntegrityError, UndecidableError
from kit.files import canonical_json, remove_tree, sha256_bytes, sha256_file, write_atomically
from kit.provenance import describe_machine, list_packages
from kit.record import Record
from kit.reproduce.shell import Shell
from kit.workspace import OWNER, mark_owner, remove_abandoned

KIT = "kit-ml"
REQUIREMENTS = "requirements.txt"
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_SHOWN = 5
_LIST = "from kit.provenance import requirements_text as t; print(t(), end='')"


def read_recorded_packages(archive: Archive, record: Record) -> dict[str, str]:
    """Version by name of what was installed when a record was executed.

    Raises:
        IntegrityError: its list is not the recorded one.
        UndecidableError: its list is missing, or has lines that no kit wrote.
    """
    where = f"record {record.id}, {REQUIREMENTS}"
    try:
        data = (archive.record_folder(record.id) / REQUIREMENTS).read_bytes()
    except OSError as error:
        raise UndecidableError(f"{where} cannot be read: {error}") from error
    expected, found = record.software.packages_sha256, sha256_bytes(data)
    if found != expected:
        raise IntegrityError(f"{where} is not the recorded one: expected {expected[:12]}…, found {found[:12]}…")
    try:
        packages = read_packages(data)
    except IntegrityError as error:
        raise UndecidableError(f"{where} cannot be read: {error}") from error
    for name, version in packages.items():
        if not (_PACKAGE.fullmatch(name) and _VERSION.fullmatch(version)):
            raise UndecidableError(f"{where}: expected name==version, found {name!r} at {version!r}")
    return packages


def describe_differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """How two lists of packages differ, kit itself aside: `numpy 2.4.6, here 2.3.0`."""
    names = sorted({*before, *after} - {KIT})
    return [
        f"{name} {before.get(name, 'missing')}, here {after.get(name, 'missing')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def differs_from_here(archive: Archive, record: Record) -> list[str]:
    """How what is installed here differs from what a record was executed with: packages, and Python to its minor version.

    Raises:
        IntegrityError: the record's list is not the recorded one.
        UndecidableError: the record does not tell.
    """
    differences = describe_differences(read_recorded_packages(archive, record), dict(list_packages()))
    if _minor(record.machine.python) != _minor(describe_machine().python):
        differences.insert(0, f"{record.machine.python}, here {describe_machine().python}")
    return differences


class Rebuilt:
    """An environment with the recorded packages.

    Attributes:
        python: its interpreter.
        variables: environment variables under which that imports the kit that is installed here.
    """

    def __init__(self, python: Path, kit: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
        self.python, self.variables = python, {**kept, "PYTHONPATH": str(kit)}


def rebuild_environment(
    archive: Archive, record: Record, cache: Path, shell: Shell, notify: Callable[[str], None] = lambda _: None
) -> Rebuilt:
    """The recorded packages in an environment of their own, built if it is not there yet, and looked at in any case.

    Args:
        archive: holds the record.
        record: whose packages.
        cache: folder of environments; many may build at once.
        shell: starts uv.
        notify: told what is done: `rebuilding the recorded packages`, or that they were rebuilt before.

    Raises:
        IntegrityError: the record's list of packages is not the recorded one.
        UndecidableError: it cannot be built, in uv's own words, or does not hold the recorded packages.
    """
    packages = read_recorded_packages(archive, record)
    minor = _minor(record.machine.python)
    place = cache / f"{record.software.packages_sha256}-{minor.replace('@', '-')}"
    notify("taking the recorded packages, rebuilt before" if place.is_dir() else "rebuilding the recorded packages")
    build_once(place, lambda folder: _build(folder, packages, minor, shell))
    rebuilt = Rebuilt(place / "venv" / "bin" / "python", copy_kit(cache))
    listed = shell.run([str(rebuilt.python), "-P", "-c", _LIST], rebuilt.variables, cache, aloud=False)
    if listed.code != 0:
        raise UndecidableError(f"kit does not start with the recorded packages: {_last_words(listed.err)}")
    differences = describe_differences(packages, _read_list(listed.out))
    if differences:
        raise UndecidableError(
            f"{place} does not hold the recorded packages ({'; '.join(differences[:_SHOWN])}): remove that folder"
        )
    return rebuilt


def build_once(place: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder under a name that is free: whole, or not at all; what a killed builder left is removed.

    Args:
        place: the folder; if it is there, nothing happens.
        fill: puts into a new folder what shall be in it.
    """
    if place.is_dir():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(place.parent)
    making = place.with_name(f".{place.name}.{secrets.token_hex(6)}.tmp")
    try:
        making.mkdir()
        mark_owner(making)
        fill(making)
        (making / OWNER).unlink()
        try:
            os.rename(making, place)  # noqa: PTH104 - fails on a non-empty target
        except OSError:
            if not place.is_dir():  # else another was quicker, and made the same
                raise
    finally:
        remove_tree(making)


def copy_kit(cache: Path) -> Path:
    """A folder that holds nothing but the kit that is installed here, so that another environment can import just that."""
    package = Path(__file__).parent.parent
    sources = [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    distribution = importlib.metadata.distribution(KIT)
    facts = {name: distribution.read_text(name) or "" for name in ("METADATA", "direct_url.json")}
    digests = {path.relative_to(package).as_posix(): sha256_file(path) for path in sources}
    place = cache / f"kit-{sha256_bytes(canonical_json({**digests, **facts}))}"

    def fill(folder: Path) -> None:
        for path in sources:
            target = folder / "kit" / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for name, text in facts.items():
            if text:
                write_atomically(folder / f"kit_ml-{distribution.version}.dist-info" / name, text.encode())

    build_once(place, fill)
    return place


def _build(folder: Path, packages: Mapping[str, str], minor: str, shell: Shell) -> None:
    requirements = folder / REQUIREMENTS
    requirements.write_text(
        "".join(f"{name}=={version}\n" for name, version in packages.items() if name != KIT), encoding="utf-8"
    )
    uv, venv = _find_uv(), folder / "venv"
    python = sys.executable if minor == _minor(describe_machine().python) else minor
    install = [
        "pip",
        "install",
        "--quiet",
        "--python",
        str(venv / "bin" / "python"),
        "--no-deps",
        "-r",
        str(requirements),
    ]
    # relocatable: it is built under another name than it will have
    for arguments in (["venv", "--quiet", "--relocatable", "--python", python, str(venv)], install):
        ended = shell.run([uv, *arguments], os.environ, folder, aloud=False)
        if ended.code != 0:
            raise UndecidableError(f"uv {arguments[0]} ended with {ended.code}: {_last_words(ended.err or ended.out)}")


def _find_uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise UndecidableError("uv, which rebuilds recorded packages, is not installed: pip install uv")
    return found


def _minor(python: str) -> str:
    """`cpython@3.11` of `CPython 3.11.9`, as uv names interpreters."""
    implementation, _, version = python.partition(" ")
    return f"{implementation.lower()}@{'.'.join(version.split('.')[:2])}"


def _read_list(text: str) -> dict[str, str]:
    try:
        return read_packages(text.encode())
    except IntegrityError as error:
        raise UndecidableError(f"the rebuilt environment cannot be listed: {error}") from error


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " ".join(lines[-8:])[-800:] or "it said nothing"
