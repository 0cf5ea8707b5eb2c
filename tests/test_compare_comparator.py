import pytest

from kit.compare import Comparator, Kind, parse_comparators, read_comparators
from kit.compare.comparator import comparator_of, metric_comparator
from kit.errors import ProjectError, UnknownNameError

DECLARED = b"""
[tool.kit]
name = "example"

[tool.kit.compare]
"predictions.parquet" = { kind = "table", rtol = 1e-6 }
"metrics.json" = { kind = "json" }
"metrics.auc" = { kind = "metric", atol = 1e-6, reason = "another processor" }
"cells.timing" = { kind = "ignore", reason = "prints how long it took" }
"""


def test_declared_comparators_are_read_from_pyproject():
    assert read_comparators(DECLARED) == {
        "predictions.parquet": Comparator(Kind.TABLE, rtol=1e-6),
        "metrics.json": Comparator(Kind.JSON),
        "metrics.auc": Comparator(Kind.METRIC, atol=1e-6, reason="another processor"),
        "cells.timing": Comparator(Kind.IGNORE, reason="prints how long it took"),
    }


@pytest.mark.parametrize("text", [b"", b"[tool.kit]", b"[project]\nname = 'x'", b"tool = 3"])
def test_project_without_comparators_has_none(text):
    assert read_comparators(text) == {}


@pytest.mark.parametrize("text", [b"[", b"\xff", b"[tool.kit]\ncompare = 3"])
def test_unreadable_pyproject_is_a_project_error(text):
    with pytest.raises(ProjectError, match=r"^archived pyproject\.toml"):
        read_comparators(text, "archived pyproject.toml")


@pytest.mark.parametrize(
    ("subject", "value", "reason"),
    [
        ("a", "bytes", "expected a table such as"),
        ("a", {}, "has no kind; expected one of bytes, json"),
        ("metrics", {"auc": {"kind": "metric"}}, 'needs quotes: "metrics.auc"'),
        ("a", {"kind": "tabel"}, "'tabel' does not exist; did you mean 'table'"),
        ("a", {"kind": 3}, "kind 3 is no text"),
        ("a", {"kind": "table", "rtoll": 1}, "'rtoll' .* did you mean 'rtol'"),
        ("a", {"kind": "bytes", "rtol": 1}, "key 'rtol' of a comparator of kind 'bytes'"),
        ("a", {"kind": "image", "rtol": 1}, "key 'rtol' of a comparator of kind 'image'"),
        ("a", {"kind": "table", "rtol": -1}, "rtol must be a finite number, 0 or more, found -1"),
        ("a", {"kind": "table", "rtol": True}, "rtol must be a finite number"),
        ("a", {"kind": "table", "atol": "1"}, "atol must be a finite number"),
        ("a", {"kind": "table", "atol": float("nan")}, "atol must be a finite number"),
        ("a", {"kind": "table", "atol": float("inf")}, "atol must be a finite number"),
        ("a", {"kind": "ignore"}, "expected the reason in a few words, found ''"),
        ("a", {"kind": "ignore", "reason": "  "}, "expected the reason"),
        ("a", {"kind": "ignore", "reason": 3}, "expected the reason"),
        ("auc", {"kind": "metric"}, "a metric is named 'metrics.<name>'"),
        ("cells.a", {"kind": "table"}, "a cell is compared by bytes, image"),
    ],
)
def test_wrong_declaration_says_what_is_wrong_and_where(subject, value, reason):
    with pytest.raises(ProjectError, match=rf"pyproject\.toml, \[tool\.kit\.compare\], '{subject}'.*{reason}"):
        parse_comparators({subject: value})


def test_unknown_subject_suggests_the_nearest_one():
    known = ["predictions.parquet", "metrics.auc"]
    with pytest.raises(UnknownNameError, match=r"'metrics\.acu' does not exist; did you mean 'metrics\.auc'"):
        parse_comparators({"metrics.acu": {"kind": "metric"}}, known=known)
    assert parse_comparators({"metrics.auc": {"kind": "metric"}}, known=known)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "table"), ("A.PARQUET", "table"), ("a.json", "json"), ("a.keras", "tensors"), ("a.npy", "tensors"),
        ("a.npz", "tensors"), ("a.png", "image"), ("a.txt", "bytes"), ("a", "bytes"), (".json", "bytes"),
    ],
)  # fmt: skip
def test_type_chooses_the_comparator(name, kind):
    assert comparator_of(name) == Comparator(Kind(kind))


def test_file_named_like_a_metric_leaves_the_metric_alone():
    declared = read_comparators(DECLARED)
    assert metric_comparator("json", declared) == Comparator(Kind.METRIC)
    assert metric_comparator("auc", declared).atol == 1e-6


@pytest.mark.parametrize(
    ("comparator", "text"),
    [
        (Comparator(Kind.BYTES), "bytes"),
        (Comparator(Kind.TABLE, 1e-6, 0.5), "table(rtol=1e-06, atol=0.5)"),
        (Comparator(Kind.IGNORE, reason="random"), "ignore(random)"),
    ],
)
def test_comparator_reads_as_it_is_declared(comparator, text):
    assert str(comparator) == text
