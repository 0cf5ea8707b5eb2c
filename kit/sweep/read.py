"""A sweep with what became of its points, and as its page shows it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kit.archive import Archive
from kit.index import Query
from kit.record import Failure, Record, Status
from kit.report.axes import is_number
from kit.report.sweep import PointView, SweepView
from kit.sweep.definition import Definition, find_definition

WAITING = "waiting"  # a point without a record


class Sweep(msgspec.Struct, frozen=True):
    """A sweep and its results.

    Attributes:
        definition: what it is.
        records: the record of each point, None where there is none; see `read_sweep`.
        failures: by index, of points whose process could not even begin a record.
    """

    definition: Definition
    records: tuple[Record | None, ...]
    failures: dict[int, Failure] = {}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Metrics that are numbers in some succeeded record, in the order of recording."""
        names = (n for r in self.records if r and r.succeeded for n, v in r.metrics.items() if is_number(v))
        return tuple(dict.fromkeys(names))


def read_sweep(archive: Archive, name: str) -> Sweep:
    """The sweep of that id or unique beginning of it, with the newest succeeded record of each point, else the newest.

    A record belongs to a point if it has its key: the sweep executed it, or it was there and was taken.

    Raises:
        UnknownSubjectError: there is no such sweep.
        UsageError: several, or the name can be none's.
        IntegrityError: its definition was changed.
    """
    definition = find_definition(archive, name)
    own = Query(stage=definition.stage, environment=definition.environment, sweep=definition.sha256)
    found: dict[str, Record] = {}
    for row in archive.search(own).rows:  # newest first
        if row.key not in found and not row.imported and row.reproduces is None:
            found[row.key] = archive.read_record(row.id)
    return Sweep(definition, tuple(_find_taken(archive, definition, key, found.get(key)) for key in definition.keys))


def _find_taken(archive: Archive, definition: Definition, key: str, own: Record | None) -> Record | None:
    """The record of a point: the sweep's own if it succeeded, else one that another execution made."""
    if own and own.succeeded:
        return own
    return archive.newest_of(definition.stage, definition.environment, key) or own


def choose_metric(sweep: Sweep, gated: Sequence[str]) -> str:
    """What the points are compared by: the first metric that the environment's gate limits, else the first that there is."""
    names = sweep.metric_names
    return next((name for name in gated if name in names), names[0] if names else "")


def make_view(sweep: Sweep, metric: str, *, lowest: bool) -> SweepView:
    """A sweep as its page shows it.

    Args:
        sweep: with its results.
        metric: what the points are compared by.
        lowest: True if the lowest is the best.
    """
    definition = sweep.definition
    points = (_view_point(sweep, index, metric) for index in range(len(sweep.records)))
    return SweepView(
        definition.id, definition.stage, definition.environment, metric, lowest, definition.axes, tuple(points)
    )


def _view_point(sweep: Sweep, index: int, metric: str) -> PointView:
    values, record = sweep.definition.values(index), sweep.records[index]
    if record is None:
        return PointView(values, "", Status.FAILED.value if index in sweep.failures else WAITING, None)
    return PointView(
        values=values,
        record=record.id,
        status=record.status.value,
        metric=float(record.metrics[metric]) if is_number(record.metrics.get(metric)) else None,
        metrics=record.metrics,
        seconds=record.wall_s,
        reused=record.sweep != sweep.definition.sha256,
    )
