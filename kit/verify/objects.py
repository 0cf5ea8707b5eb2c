"""Objects: bytes that have the digest which their name says, and nothing else in their folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from kit.archive import Objects
from kit.artifact import Artifact, Tree
from kit.files import digest_of, open_regular, read_regular
from kit.record import Record
from kit.verify.findings import Code, Finding, false, noted, short, undecided
from kit.verify.names import is_leftover

_FIRST, _REST = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
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
        below = Path(folder).relative_to(archive).parts
        strange = [name for name in folders if Path(folder, name).is_symlink() or not _is_own_folder((*below, name))]
        folders[:] = sorted(set(folders) - set(strange))
        for name in sorted([*names, *strange]):
            _take(hashed, archive, Path(folder, name))
    return hashed


def _is_own_folder(parts: tuple[str, ...]) -> bool:
    """True for `objects/tmp` and the folders `objects/sha256/ab`."""
    return parts[1:] in (("tmp",), ("sha256",)) or (
        len(parts) == 3 and parts[1] == "sha256" and bool(_FIRST.fullmatch(parts[2]))
    )


def hash_named(archive: Path, digests: Iterable[str]) -> Hashed:
    """Hash those objects that are named; one that is not there is neither sound nor damaged."""
    hashed, objects = Hashed(set(), set(), 0, []), Objects(archive / "objects")
    for sha256 in sorted(set(digests)):
        if _DIGEST.fullmatch(sha256) and (path := objects.path(sha256)).is_file():
            _take(hashed, archive, path)
    return hashed


def _take(hashed: Hashed, archive: Path, path: Path) -> None:
    parts = path.relative_to(archive).as_posix().split("/")
    name = "/".join(parts)
    if parts[1] == "tmp" or is_leftover(path.name):
        hashed.findings.append(noted(Code.LEFTOVER, name, "a temporary file", "a copy was killed; nothing reads it"))
    elif not (len(parts) == 4 and parts[1] == "sha256" and _FIRST.fullmatch(parts[2]) and _REST.fullmatch(parts[3])):
        hashed.findings.append(false(Code.UNLOGGED, name, "objects only", "something else", "no kit put it there"))
    elif path.is_symlink() or path.is_dir():
        hashed.damaged.add(parts[2] + parts[3])
        found = "a link" if path.is_symlink() else "a folder"
        hashed.findings.append(false(Code.EDITED, name, "a file", found, _CHANGED))
    else:
        _hash(hashed, name, path, parts[2] + parts[3])


def _hash(hashed: Hashed, name: str, path: Path, sha256: str) -> None:
    try:
        with open_regular(path) as file:
            found = digest_of(file)
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
    if not artifact.is_folder or not _DIGEST.fullmatch(artifact.sha256):
        return
    try:
        tree = msgspec.json.decode(read_regular(Objects(archive / "objects").path(artifact.sha256)), type=Tree)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return  # that the tree itself is missing or changed is found where it is looked at
    yield from (entry.sha256 for entry in tree.files)


def list_artifacts(record: Record | None) -> Iterator[tuple[str, Artifact, bool]]:
    """(what it is, artifact, True if it is an input) for everything whose bytes a record names."""
    if record is None:
        return
    code = record.code
    yield "bundle", Artifact("bundle.zip", code.bundle_sha256, 0, "application/zip"), False
    yield "configuration", Artifact("configuration", record.configuration_sha256, 0, "application/json"), False
    yield from (("output", artifact, False) for artifact in record.outputs)
    yield from (("input", each.artifact, True) for each in record.inputs)


def judge_objects(archive: Path, record: Record | None, hashed: Hashed) -> Iterator[Finding]:
    """Everything whose bytes a record names must be there; what it read may be kept elsewhere."""
    there = hashed.sound | hashed.damaged
    for what, artifact, is_input in list_artifacts(record):
        gone = [sha256 for sha256 in list_needed(artifact, archive) if sha256 not in there]
        if not gone or record is None:
            continue
        path = Objects(Path("objects")).path(gone[0]).as_posix()
        subject = f"{what} {artifact.name!r} of {record.id}"
        if is_input:
            meaning = "what the execution read cannot be looked at here; fetch it from where it is kept"
            yield undecided(Code.INPUT_NOT_AVAILABLE, path, subject, "nothing", meaning)
        else:
            yield false(Code.MISSING, path, subject, "nothing", "what the record says it holds was removed")
