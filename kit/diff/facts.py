"""Named things beside each other: parameters, metrics, artifacts, checks, packages, settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult, ExpectationResult
from kit.diff.values import ArtifactDiff, ArtifactFacts, Change, CheckDiff, CheckFacts, Fact, MetricDiff, ParameterDiff
from kit.files import canonical_json
from kit.parameter import ResolvedParameter

_T = TypeVar("_T")


def pair_names(before: Mapping[str, _T], after: Mapping[str, _T]) -> list[tuple[str, _T | None, _T | None]]:
    """(name, value before, value after) of all names, the first's first; None on a side that lacks it."""
    return [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]


def change_of(before: Any, after: Any) -> Change:
    """How one JSON value stands beside another; tells 1 from 1.0 and from True."""
    return Change.SAME if canonical_json(before) == canonical_json(after) else Change.CHANGED


def presence(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    """Added or removed; None for what both sides have."""
    if name in before and name in after:
        return None
    return Change.REMOVED if name in before else Change.ADDED


def diff_mapping(
    before: Mapping[str, Any], after: Mapping[str, Any], softer: Mapping[str, Change] | None = None
) -> tuple[Fact, ...]:
    """Values by name.

    Args:
        before: of the first.
        after: of the second.
        softer: names whose change is another than `changed`, such as `volatile`.
    """
    found = []
    for name, old, new in pair_names(before, after):
        change = presence(name, before, after) or change_of(old, new)
        if change.counts:
            change = (softer or {}).get(name, change)
        found.append(Fact(name, change, old, new))
    return tuple(found)


def only_differing(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Those that are not the same."""
    return tuple(fact for fact in facts if fact.change is not Change.SAME)


def diff_parameters(
    before: Iterable[ResolvedParameter], after: Iterable[ResolvedParameter]
) -> tuple[ParameterDiff, ...]:
    """Parameters with the sources of their values."""
    old, new = ({each.name: each for each in side} for side in (before, after))
    found = []
    for name, a, b in pair_names(old, new):
        change = presence(name, old, new)
        if change is None and a and b:
            change = change_of(a.value, b.value)
            if change is Change.SAME and a.source != b.source:
                change = Change.ORIGIN
        sources = (a.source.value if a else "", b.source.value if b else "")
        values = (a.value if a else None, b.value if b else None)
        found.append(ParameterDiff(name, change or Change.SAME, *values, *sources))
    return tuple(found)


def diff_metrics(
    before: Mapping[str, float | int | bool | str], after: Mapping[str, float | int | bool | str]
) -> tuple[MetricDiff, ...]:
    """Metrics with their differences; 1 and 1.0 are the same number."""
    found = []
    for name, old, new in pair_names(before, after):
        difference, relative = measure_difference(old, new)
        change = presence(name, before, after)
        if change is None:
            change = Change.SAME if difference == 0 else change_of(old, new)
        found.append(MetricDiff(name, change, old, new, difference, relative))
    return tuple(found)


def measure_difference(before: Any, after: Any) -> tuple[float | None, float | None]:
    """(after − before, the same as a fraction of |before|); None for what is no finite number."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after)):
        return None, None
    try:
        difference = float(after - before)
        relative = difference / abs(before) if before else None
    except OverflowError:
        return None, None
    if not math.isfinite(difference):
        return None, None
    return difference, relative if relative is not None and math.isfinite(relative) else None


def diff_inputs(before: Iterable[InputArtifact], after: Iterable[InputArtifact]) -> tuple[ArtifactDiff, ...]:
    """Inputs by name; the same bytes from another record or place are `origin`."""
    old, new = (
        {i.artifact.name: ArtifactFacts(i.artifact.sha256, i.artifact.size_bytes, i.origin) for i in side}
        for side in (before, after)
    )
    return _diff_artifacts(old, new)


def diff_outputs_written(before: Iterable[Artifact], after: Iterable[Artifact]) -> tuple[ArtifactDiff, ...]:
    """Outputs by name."""
    old, new = ({each.name: ArtifactFacts(each.sha256, each.size_bytes) for each in side} for side in (before, after))
    return _diff_artifacts(old, new)


def _diff_artifacts(
    before: Mapping[str, ArtifactFacts], after: Mapping[str, ArtifactFacts]
) -> tuple[ArtifactDiff, ...]:
    found = []
    for name, old, new in pair_names(before, after):
        change = Change.SAME
        if old is None or new is None:
            change = Change.ADDED if old is None else Change.REMOVED
        elif old.sha256 != new.sha256:
            change = Change.CHANGED
        elif old.origin != new.origin:
            change = Change.ORIGIN
        found.append(ArtifactDiff(name, change, old, new))
    return tuple(found)


def diff_checks(before: Iterable[CheckResult], after: Iterable[CheckResult]) -> tuple[CheckDiff, ...]:
    """Checks by artifact, with the expectations that read otherwise."""
    old, new = ({each.artifact: each for each in side} for side in (before, after))
    found = []
    for name, a, b in pair_names(old, new):
        facts = _check_facts(a), _check_facts(b)
        expectations = only_differing(diff_mapping(_expectations(a), _expectations(b))) if a and b else ()
        change = presence(name, old, new) or (
            Change.SAME if facts[0] == facts[1] and not expectations else Change.CHANGED
        )
        found.append(CheckDiff(name, change, *facts, expectations))
    return tuple(found)


def _check_facts(check: CheckResult | None) -> CheckFacts | None:
    if check is None:
        return None
    n_expectations = len(check.expectations)
    return CheckFacts(check.passed, check.suite_sha256, check.n_rows, n_expectations, check.problems, check.warnings)


def _expectations(check: CheckResult) -> dict[str, Any]:
    return {_describe(each): _finding(each) for each in check.expectations}


def _describe(each: ExpectationResult) -> str:
    arguments = ", ".join(f"{key}={canonical_json(value).decode()}" for key, value in sorted(each.arguments.items()))
    return f"{each.type.removeprefix('expect_')}({arguments})"


def _finding(each: ExpectationResult) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(each)
    return {key: plain[key] for key in ("finding", "severity", "n_unexpected", "observed")}
