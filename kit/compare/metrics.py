"""Comparing the metrics of two executions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.compare.comparator import METRICS, Comparator, Kind, metric_comparator
from kit.compare.comparison import Agreement, Comparison
from kit.compare.tally import Tally, show


def compare_metrics(
    before: Mapping[str, Any], after: Mapping[str, Any], comparators: Mapping[str, Comparator]
) -> tuple[Comparison, ...]:
    """Compare all metrics of two executions, by name; one that only one side has is different."""
    return tuple(_compare(name, before, after, comparators) for name in sorted({*before, *after}))


def _compare(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], comparators: Mapping[str, Comparator]
) -> Comparison:
    comparator = metric_comparator(name, comparators)
    agreement, detail = Agreement.IGNORED, comparator.reason
    if comparator.kind is not Kind.IGNORE:
        if name not in after:
            agreement, detail = Agreement.DIFFERENT, f"missing, was {show(before[name])}"
        elif name not in before:
            agreement, detail = Agreement.DIFFERENT, f"{show(after[name])}, was not there"
        else:
            agreement, detail = compare_metric(before[name], after[name], comparator)
    return Comparison(METRICS + name, str(comparator), agreement, detail)


def compare_metric(before: Any, after: Any, comparator: Comparator) -> tuple[Agreement, str]:
    """Compare two values of a metric: how far they agree, and the difference in one sentence."""
    if type(before) is type(after) and before == after:
        return Agreement.IDENTICAL, ""
    tally = Tally(comparator)
    tally.compare("", before, after)
    told = f"{show(after)}, was {show(before)}"
    if tally.largest:
        told += f": {tally.largest:.3g} away (relative {tally.largest_relative:.3g})"
    return Agreement.DIFFERENT if tally.n_differ else Agreement.EQUAL, told
