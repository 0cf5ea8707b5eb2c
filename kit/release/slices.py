"""A gate's evidence on slices: a candidate's metrics among the rows of each value of a column. What was not judged refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from kit.environment import MetricLimits, SliceLimits
from kit.gate import Evidence, Finding, describe_drop, room_to_drop
from kit.model.evaluate import Evaluation, Measured

MAX_LISTED = 50  # values with evidence of their own for each metric; what refuses is always listed
NO_LIVE = "no live release to compare with"

_Values = Mapping[str, Measured]


class _Judged(msgspec.Struct, frozen=True):
    """One value's evidence, and how far it is from the nearest limit, in the metric's unit; below 0 it refuses."""

    slack: float
    evidence: Evidence


class _Against(msgspec.Struct, frozen=True):
    """What one value's metric is held against; `live`: what the live model reaches for the same value, if it is asked for."""

    bounds: MetricLimits
    live: Measured | None
    live_id: str

    def list_limits(self, metric: str, value: float) -> Iterator[tuple[float, str, str]]:
        """For each limit: how far inside it the value is, what it is, and the complaint for a value outside."""
        bounds, other = self.bounds, self.live.metrics.get(metric) if self.live else None
        if bounds.min is not None:
            yield value - bounds.min, f"at least {bounds.min:g}", "below the limit"
        if bounds.max is not None:
            yield bounds.max - value, f"at most {bounds.max:g}", "above the limit"
        if bounds.max_drop is not None and other is None:
            yield -math.inf, f"{self.live_id} has no such number", "cannot be compared"
        elif bounds.max_drop is not None and other is not None:
            fact = describe_drop(metric, other, bounds.max_drop, self.live_id)
            yield room_to_drop(metric, value, bounds.max_drop, other), *fact


def judge_column(column: str, limits: SliceLimits, evaluation: Evaluation, live_id: str) -> Iterator[Evidence]:
    """Hold each value of a column that has enough rows against the column's limits: evidence of kind `slice`.

    Args:
        column: of the evaluation rows.
        limits: by metric, and how many rows are enough.
        evaluation: what candidate and live model reach; what cannot be known refuses.
        live_id: id of the live release; empty if there is none.
    """
    problem = evaluation.candidate_problem or evaluation.columns.get(column, "")
    values = evaluation.candidate.slices.get(column, {}) if evaluation.candidate else {}
    large = {name: each for name, each in values.items() if each.n_rows >= limits.min_rows}
    if not problem and not limits.metrics:
        problem = (
            f"the environment sets no limit: give [gates.slices.{column}] a metrics.<name> with min, max or max_drop"
        )
    if not problem and not large:
        problem = f"none of its {len(values):,} values has {limits.min_rows:,} rows"
    if problem:
        yield Evidence("slice", column, Finding.REFUSES, f"nothing was judged: {problem}")
        return
    if len(large) < len(values):
        yield _note_small(column, values, limits.min_rows)
    for metric, bounds in sorted(limits.metrics.items()):
        yield from _judge_metric(column, metric, bounds, large, evaluation, live_id)


def _note_small(column: str, values: _Values, min_rows: int) -> Evidence:
    small = {name: each.n_rows for name, each in values.items() if each.n_rows < min_rows}
    n_rows, n_all = sum(small.values()), sum(each.n_rows for each in values.values())
    names = ", ".join(sorted(small)[:5]) + ("…" if len(small) > 5 else "")
    detail = f"{len(small):,} of {len(values):,} values have fewer than {min_rows:,} rows and were not judged: {names}"
    return Evidence("slice", column, Finding.NOTED, f"{detail} ({n_rows:,} of {n_all:,} rows)")


def _judge_metric(
    column: str, metric: str, bounds: MetricLimits, values: _Values, evaluation: Evaluation, live_id: str
) -> Iterator[Evidence]:
    subject = f"{column} {metric}"
    if not _has_limits(bounds):
        yield Evidence("slice", subject, Finding.REFUSES, "the environment sets no limit for it: give min or max")
        return
    if bounds.max_drop is not None and (not live_id or evaluation.live_problem):
        yield _explain_no_comparison(subject, evaluation, live_id)
        bounds = msgspec.structs.replace(bounds, max_drop=None)
    if not _has_limits(bounds):
        return
    live = evaluation.live.slices.get(column, {}) if evaluation.live else {}
    judged = [
        _judge_value(f"{column}={name} {metric}", metric, measured, _Against(bounds, live.get(name), live_id))
        for name, measured in values.items()
    ]
    yield from _list_worst(subject, judged)


def _has_limits(bounds: MetricLimits) -> bool:
    return not bounds.min is bounds.max is bounds.max_drop is None


def _explain_no_comparison(subject: str, evaluation: Evaluation, live_id: str) -> Evidence:
    if not live_id:
        return Evidence("slice", subject, Finding.NOTED, NO_LIVE)
    detail = f"cannot be compared with {live_id} on the same data: {evaluation.live_problem}"
    return Evidence("slice", subject, Finding.REFUSES, detail)


def _judge_value(subject: str, metric: str, measured: Measured, against: _Against) -> _Judged:
    rows = f"on {measured.n_rows:,} rows"
    if metric not in measured.metrics:
        detail = f"undefined {rows}: {measured.explain_missing(metric)}"
        return _Judged(-math.inf, Evidence("slice", subject, Finding.REFUSES, detail))
    value = measured.metrics[metric]
    limits = list(against.list_limits(metric, value))
    broken = [complaint for slack, _, complaint in limits if slack < 0]
    detail = ", ".join([f"{value:.6g} {rows}", *(fact for _, fact, _ in limits)])
    finding = Finding.REFUSES if broken else Finding.HOLDS
    detail = f"{' and '.join(broken)}: {detail}" if broken else detail
    return _Judged(min(slack for slack, _, _ in limits), Evidence("slice", subject, finding, detail))


def _list_worst(subject: str, judged: Sequence[_Judged]) -> Iterator[Evidence]:
    """All that refuses, then what holds, nearest to its limit first; one piece of evidence for the rest."""
    # Rounded: the last digits, which differ between processors, must not decide on the order.
    ranked = sorted(judged, key=lambda each: (round(each.slack, 4), each.evidence.subject))
    refused = [each.evidence for each in ranked if each.evidence.finding is Finding.REFUSES]
    held = [each for each in ranked if each.evidence.finding is Finding.HOLDS]
    n_listed = max(0, MAX_LISTED - len(refused))
    yield from refused
    yield from (each.evidence for each in held[:n_listed])
    if held[n_listed:]:
        nearest = held[n_listed].evidence
        detail = (
            f"{len(held[n_listed:]):,} further values hold; nearest to its limit is {nearest.subject}: {nearest.detail}"
        )
        yield Evidence("slice", f"{subject}, further values", Finding.HOLDS, detail)
