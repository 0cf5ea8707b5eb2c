"""Taking an export in: everything is verified in a temporary folder, then objects and records take their places.

A kill at any moment leaves at most that folder, objects that nothing names yet, or an entry of the ledger whose record is not
there yet; importing the same file again completes it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from kit.archive import OPEN, STATEMENT, Archive
from kit.archive.continuity import recall
from kit.crate.candidate import Candidate, read_candidates
from kit.crate.contents import ARTIFACTS, FOLDERS, PROOF, RECORDS
from kit.crate.evidence import Compared, Proof, read_proof
from kit.crate.limits import LIMITS, Limits
from kit.crate.unpack import Crate, open_crate
from kit.errors import IntegrityError, PolicyError, UsageError
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


class Import(msgspec.Struct, frozen=True):
    """What an import found.

    Attributes:
        records: one for each that came.
        comparisons: of records that were done again; taken in with the records.
        proof: what the ledger of the archive that exported says.
    """

    records: tuple[Imported, ...]
    comparisons: tuple[Compared, ...]
    proof: Proof


class _Staged(msgspec.Struct, frozen=True):
    """Where verified files lie for now: objects by digest, those of the proof by path."""

    objects: dict[str, Path]
    proof: dict[str, Path]


def import_crate(
    archive: Archive,
    file: Path,
    who: str,
    time: datetime,
    keys: Sequence[PublicKey] = (),
    limits: Limits = LIMITS,
    accepted: Collection[str] = (),
) -> Import:
    """Take the records of an export into an archive, with everything that they name.

    A record's signature must be one of a trusted key; unsigned ones are taken in, as nobody is said to have done them.

    Args:
        archive: takes them.
        file: a zip that `kit export` made.
        who: user and host, for the ledger.
        time: now.
        keys: trusted ones; without any, a signature by whatever key is taken.
        limits: of what is read.
        accepted: ids of further keys whose records are taken in.

    Raises:
        PolicyError: a record that is not there yet is signed with a key that is neither trusted nor accepted; nothing was
            taken in.
        IntegrityError: the file is not what it must be, a record is in the archive already with other bytes, or the ledger is
            no continuation of what the project saw of it; nothing was taken in.
        UsageError: it is no file.
    """
    if not file.is_file():
        raise UsageError(f"{file} is no file; expected a zip that `kit export` made")
    if archive.memory:
        recall(archive, archive.memory)  # refuses to append to a ledger that is no continuation of what was seen
    staging = archive.folder / f".import.{secrets.token_hex(6)}.tmp"
    staging.mkdir()
    try:
        with open_crate(file, limits) as crate:
            staged = _stage(crate, staging)
            candidates = read_candidates(staging / RECORDS, staged.objects, keys, limits)
        proof, compared = read_proof(staged.proof, candidates, keys, limits)
        outcomes = {each.record.id: _compare(archive, each) for each in candidates}
        new = [each for each in candidates if outcomes[each.record.id] is Outcome.IMPORTED]
        entering = [each for each in compared if _is_to_be_entered(archive, each, outcomes)]
        _require_accepted(new, entering, keys, accepted)
        for sha256, path in staged.objects.items():
            _keep_object(path, archive.objects.path(sha256))
        for each in compared:
            _keep_object(staged.proof[each.comparison.path], archive.objects.path(each.comparison.sha256))
        for candidate in new:
            _take_in(archive, candidate, who, time)
        for each in entering:
            archive.ledger.append(Kind.REPRODUCTION, each.comparison.again, each.comparison.sha256, who, time)
    finally:
        remove_tree(staging)
    records = (Imported(each.record.id, outcomes[each.record.id], each.standing, each.key) for each in candidates)
    return Import(tuple(records), tuple(compared), proof)


def _is_to_be_entered(archive: Archive, compared: Compared, came: Collection[str]) -> bool:
    """Whether the record that did another again came from elsewhere, and the ledger here does not tell of the comparison yet.

    Of what was executed here the ledger here tells itself.
    """
    comparison = compared.comparison
    told = list(archive.tell_of(comparison.again))
    return comparison.again in came and not any(
        entry.kind is Kind.END or (entry.kind is Kind.REPRODUCTION and entry.sha256 == comparison.sha256)
        for entry in told
    )


def _require_accepted(
    candidates: Sequence[Candidate], compared: Sequence[Compared], keys: Sequence[PublicKey], accepted: Collection[str]
) -> None:
    """Refuse what a stranger signed, because `kit verify` could attribute it to nobody whom the project trusts."""
    signed = [(f"record {each.record.id}", each.standing, each.key) for each in candidates]
    signed += [(f"the comparison by {each.comparison.again}", each.standing, each.key) for each in compared]
    for what, standing, key in signed if keys else ():
        if standing is Standing.UNKNOWN_KEY and key not in accepted:
            raise PolicyError(
                f"{what} is signed with {key}, which this project does not trust; nothing was taken in. Add the line of "
                f"that key, as its owner's `kit key show` prints it, to trusted_keys in [tool.kit], or take the record in "
                f"without trusting it: --accept-key {key}"
            )


def _stage(crate: Crate, staging: Path) -> _Staged:
    """Verify every file; put those of records under their names, objects and proof under numbers, others nowhere."""
    objects: dict[str, Path] = {}
    proof: dict[str, Path] = {}
    (staging / RECORDS).mkdir()
    for number, (path, sha256) in enumerate(sorted(crate.manifest.items())):
        top, _, rest = path.partition("/")
        target = None
        if top == RECORDS:
            target = staging / RECORDS / rest
            target.parent.mkdir(parents=True, exist_ok=True)
        elif top in (ARTIFACTS, FOLDERS):
            target = objects.setdefault(sha256, staging / f"{number:09d}")
        elif top == PROOF:
            target = proof[path] = staging / f"{number:09d}"
        if target is None or target.exists():
            crate.copy(path, None)
            continue
        with target.open("xb") as copied:
            crate.copy(path, copied)
    return _Staged(objects, proof)


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
    told = archive.tell_of(record_id)
    if not any(entry.kind is Kind.IMPORT and entry.sha256 == sha256 for entry in told):
        archive.ledger.append(Kind.IMPORT, record_id, sha256, who, time)
    archive.records_folder.mkdir(exist_ok=True)
    try:
        os.rename(folder, archive.records_folder / record_id)  # noqa: PTH104 - fails on a non-empty target
    except OSError:
        if _compare(archive, candidate) is not Outcome.PRESENT:  # another import of the same file was faster
            raise
    sync_folder(archive.records_folder)
