"""The gate as values: limits on metrics, verdicts, and what a release pins."""

import math
from typing import Any

import msgspec
import pytest

from kit.environment import MetricLimits
from kit.errors import IntegrityError
from kit.gate import Evidence, Finding, Manifest, Verdict, decode_manifest, judge_bounds, judge_drop
from kit.testing import make_manifest

HOLDS = Evidence("metric", "auc", Finding.HOLDS, "fine")
REFUSES = Evidence("metric", "auc", Finding.REFUSES, "too low")
NOTED = Evidence("metric", "auc", Finding.NOTED, "no live release")


def verdict(*evidence: Evidence) -> Verdict:
    return Verdict("dev", "0" * 64, {}, evidence)


def manifest() -> Manifest:
    return make_manifest(verdict(HOLDS), metrics={"auc": 0.7})


@pytest.mark.parametrize(
    ("value", "limits", "sentence"),
    [
        (None, MetricLimits(min=0.5), "missing"),
        ("NaN", MetricLimits(min=0.5), "is no finite number: NaN"),
        (math.nan, MetricLimits(min=0.5), "is no finite number: nan"),
        (math.inf, MetricLimits(min=0.5), "is no finite number: inf"),
        ("0.9", MetricLimits(min=0.5), "is no finite number"),
        (True, MetricLimits(min=0.5), "is no finite number"),
        (0.49, MetricLimits(min=0.5), "below the limit: 0.49, at least 0.5"),
        (0.81, MetricLimits(max=0.8), "above the limit: 0.81, at most 0.8"),
        (0.6, MetricLimits(), "sets no limit"),
    ],
)
def test_metric_is_refused(value: Any, limits: MetricLimits, sentence: str) -> None:
    found = judge_bounds("auc", value, limits)
    assert [each.finding for each in found] == [Finding.REFUSES]
    assert sentence in found[0].detail


@pytest.mark.parametrize("value", [0.5, 0.8, 0.65])
def test_metric_within_both_bounds_holds(value: float) -> None:
    found = judge_bounds("auc", value, MetricLimits(min=0.5, max=0.8))
    assert [each.finding for each in found] == [Finding.HOLDS] * 2


@pytest.mark.parametrize(
    ("name", "live", "finding", "detail"),
    [
        ("auc", 0.71, Finding.HOLDS, "0.7, dev-3 has 0.71, may drop by 0.015"),
        ("auc", 0.72, Finding.REFUSES, "dropped too far: 0.7, dev-3 has 0.72, may drop by 0.015"),
        ("auc", 0.1, Finding.HOLDS, "0.7, dev-3 has 0.1, may drop by 0.015"),
        ("gini", 0.72, Finding.REFUSES, "dropped too far: 0.7, dev-3 has 0.72, may drop by 0.015"),
        ("brier", 0.69, Finding.HOLDS, "0.7, dev-3 has 0.69, may rise by 0.015"),
        ("brier", 0.68, Finding.REFUSES, "rose too far: 0.7, dev-3 has 0.68, may rise by 0.015"),
        ("brier", 0.99, Finding.HOLDS, "0.7, dev-3 has 0.99, may rise by 0.015"),
    ],
)
def test_metric_is_held_against_what_is_live(name: str, live: float, finding: Finding, detail: str) -> None:
    assert judge_drop(name, 0.7, 0.015, live, "dev-3") == Evidence("drop", name, finding, detail)


@pytest.mark.parametrize(("name", "live"), [("auc", 0.71), ("rmse", 0.69)])
def test_metric_that_is_worse_by_exactly_what_is_allowed_holds(name: str, live: float) -> None:
    assert judge_drop(name, 0.7, 0.01, live, "dev-3").finding is Finding.HOLDS


def test_metric_with_a_limit_on_its_drop_alone_has_no_bounds() -> None:
    assert judge_bounds("auc", 0.7, MetricLimits(max_drop=0.01)) == []


def test_verdict_passes_only_if_something_holds_and_nothing_refuses() -> None:
    assert verdict(HOLDS, NOTED).passed
    assert verdict(HOLDS, REFUSES).reasons == ("metric auc: too low",)
    assert verdict().reasons == ("nothing was checked",)
    assert verdict(NOTED).reasons == ("nothing was checked",)


def test_manifest_reads_back_and_its_digest_is_that_of_its_bytes() -> None:
    assert decode_manifest(manifest().encode(), "release dev-1") == manifest()


def test_manifest_with_another_configuration_than_its_digest_names_is_refused() -> None:
    changed = msgspec.structs.replace(manifest(), configuration={"name": "dev"})
    with pytest.raises(IntegrityError, match="release dev-1: the frozen configuration"):
        decode_manifest(changed.encode(), "release dev-1")
    with pytest.raises(IntegrityError, match="not a readable release"):
        decode_manifest(b"{}", "release dev-1")
