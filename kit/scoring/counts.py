"""Rows in are rows out and rows rejected: the numbers, and the sentence where they do not add up."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

ROWS_IN, ROWS_OUT, ROWS_REJECTED = "rows_in", "rows_out", "rows_rejected"
REJECTED = "rejected_"  # before a reason


class RowCounts(msgspec.Struct, frozen=True):
    """What became of a batch's rows.

    Attributes:
        rows_in: rows of the batch.
        rows_out: rows with an answer.
        rejected: the others, by reason; an empty text where none is known.
    """

    rows_in: int
    rows_out: int
    rejected: dict[str, int] = {}

    @property
    def rows_rejected(self) -> int:
        """Rows without an answer."""
        return sum(self.rejected.values())

    @property
    def metrics(self) -> dict[str, int]:
        """The counts as metrics: `rows_in`, `rows_out`, `rows_rejected`, and `rejected_<reason>` for each reason."""
        reasons = Counter[str]()
        for reason, n in sorted(self.rejected.items()):
            if reason:
                reasons[f"{REJECTED}{reason.replace(' ', '_')}"] += n  # two reasons may be written alike
        return {ROWS_IN: self.rows_in, ROWS_OUT: self.rows_out, ROWS_REJECTED: self.rows_rejected, **reasons}


class Scored(RowCounts, frozen=True):
    """What scoring a batch gave; `wall_s`: seconds from the first row read to the last one written."""

    wall_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows of the batch for each second; 0 if it took no time that can be measured."""
        return self.rows_in / self.wall_s if self.wall_s > 0 else 0.0


def count_rows(rows_in: int, rows_out: int, rows_rejected: int | Mapping[str, int]) -> RowCounts:
    """Counts from whole numbers of any kind, numpy's too.

    Raises:
        TypeError: one is no whole number.
    """
    reasons = rows_rejected if isinstance(rows_rejected, Mapping) else {"": rows_rejected}
    rejected = {str(reason): operator.index(n) for reason, n in reasons.items()}
    return RowCounts(operator.index(rows_in), operator.index(rows_out), rejected)


def add_counts(counts: Iterable[RowCounts]) -> RowCounts:
    """What became of the rows of several batches together."""
    each = list(counts)
    rejected = Counter[str]()
    for one in each:
        rejected.update(one.rejected)
    return RowCounts(sum(one.rows_in for one in each), sum(one.rows_out for one in each), dict(rejected))


def find_lost_rows(metrics: Mapping[str, Any]) -> str:
    """Why the row counts among an execution's metrics do not hold; empty if they do, or if there are none at all."""
    names = (ROWS_IN, ROWS_OUT, ROWS_REJECTED)
    missing = [name for name in names if name not in metrics]
    if len(missing) == len(names):
        return ""
    if missing:
        there = ", ".join(name for name in names if name not in missing)
        return f"it counts {there} but not {', '.join(missing)}; say all three with stage.count_rows(…)"
    values = [metrics[name] for name in names]
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in values):
        found = ", ".join(f"{name} {value!r}" for name, value in zip(names, values, strict=True))
        return f"row counts are whole numbers of at least 0, found {found}"
    n_in, n_out, n_rejected = values
    if n_in != n_out + n_rejected:
        what = "lost" if n_in > n_out + n_rejected else "made"
        n_off = abs(n_in - n_out - n_rejected)
        return f"{n_in:,} rows in are not {n_out:,} rows out and {n_rejected:,} rejected: {n_off:,} were {what}"
    n_reasons = sum(n for name, n in metrics.items() if name.startswith(REJECTED) and isinstance(n, int))
    return f"reasons for {n_reasons:,} rejected rows, but {n_rejected:,} were" if n_reasons > n_rejected else ""
