"""What the index is asked, and what it answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kit.index.condition import Condition
from kit.record import Failure, Record, Status

SORTS = ("started", "stage", "environment", "status", "seconds")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which records, in which order; what is empty or None asks for nothing.

    Attributes:
        sweep: digest of the sweep that they are points of.
        since: started then or later.
        until: started before that.
        where: conditions on metrics and parameters; all must hold.
        sort: one of `SORTS`, or the name of a metric or parameter; by such a name only records that have it are found.
        reverse: the other way round. Else the newest, the longest, the largest value come first, and texts from A to Z.
        limit: at most so many; None for all.
        offset: leave out so many.
    """

    stage: str = ""
    environment: str = ""
    status: str = ""
    sweep: str = ""
    since: datetime | None = None
    until: datetime | None = None
    where: tuple[Condition, ...] = ()
    sort: str = "started"
    reverse: bool = False
    limit: int | None = None
    offset: int = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the index knows of a record: the facts that lists show, as record.json has them.

    `imported`: by the ledger. `wall_s`, `peak_memory_bytes`: None while it runs and where the system does not tell.
    """

    id: str
    stage: str
    environment: str
    status: Status
    started: datetime
    ended: datetime | None = None
    wall_s: float | None = None
    key: str = ""
    sweep: str = ""
    reproduces: str | None = None
    release: str | None = None
    host: str = ""
    user: str = ""
    failure: Failure | None = None
    peak_memory_bytes: int | None = None
    metrics: dict[str, float | int | bool | str] = {}
    parameters: dict[str, Any] = {}
    imported: bool = False


class Page(msgspec.Struct, frozen=True):
    """Records that were found.

    Attributes:
        rows: those of this page.
        total: how many there are on all pages.
        unread: ids of records that are there and cannot be read, newest first; what they are is not known.
    """

    rows: tuple[Row, ...]
    total: int
    unread: tuple[str, ...] = ()


class FileStat(msgspec.Struct, frozen=True):
    """The file that a row was read from, by its path below `records/`, and what it was like then."""

    file: str
    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int


def microseconds(time: datetime) -> int:
    """Since 1970, exact."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def columns_of(record: Record) -> tuple[Any, ...]:
    """A record as values of `COLUMNS`."""
    failure, usage = record.failure, record.usage
    return (
        record.stage,
        record.environment,
        record.status.value,
        microseconds(record.started),
        microseconds(record.ended) if record.ended else None,
        record.wall_s,
        record.key,
        record.sweep,
        record.reproduces,
        record.release,
        record.machine.host,
        record.machine.user,
        failure.kind if failure else None,
        failure.message if failure else None,
        failure.cell if failure else None,
        usage.peak_memory_bytes if usage else None,
        msgspec.json.encode(record.metrics).decode(),
        msgspec.json.encode({each.name: each.value for each in record.parameters}).decode(),
    )


COLUMNS = (
    "stage", "environment", "status", "started", "closed", "wall_s", "key", "sweep", "reproduces", "release", "host", "user",
    "failure_kind", "failure_message", "failure_cell", "peak_memory_bytes", "metrics", "parameters",
)  # fmt: skip


def row_of(record_id: str, imported: int, columns: tuple[Any, ...]) -> Row:
    """The inverse of `columns_of`."""
    stage, environment, status, started, closed, wall_s, key, sweep, reproduces, release, host, user = columns[:12]
    kind, message, cell, peak, metrics, parameters = columns[12:]
    return Row(
        id=record_id,
        stage=stage,
        environment=environment,
        status=Status(status),
        started=_EPOCH + timedelta(microseconds=started),
        ended=None if closed is None else _EPOCH + timedelta(microseconds=closed),
        wall_s=wall_s,
        key=key,
        sweep=sweep,
        reproduces=reproduces,
        release=release,
        host=host,
        user=user,
        failure=None if kind is None else Failure(kind, message, cell),
        peak_memory_bytes=peak,
        metrics=msgspec.json.decode(metrics),
        parameters=msgspec.json.decode(parameters),
        imported=bool(imported),
    )
