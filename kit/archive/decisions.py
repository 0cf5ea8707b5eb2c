"""Decisions about releases as the ledger tells of them: a rollback's or waiver's statement, bound to its entry and archive."""

from __future__ import annotations

from datetime import UTC

from kit.decision import MAX_DAYS, Rollback, Waiver
from kit.errors import IntegrityError
from kit.ledger import Entry, environment_of
from kit.signing import Envelope
from kit.statement import read_rollback, read_waiver


def decode_rollback(envelope: Envelope, entry: Entry, origin: str) -> Rollback:
    """The rollback that an entry of the ledger stands for.

    Args:
        envelope: whose digest the entry has.
        entry: of the ledger.
        origin: of the archive.

    Raises:
        IntegrityError: it is none, or one of another entry, environment or archive.
    """
    where = _name(entry)
    rollback, made_for = read_rollback(envelope.read_statement(where), where)
    stated = (rollback.after, rollback.environment, rollback.who, rollback.time, made_for)
    expected = (entry.release, environment_of(entry), entry.who, entry.time, origin)
    if stated != expected or rollback.since_entry >= entry.seq:
        raise IntegrityError(f"{where}: it states another decision than the entry tells of: {rollback} for {made_for}")
    return rollback


def decode_waiver(envelope: Envelope, entry: Entry, origin: str) -> Waiver:
    """The waiver, given or revoked, that an entry of the ledger stands for; see `decode_rollback`."""
    where = _name(entry)
    waiver, made_for = read_waiver(envelope.read_statement(where), where)
    if (waiver.who, waiver.time, made_for) != (entry.who, entry.time, origin):
        raise IntegrityError(f"{where}: it states another decision than the entry tells of: {waiver} for {made_for}")
    if waiver.since_entry >= entry.seq or (waiver.until - waiver.time.astimezone(UTC).date()).days > MAX_DAYS:
        raise IntegrityError(
            f"{where}: no kit gives a waiver for more than {MAX_DAYS} days, or after a later one: {waiver}"
        )
    return waiver


def _name(entry: Entry) -> str:
    return f"the {entry.kind} of ledger entry {entry.seq}"
