"""Records as rows, and how 100,000 rows fall into pieces of which one new record changes only the last."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from kit.files import sha256_bytes
from kit.index import Row
from kit.record import Record, Status
from kit.report.rows import choose_metric


class RecordRow(msgspec.Struct, frozen=True, gc=False):
    """What lists show of a record.

    Attributes:
        id: of the record.
        stage: its stage.
        environment: its environment.
        status: how it stands.
        started: when.
        wall_s: how long it took; None while it runs or when the end was lost.
        metric: name of its main metric; empty without one.
        value: of that metric; None without one.
        reproduces: id of the record that it did again; empty if none.
    """

    id: str
    stage: str
    environment: str
    status: Status
    started: datetime
    wall_s: float | None = None
    metric: str = ""
    value: float | None = None
    reproduces: str = ""

    @property
    def succeeded(self) -> bool:
        """As for the record."""
        return self.status is Status.SUCCEEDED


def row_of(record: Record | Row) -> RecordRow:
    """A record, or what the archive's index knows of it, as a row."""
    metric, value = choose_metric(record.metrics) or ("", None)
    return RecordRow(
        record.id,
        record.stage,
        record.environment,
        record.status,
        record.started,
        record.wall_s,
        metric,
        value,
        record.reproduces or "",
    )


def oldest_first(rows: Iterable[RecordRow]) -> list[RecordRow]:
    """Rows by start, then id: the order of the pieces."""
    return sorted(rows, key=lambda row: (row.started, row.id))


class Cut(NamedTuple):
    """How rows are cut: a piece ends behind a row whose id says so, so that a late one changes only the piece it falls into.

    Content-defined chunking, as rsync and restic cut files (Muthitacharoen et al. 2001, A Low-bandwidth Network File System,
    section 3.1). The mean size is about `least` + `one_in`.
    """

    least: int
    one_in: int
    most: int

    def ends_at(self, row: RecordRow, size: int) -> bool:
        """Whether a piece that has `size` rows with this one ends behind it."""
        is_chosen = size >= self.least and zlib.crc32(row.id.encode("utf-8", "replace")) % self.one_in == 0
        return is_chosen or size >= self.most


def cut_rows(rows: Iterable[RecordRow], cut: Cut) -> Iterator[Sequence[RecordRow]]:
    """The pieces, in order; only the last may go on growing."""
    piece: list[RecordRow] = []
    for row in rows:
        piece.append(row)
        if cut.ends_at(row, len(piece)):
            yield piece
            piece = []
    if piece:
        yield piece


def digest_rows(rows: Sequence[RecordRow]) -> str:
    """Digest of what the rows show."""
    return sha256_bytes(msgspec.json.encode(rows))
