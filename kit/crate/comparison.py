"""Comparisons in an export: what was stated of an execution that was done again, told by the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from kit.archive import Archive
from kit.crate.contents import PROOF
from kit.errors import IntegrityError, KitError, NotFoundError
from kit.files import sha256_bytes
from kit.ledger import Entry, Kind
from kit.signing import Envelope, decode_envelope
from kit.statement import TEST_RESULT

COMPARISONS = f"{PROOF}/comparisons"
ENVELOPE_SUFFIX = ".dsse.json"


class Comparison(msgspec.Struct, frozen=True):
    """What was compared.

    Attributes:
        sha256: of the envelope that states the outcome.
        record: id of the record that was done again.
        again: id of the record that did it again.
    """

    sha256: str
    record: str
    again: str

    @property
    def path(self) -> str:
        """Where its envelope lies in an export."""
        return f"{COMPARISONS}/{self.sha256}{ENVELOPE_SUFFIX}"


def decode_comparison(data: bytes, where: str) -> tuple[Comparison, Envelope]:
    """Read the envelope of a comparison.

    Raises:
        IntegrityError: it is none, or does not say what was compared.
    """
    envelope = decode_envelope(data, where)
    statement = envelope.read_statement(where)
    record = _look_up(statement, "predicate", "kit", "comparison", "record")
    again = _look_up(statement, "predicate", "kit", "again")
    if statement.get("predicateType") != TEST_RESULT or not (isinstance(record, str) and isinstance(again, str)):
        raise IntegrityError(f"{where}: expected a comparison of two records, found another statement")
    return Comparison(sha256_bytes(data), record, again), envelope


def list_comparisons(
    archive: Archive, entries: Iterable[Entry], ids: Collection[str]
) -> Iterator[tuple[Entry, Comparison, Envelope]]:
    """The comparisons that records took part in, whether they were done again or did another again.

    Args:
        archive: holds the envelopes.
        entries: of its ledger.
        ids: of the records.

    Raises:
        NotFoundError: the envelope of one is not there.
        IntegrityError: one cannot be read, or is not the one that the ledger tells of.
    """
    for entry in entries:
        if entry.kind is not Kind.REPRODUCTION:
            continue
        where = f"the comparison of ledger entry {entry.seq}"
        try:
            comparison, envelope = decode_comparison(archive.objects.read(entry.sha256), where)
            if comparison.again != entry.record:
                raise IntegrityError(f"{where}: expected one by {entry.record}, found one by {comparison.again}")
        except (NotFoundError, IntegrityError):
            if _may_concern(archive, entry, ids):
                raise
            continue
        if comparison.record in ids or comparison.again in ids:
            yield entry, comparison, envelope


def _may_concern(archive: Archive, entry: Entry, ids: Collection[str]) -> bool:
    """Whether a comparison that cannot be read may be one of these records, as far as the record that did it says."""
    if entry.record in ids:
        return True
    try:
        return archive.read_record(entry.record).reproduces in (None, *ids)
    except KitError:
        return True


def _look_up(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
