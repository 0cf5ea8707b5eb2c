"""How the image is built in which `kit serve` runs: the locked packages by hash, kit, the release file; nobody is root."""

from __future__ import annotations

import re
import tomllib

import msgspec

from kit.errors import NotFoundError
from kit.handover.layers import Blob
from kit.handover.objects import PORT, USER
from kit.handover.place import Place
from kit.handover.subject import Subject

PACKAGE = "kit-ml"
BACKEND = "hatchling"
_PYTHON = re.compile(r"([A-Za-z]+) ([0-9]+\.[0-9]+)(\.[0-9].*)?")
_CHECK = (
    "import platform, sys; "
    "found = platform.python_implementation() + ' ' + platform.python_version(); "
    "sys.exit(0 if found.startswith('{expected}.') else 'the release was trained with {expected}, the base image has ' + found)"
)


class KitSource(msgspec.Struct, frozen=True):
    """How kit gets into the image.

    Attributes:
        is_locked: the lock pins it.
        is_own: the release's own sources are kit's; they are built with what the lock pins.
        problem: why it cannot; empty if it can.
    """

    is_locked: bool = False
    is_own: bool = False
    problem: str = ""


def find_kit(subject: Subject) -> KitSource:
    """How kit can be installed from what the release pins, and from nothing else."""
    if subject.lock is None:
        return KitSource(problem="the release has no lock file; add one ([tool.kit] lock) and cut a new release")
    name, lock = subject.lock
    pinned = _list_pinned(lock.decode(errors="replace"))
    if PACKAGE in pinned:
        return KitSource(is_locked=True)
    if not _is_kit_itself(subject):
        return KitSource(problem=f"{name} does not pin {PACKAGE}; add it there and cut a new release")
    if BACKEND not in pinned:
        return KitSource(problem=f"{name} does not pin {BACKEND}, which builds kit from the release's sources")
    return KitSource(is_own=True)


def describe_server(subject: Subject, place: Place, kit: KitSource, release: Blob) -> str:
    """A Containerfile to be built in the hand-over's folder.

    Args:
        subject: the release.
        place: with a base image.
        kit: without a problem.
        release: the layer that holds the release file.
    """
    files = "requirements.lock bundle.zip" if kit.is_own else "requirements.lock"
    install = "RUN pip install --no-cache-dir --disable-pip-version-check"
    parts = [
        f"# Release {subject.release.id}, release.json sha256:{subject.manifest.sha256}",
        f"FROM {place.base_image}",
        *_check_python(subject.manifest.python),
        f"COPY {files} /build/",
        f"{install} --require-hashes -r /build/requirements.lock",
    ]
    if kit.is_own:
        parts.append("# kit itself, from the sources of the release; what builds it comes from the lock")
        parts.append(
            "RUN python -m zipfile -e /build/bundle.zip /build/source"
            " && pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index"
            " /build/source && rm -r /build/source"
        )
    parts += [
        f"# /release/{subject.release.id}.kit, out of the layer that the image holds",
        f"ADD image/blobs/sha256/{release.sha256} /",
        f"USER {USER}:{USER}",
        "WORKDIR /tmp",
        f"EXPOSE {PORT}",
        f'CMD ["kit", "serve", "--file", "/release/{subject.release.id}.kit", "--host", "0.0.0.0", "--port", "{PORT}"]',
    ]
    return "".join(f"{part}\n" for part in parts)


def describe_modelcar(subject: Subject, place: Place, model: Blob) -> str:
    """A Containerfile of an image that KServe's `oci://` can start beside a runtime: the model, and a shell."""
    parts = [
        f"# The model of release {subject.release.id} beside a shell: KServe starts `sh`, `ln` and `sleep` in it",
        f"FROM {place.base_image}",
        f"ADD image/blobs/sha256/{model.sha256} /",
    ]
    return "".join(f"{part}\n" for part in parts)


def _check_python(python: str) -> list[str]:
    """A step that ends the build on another Python than the one that trained, as far as that is known."""
    match = _PYTHON.fullmatch(python)
    return [f'RUN python -c "{_CHECK.format(expected=f"{match[1]} {match[2]}")}"'] if match else []


def _list_pinned(lock: str) -> set[str]:
    """Names of the packages that a lock pins, normalised."""
    names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==", lock, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def _is_kit_itself(subject: Subject) -> bool:
    try:
        settings = tomllib.loads(subject.bundle.read("pyproject.toml").decode())
    except (NotFoundError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    project = settings.get("project")
    return isinstance(project, dict) and project.get("name") == PACKAGE
