"""Is a record what was sealed when its execution ended? Its bytes against its statement, the statement against the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kit.archive import STATEMENT, Archive
from kit.errors import KitError
from kit.files import sha256_bytes
from kit.ledger import Kind
from kit.record import Record
from kit.statement import subjects_of


def read_seals(archive: Archive, ids: Collection[str]) -> dict[str, str]:
    """Digests of the statements of records, by id, as the ledger's oldest entry on the end of each has it; none without one.

    Raises:
        IntegrityError: an entry of the ledger cannot be read.
    """
    entries = (entry for entry in archive.tell_of(*ids) if entry.kind in (Kind.END, Kind.IMPORT))
    return {entry.record: entry.sha256 for entry in entries}  # the last one put in is the oldest


def find_change(archive: Archive, record: Record, seals: Mapping[str, str]) -> str:
    """Why a record is not the one that was sealed, in a sentence; empty if it is.

    Args:
        archive: holds its statement.
        record: as it was read.
        seals: see `read_seals`.
    """
    if record.id not in seals:
        return "no entry of the ledger tells of its end, so that it was put there without kit"
    try:
        envelope = archive.read_envelope(record.id)
        stated = subjects_of(envelope.read_statement(f"record {record.id}, {STATEMENT}"))
    except (KitError, OSError) as error:
        return f"its statement cannot be read: {error}"
    if sha256_bytes(envelope.encode()) != seals[record.id]:
        return "its statement is not the one that the ledger names"
    return "" if sha256_bytes(record.encode()) == stated.get("record.json") else "it was changed after it was sealed"
