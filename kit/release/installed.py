"""Installed packages and Python beside those of a release: its lock, and the Python that made its model."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from kit.bundle import Bundle
from kit.errors import IntegrityError
from kit.execute.sources import BUNDLE
from kit.files import sha256_bytes
from kit.gate import Manifest, Release
from kit.provenance import compare_lock, describe_machine
from kit.release.difference import Difference, Kind, advise_on_damage, advise_to_cut, list_some
from kit.release.verdict import short


def find_lock(bundle: Bundle, manifest: Manifest) -> tuple[str, bytes] | None:
    """(path in the bundle, bytes) of the lock that a release pins; None if it pins none.

    Raises:
        IntegrityError: the bundle has no file of that digest.
    """
    if manifest.lock_sha256 is None:
        return None
    for name in bundle.names():
        if sha256_bytes(data := bundle.read(name)) == manifest.lock_sha256:
            return name, data
    raise IntegrityError(
        f"{BUNDLE} holds no file with the digest of the released lock: expected {short(manifest.lock_sha256)}, found none"
    )


def judge_packages(
    bundle: Bundle, manifest: Manifest, release: Release, install: Callable[[str], str]
) -> Iterator[Difference]:
    """Installed packages that are not as the released lock has them, as one difference.

    Args:
        bundle: the released sources, with the lock.
        manifest: names the lock by digest; without a lock nothing can differ.
        release: to be run.
        install: path of the lock in the bundle -> the command that installs it.
    """
    try:
        lock = find_lock(bundle, manifest)
    except IntegrityError as error:
        yield Difference(Kind.BUNDLE, str(error), advise_on_damage(release.environment))
        return
    if lock is None or not (found := compare_lock(lock[1])):
        return
    listed = list_some([str(each) for each in found])
    fact = f"installed packages differ from {lock[0]} of {release.id}, {len(found)} of them: {listed}"
    advice = f"install that lock with `{install(lock[0])}`, or {advise_to_cut(release.environment)}"
    yield Difference(Kind.PACKAGES, fact, advice)


def unzip_and_install(file: Path, lock: str, release: Release) -> str:
    """The command that installs a lock which lies in a zip."""
    target = f"{release.id}.lock"
    return f"unzip -p {shlex.quote(str(file))} {shlex.quote(lock)} > {target} && python -m pip install -r {target}"


def judge_python(trained: str, release: Release, notify: Callable[[str], None], here: str = "") -> Iterator[Difference]:
    """Another Python than the one that trained: implementation, major or minor version.

    Args:
        trained: as `CPython 3.11.2`.
        release: to be run.
        notify: is told of another patch level, which is no difference.
        here: this Python; without it the one that executes.
    """
    here = here or describe_machine().python
    if _minor(here) != _minor(trained):
        fact = (
            f"Python differs from the one that made the model of {release.id}: expected {_minor(trained)}, found {here}"
        )
        yield Difference(
            Kind.PYTHON, fact, f"use {_minor(trained)}, or train with this one and {advise_to_cut(release.environment)}"
        )
    elif here != trained:
        notify(f"the model of {release.id} was made with {trained}, this is {here}: another patch level, no drift")


def _minor(python: str) -> str:
    """`CPython 3.11` of `CPython 3.11.2`."""
    return ".".join(python.split(".")[:2])
