"""Suites with kit's own expectations: as strict as with Great Expectations', and told apart from them."""

import json
from typing import Any

import pytest

from kit.check import Severity
from kit.errors import SuiteError
from kit.suite import DRIFT_TYPES, KL_DIVERGENCE, PSI, Suite, known_types, parse_suite

ROW_COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"why": "some"}}


def drift(kind: Any = PSI, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "severity": severity, "meta": {"why": "it was trained on such"}}


def parse(*expectations: dict[str, Any]) -> Suite:
    return parse_suite(json.dumps({"name": "s", "expectations": expectations}).encode(), "s.json")


@pytest.mark.parametrize("kind", DRIFT_TYPES)
def test_own_expectation_is_read_as_written_and_needs_a_profile(kind: str) -> None:
    arguments = {"column": "p_late", "max_value": 0.2, "profile_column": "score"}
    suite = parse(ROW_COUNT, drift(kind, "warning", **arguments))
    assert [each.needs_profile for each in suite.expectations] == [False, True]
    own = suite.expectations[1]
    assert (own.type, own.arguments, own.severity) == (kind, arguments, Severity.WARNING)
    assert (suite.needs_profile, parse(ROW_COUNT).needs_profile) == (True, False)


@pytest.mark.parametrize("kind", [PSI, KL_DIVERGENCE])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'column' is missing"),
        ({"column": "a"}, "'max_value' is missing"),
        ({"max_value": 1}, "'column' is missing"),
        ({"column": 1, "max_value": 1}, "'column' must be a column's name, found 1"),
        ({"column": "", "max_value": 1}, "'column' must be a column's name, found ''"),
        ({"column": "a", "max_value": 0}, "'max_value' must be a finite number above 0, found 0"),
        ({"column": "a", "max_value": -1}, "must be a finite number above 0"),
        ({"column": "a", "max_value": True}, "must be a finite number above 0"),
        ({"column": "a", "max_value": "1"}, "must be a finite number above 0"),
        ({"column": "a", "max_value": None}, "must be a finite number above 0"),
        ({"column": "a", "max_value": float("inf")}, "must be a finite number above 0"),
        ({"column": "a", "max_value": float("nan")}, "must be a finite number above 0"),
        ({"column": "a", "max_value": 1, "profile_column": None}, "'profile_column' must be a column's name"),
        ({"column": "a", "max_valu": 1}, "key 'max_valu' does not exist; did you mean 'max_value'"),
        ({"column": "a", "max_value": 1, "mostly": 0.9}, "key 'mostly' does not exist"),
    ],
)
def test_own_expectation_that_could_not_fail_or_be_evaluated_is_refused(
    kind: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SuiteError, match=rf"^s\.json, expectation 2 \({kind}\): .*{message}"):
        parse(ROW_COUNT, drift(kind, **arguments))


def test_misspelt_own_type_is_told_its_name() -> None:
    with pytest.raises(SuiteError, match=f"did you mean '{PSI}'"):
        parse(ROW_COUNT, drift("expect_column_psi_to_be_atmost", column="a", max_value=1))


def test_own_expectations_alone_do_not_replace_the_row_count() -> None:
    with pytest.raises(SuiteError, match="no critical row count"):
        parse(drift(column="a", max_value=1))


def test_own_types_are_not_great_expectations() -> None:
    assert not set(DRIFT_TYPES) & set(known_types())
