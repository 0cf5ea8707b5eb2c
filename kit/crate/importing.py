"""Taking an export in: everything is verified in a temporary folder, then objects and records take their places.

A kill at any moment leaves at most that folder, objects that nothing names yet, or an entry of the ledger whose record is not
there yet; importing the same file again completes it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from kit.archive import OPEN, STATEMENT, Archive
from kit.crate.candidate import Candidate, read_candidates
from kit.crate.contents import ARTIFACTS, FOLDERS, RECORDS
from kit.crate.limits import LIMITS, Limits
from kit.crate.unpack import Crate, open_crate
from kit.errors import IntegrityError, UsageError
from kit.files import remove_tree, sha256_file, sync_file, sync_folder
from kit.ledger import Kind
from kit.signing import PublicKey, Standing


class Outcome(enum.StrEnum):
    """What became of a record."""

    IMPORTED = "imported"
    PRESENT = "already there"


class Imported(msgspec.Struct, frozen=True):
    """One record of an import.

    Attributes:
        record: id.
        outcome: whether it was taken in or was there already, the same bytes.
        standing: how its signature stands to the trusted keys.
        key: id of the key that signed it; empty if none did.
    """

    record: str
    outcome: Outcome
    standing: Standing
    key: str


def import_crate(
    archive: Archive,
    file: Path,
    who: str,
    time: datetime,
    keys: Sequence[PublicKey] = (),
    limits: Limits = LIMITS,
) -> tuple[Imported, ...]:
    """Take the records of an export into an archive, with everything that they name.

    Args:
        archive: takes them.
        file: a zip that `kit export` made.
        who: user and host, for the ledger.
        time: now.
        keys: trusted ones.
        limits: of what is read.

    Raises:
        IntegrityError: the file is not what it must be, or a record is in the archive already with other bytes; nothing was
            taken in.
        UsageError: it is no file.
    """
    if not file.is_file():
        raise UsageError(f"{file} is no file; expected a zip that `kit export` made")
    staging = archive.folder / f".import.{secrets.token_hex(6)}.tmp"
    staging.mkdir()
    try:
        with open_crate(file, limits) as crate:
            objects = _stage(crate, staging)
            candidates = read_candidates(staging / RECORDS, objects, keys, limits)
        outcomes = [_compare(archive, candidate) for candidate in candidates]
        for sha256, path in objects.items():
            _keep_object(path, archive.objects.path(sha256))
        for candidate, outcome in zip(candidates, outcomes, strict=True):
            if outcome is Outcome.IMPORTED:
                _take_in(archive, candidate, who, time)
    finally:
        remove_tree(staging)
    return tuple(
        Imported(each.record.id, outcome, each.standing, each.key)
        for each, outcome in zip(candidates, outcomes, strict=True)
    )


def _stage(crate: Crate, staging: Path) -> dict[str, Path]:
    """Verify every file; put those of records under their names, objects under numbers, others nowhere."""
    objects: dict[str, Path] = {}
    (staging / RECORDS).mkdir()
    for number, (path, sha256) in enumerate(sorted(crate.manifest.items())):
        top, _, rest = path.partition("/")
        target = None
        if top == RECORDS:
            target = staging / RECORDS / rest
            target.parent.mkdir(parents=True, exist_ok=True)
        elif top in (ARTIFACTS, FOLDERS):
            target = objects.setdefault(sha256, staging / f"{number:09d}")
        if target is None or target.exists():
            crate.copy(path, None)
            continue
        with target.open("xb") as copied:
            crate.copy(path, copied)
    return objects


def _compare(archive: Archive, candidate: Candidate) -> Outcome:
    """Whether a record is there already.

    Raises:
        IntegrityError: it is, with other bytes.
    """
    record_id = candidate.record.id
    if (archive.records_folder / f"{record_id}{OPEN}").exists():
        raise IntegrityError(f"record {record_id} is being written in this archive; it cannot come from elsewhere too")
    folder = archive.records_folder / record_id
    if not folder.exists():
        return Outcome.IMPORTED
    for name, sha256 in sorted(_digests(folder).items() ^ candidate.digests.items()):
        raise IntegrityError(
            f"record {record_id} is in this archive already, and its {name} differs ({sha256[:12]}…); `kit verify` tells "
            f"whether it was changed here"
        )
    return Outcome.PRESENT


def _digests(folder: Path) -> Mapping[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def _keep_object(path: Path, target: Path) -> None:
    """Give a verified file its place, durable; one that is there already is the same by its name."""
    if target.exists():
        return
    path.chmod(0o444)
    sync_file(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(path, target)
    sync_folder(target.parent)


def _take_in(archive: Archive, candidate: Candidate, who: str, time: datetime) -> None:
    """Durable files, an entry in the ledger, one rename."""
    folder, record_id = candidate.folder, candidate.record.id
    for path in [*folder.rglob("*"), folder]:
        if path.is_file():
            path.chmod(0o444)
            sync_file(path)
        else:
            sync_folder(path)
    sha256 = candidate.digests[STATEMENT]
    told = (entry for entry in archive.ledger.read_entries() if entry.record == record_id)
    if not any(entry.kind is Kind.IMPORT and entry.sha256 == sha256 for entry in told):
        archive.ledger.append(Kind.IMPORT, record_id, sha256, who, time)
    archive.records_folder.mkdir(exist_ok=True)
    try:
        os.rename(folder, archive.records_folder / record_id)  # noqa: PTH104 - fails on a non-empty target
    except OSError:
        if _compare(archive, candidate) is not Outcome.PRESENT:  # another import of the same file was faster
            raise
    sync_folder(archive.records_folder)
