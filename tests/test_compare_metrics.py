import pytest

from kit.compare import Agreement, Comparator, Kind, compare_metrics

TOLERANT = {"metrics.auc": Comparator(Kind.METRIC, atol=1e-6)}


@pytest.mark.parametrize(
    ("before", "after", "agreement", "detail"),
    [
        (0.72, 0.72, "identical", ""),
        (0.7231, 0.7232, "different", "0.7232, was 0.7231: 0.0001 away (relative 0.000138)"),
        (3, 3.0, "equal", "3.0, was 3"),
        (1, True, "different", "True, was 1"),
        ("small", "large", "different", "'large', was 'small'"),
        ("NaN", "NaN", "identical", ""),
        ("NaN", 0.7, "different", "0.7, was 'NaN'"),
        (2**60, 2**60 + 1, "different", "1152921504606846977, was 1152921504606846976: 1 away (relative 8.67e-19)"),
        (0, 1e-9, "different", "1e-09, was 0: 1e-09 away (relative inf)"),
    ],
)
def test_metric_is_compared_by_value_and_type(before, after, agreement, detail):
    (found,) = compare_metrics({"auc": before}, {"auc": after}, {})
    assert (found.subject, found.comparator, found.agreement, found.detail) == (
        "metrics.auc", "metric", agreement, detail,
    )  # fmt: skip


@pytest.mark.parametrize(("after", "holds"), [(0.7200005, True), (0.72001, False), ("0.72", False)])
def test_metric_may_differ_within_its_tolerance(after, holds):
    (found,) = compare_metrics({"auc": 0.72}, {"auc": after}, TOLERANT)
    assert (found.holds, found.comparator) == (holds, "metric(atol=1e-06)")


def test_missing_and_extra_metrics_differ():
    found = compare_metrics({"a": 1, "b": 2}, {"b": 2, "c": 3}, {})
    assert [(each.subject, each.agreement, each.detail) for each in found] == [
        ("metrics.a", Agreement.DIFFERENT, "missing, was 1"),
        ("metrics.b", Agreement.IDENTICAL, ""),
        ("metrics.c", Agreement.DIFFERENT, "3, was not there"),
    ]


def test_ignored_metric_says_why():
    declared = {"metrics.seconds": Comparator(Kind.IGNORE, reason="a duration")}
    assert [each.agreement for each in compare_metrics({"seconds": 1}, {}, declared)] == [Agreement.IGNORED]
    assert compare_metrics({}, {}, declared) == ()
