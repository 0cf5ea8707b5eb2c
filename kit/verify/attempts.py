"""The earlier attempts that a record says it went on with: executions that were, came before, and did not succeed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kit.archive import STARTED
from kit.errors import IntegrityError
from kit.files import read_regular
from kit.ledger import Entry, Kind
from kit.record import Record, decode_record
from kit.verify.executions import Books, folder_of
from kit.verify.findings import Code, Finding, false, noted

_NO_ATTEMPT = "it did not go on with what it says, so what it rests on is not told"


def judge_attempts(archive: Path, record: Record | None, books: Books, *, has_gap: bool) -> Iterator[Finding]:
    """Verify what a record says of its earlier attempts.

    Args:
        archive: its folder.
        record: as it was read; None if it cannot be.
        books: what the ledger says of each record.
        has_gap: an entry of the ledger is missing, which is said there: an attempt without one is not blamed.
    """
    if record is None or not record.attempts:
        return
    path = f"records/{record.id}/record.json"
    end = books.ends.get(record.id)
    if end and end.kind is Kind.IMPORT:
        what = f"{len(record.attempts)} earlier attempts of an imported record"
        yield noted(Code.LOST, path, what, "they were recorded where it was executed, and nothing here tells of them")
        return
    for attempt in record.attempts:
        start = books.starts.get(attempt)
        if start is None and not has_gap:
            yield false(Code.UNLOGGED, path, f"an attempt {attempt} in the ledger", "none", _NO_ATTEMPT)
        if start is None:
            continue
        if start.seq >= _seq_of(books.starts.get(record.id)):
            yield false(Code.REORDERED, path, "attempts that came before", f"{attempt}, which came later", _NO_ATTEMPT)
        yield from _judge_attempt(archive, path, record, attempt)


def _seq_of(start: Entry | None) -> float:
    """Number of an entry; of one that is missing, which is said elsewhere, after all others."""
    return start.seq if start else float("inf")


def _judge_attempt(archive: Path, path: str, record: Record, attempt: str) -> Iterator[Finding]:
    told = _read(archive, attempt)
    if told is None:
        return  # said where that record is looked at
    expected = (record.stage, record.environment, record.key)
    if (told.stage, told.environment, told.key) != expected:
        found = f"{attempt}, a {told.stage} in {told.environment}"
        found += ", other work" if (told.stage, told.environment) == expected[:2] else ""
        yield false(Code.EDITED, path, f"attempts at this {record.stage} in {record.environment}", found, _NO_ATTEMPT)
    if told.succeeded:
        yield false(Code.EDITED, path, "attempts that did not succeed", f"{attempt}, which did", _NO_ATTEMPT)


def _read(archive: Path, record_id: str) -> Record | None:
    """A record as sealed, else as announced; None if neither can be read."""
    folder = folder_of(archive, record_id)
    for name in ("record.json", STARTED):
        try:
            return decode_record(read_regular(folder / name), f"records/{record_id}/{name}")
        except (IntegrityError, OSError):
            continue
    return None
