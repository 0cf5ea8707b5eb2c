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


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
        has_more: whether there are others after them.
        unread: ids of records that are there and cannot be read, newest first; what they are is not known.
    """

    rows: tuple[Row, ...]
    has_more: bool
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


COLUMNS = ("stage", "environment", "status", "started", "wall_s", "key", "sweep", "reproduces")


def columns_of(record: Record) -> tuple[Any, ...]:
    """A record as values of `COLUMNS`."""
    return (
        record.stage,
        record.environment,
        record.status.value,
        microseconds(record.started),
        record.wall_s,
        record.key,
        record.sweep,
        record.reproduces,
    )


def encode_row(record: Record) -> bytes:
    """A record's row as JSON, but for whether it was imported, which the ledger says."""
    row = Row(
        id=record.id,
        stage=record.stage,
        environment=record.environment,
        status=record.status,
        started=record.started.astimezone(UTC),
        ended=record.ended.astimezone(UTC) if record.ended else None,
        wall_s=record.wall_s,
        key=record.key,
        sweep=record.sweep,
        reproduces=record.reproduces,
        release=record.release,
        host=record.machine.host,
        user=record.machine.user,
        failure=record.failure,
        peak_memory_bytes=record.usage.peak_memory_bytes if record.usage else None,
        metrics=record.metrics,
        parameters={each.name: each.value for each in record.parameters},
    )
    return msgspec.json.encode(row)
