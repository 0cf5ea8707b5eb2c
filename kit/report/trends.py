"""Metrics over time: every value counts, a bounded number of points is drawn."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kit.record import Record
from kit.report.listing import RecordRow, oldest_first, row_of

MAX_POINTS = 200  # of one line: two for each of a hundred pieces
MAX_TRENDS = 24


class Trend(msgspec.Struct, frozen=True):
    """A stage's main metric in one environment, oldest first; `points` is an SVG polyline in a box of 100 × 30."""

    stage: str
    environment: str
    metric: str
    values: tuple[float, ...]

    @property
    def points(self) -> str:
        """Evenly spaced records; the lowest value at the bottom, a flat line in the middle."""
        low, high = min(self.values), max(self.values)
        step = 100 / (len(self.values) - 1)
        drawn = ((n * step, (value - low) / (high - low) if high > low else 0.5) for n, value in thin_out(self.values))
        return " ".join(f"{x:.2f},{27 - 24 * height:.2f}" for x, height in drawn)


def thin_out(values: Sequence[float]) -> Iterator[tuple[int, float]]:
    """(place, value) of the lowest and highest of each of a hundred pieces, all of few values: no peak is lost."""
    if len(values) <= MAX_POINTS:
        yield from enumerate(values)
        return
    n_pieces = MAX_POINTS // 2
    for n in range(n_pieces):
        piece = range(n * len(values) // n_pieces, (n + 1) * len(values) // n_pieces)
        ends = {min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}
        yield from ((place, values[place]) for place in sorted(ends))


def find_trends(records: Iterable[Record]) -> list[Trend]:
    """A trend for each stage and environment with a main metric in at least two succeeded records; none done again."""
    return trends_of(oldest_first(map(row_of, records)))


def trends_of(rows: Iterable[RecordRow]) -> list[Trend]:
    """As `find_trends`, of rows, oldest first; of very many trends those with the newest values."""
    values: dict[tuple[str, str, str], array[float]] = {}
    for row in rows:
        if row.value is not None and math.isfinite(row.value) and row.succeeded and not row.reproduces:
            key = row.stage, row.environment, row.metric
            found = values.pop(key, None) or array("d")
            found.append(row.value)
            values[key] = found  # at the end: the newest last
    lines = [(key, found) for key, found in values.items() if len(found) > 1]
    return [Trend(*key, tuple(found)) for key, found in sorted(lines[-MAX_TRENDS:])]
