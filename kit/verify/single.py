"""One record of an archive: the ledger, its files, and every object that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.ledger import Kind
from kit.signing import PublicKey, Standing
from kit.verify.attempts import judge_attempts
from kit.verify.entries import judge_release, list_beside
from kit.verify.executions import examine
from kit.verify.findings import Code, Finding, Report, false, noted, undecided
from kit.verify.ledgered import Ledgered, read_ledgered, undecidable_unless_readable
from kit.verify.notes import Noted
from kit.verify.objects import Hashed, hash_named, judge_objects, list_artifacts, list_needed
from kit.verify.records import Examined


@undecidable_unless_readable
def verify_record(
    archive: Path, record_id: str, keys: Sequence[PublicKey] = (), outside: Sequence[Noted] = ()
) -> Report:
    """Verify one record.

    Args:
        archive: its folder.
        record_id: in full.
        keys: trusted public keys.
        outside: checkpoints that the verifier kept elsewhere.

    Raises:
        NotFoundError: the folder is no archive.
        UndecidableError: a part of it may not be read.
    """
    ledgered = read_ledgered(archive, keys, outside)
    where = f"records/{record_id}"
    if record_id not in ledgered.books.records():
        what, meaning = "no entry of the ledger names it", "no kit made it here"
        unlogged = false(Code.UNLOGGED, where, "a record in the ledger", what, meaning)
        return ledgered.report(record_id, hash_named(archive, ()), [], [unlogged])
    examined = examine(archive, record_id, ledgered.origin, ledgered.books, keys)
    needed = {sha256 for _, artifact, _ in list_artifacts(examined.record) for sha256 in list_needed(artifact, archive)}
    hashed = hash_named(archive, {*needed, *list_beside(archive, examined.record)})
    findings = [*examined.findings, *judge_objects(archive, examined.record, hashed)]
    findings += judge_attempts(archive, examined.record, ledgered.books, has_gap=ledgered.chain.has_gap)
    findings += _judge_standing(where, examined, keys)
    findings += _judge_entries(archive, where, ledgered, record_id, examined, hashed, keys)
    return ledgered.report(record_id, hashed, [examined], findings)


def _judge_standing(where: str, examined: Examined, keys: Sequence[PublicKey]) -> Iterator[Finding]:
    """Asked for by its name, a record that nobody signed is not attributed to the keys that were given."""
    meaning = "only the ledger vouches for it, not a person"
    if examined.standing is Standing.UNSIGNED and keys:
        yield undecided(Code.UNSIGNED, where, "a signature by a trusted key", "none", meaning)
    elif examined.standing is Standing.UNSIGNED:
        yield noted(Code.UNSIGNED, where, "no signature", meaning)


def _judge_entries(
    archive: Path,
    where: str,
    ledgered: Ledgered,
    record_id: str,
    examined: Examined,
    hashed: Hashed,
    keys: Sequence[PublicKey],
) -> Iterator[Finding]:
    if record_id not in ledgered.books.ends:
        meaning = "nothing of it was sealed, so nothing of it can be proved"
        yield undecided(Code.LOST, where, "an end in the ledger", "none", meaning)
    for entry in ledgered.chain.of_kind(Kind.RELEASE):
        if entry.record == record_id:
            yield from judge_release(archive, entry, examined.record, hashed, keys)
