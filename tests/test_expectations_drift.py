"""kit's own expectations beside Great Expectations': in order, counted, failing closed, without row values."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from kit.check import CheckResult, ExpectationResult, Finding, describe_expectation
from kit.errors import UndecidableError
from kit.expectations import CheckRequest, check_artifact, check_in_process
from kit.expectations.drift import evaluate_drift
from kit.files import canonical_json, sha256_file
from kit.profile import write_profile
from kit.suite import KL_DIVERGENCE, PSI, Expectation, Severity

ROW_COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"why": "some"}}
SECRET = "4929-1234-5678"


def own(kind: str = PSI, max_value: float = 0.2, **arguments: Any) -> Expectation:
    return Expectation(kind, {"column": "x", "max_value": max_value, **arguments}, Severity.CRITICAL, "as trained")


def make_profile(folder: Path, n_rows: int = 1000, **columns: Any) -> Path:
    table = pd.DataFrame(columns or {"x": ["a", "b"] * (n_rows // 2)})
    write_profile(folder / "profile.json", table)
    return folder / "profile.json"


def evaluate(frame: pd.DataFrame, profile: Path | None, *expectations: Expectation) -> tuple[ExpectationResult, ...]:
    return evaluate_drift(expectations or (own(),), frame, profile)[0]


def test_distance_within_the_limit_passes_and_beyond_it_fails_with_the_bins_that_moved(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": ["a"] * 100 + ["b"] * 100 + [SECRET] * 50})
    limits = own(), own(KL_DIVERGENCE), own(max_value=9)
    results = evaluate(frame, make_profile(tmp_path), *limits)
    moved = [
        {"bin": "others", "expected": 0.0, "actual": 0.2},
        {"bin": "label 1 of 2", "expected": 0.5, "actual": 0.4},
        {"bin": "label 2 of 2", "expected": 0.5, "actual": 0.4},
    ]
    assert [each.finding for each in results] == [Finding.FAILED, Finding.FAILED, Finding.PASSED]
    assert all(each.observed["moved"] == moved for each in results)
    psi, divergence, _ = (each.observed["value"] for each in results)
    assert (round(psi, 3), round(divergence, 3)) == (1.246, 1.025)
    assert SECRET not in repr(results)
    assert describe_expectation(results[0]) == (
        f"{PSI} on x: failed, observed 1.246, at most 0.2 (others from 0.0% to 20.0%; label 1 of 2 from 50.0% to 40.0%; "
        f"label 2 of 2 from 50.0% to 40.0%)"
    )


def test_table_like_the_reference_has_no_distance(tmp_path: Path) -> None:
    (result,) = evaluate(pd.DataFrame({"x": ["b", "a"] * 60}), make_profile(tmp_path))
    assert (result.finding, result.observed) == (Finding.PASSED, {"value": 0.0, "moved": []})
    assert describe_expectation(result) == f"{PSI} on x: passed, observed 0, at most 0.2 (nothing moved)"


def test_share_of_missing_values_counts(tmp_path: Path) -> None:
    (result,) = evaluate(pd.DataFrame({"x": ["a", "b", None, None] * 50}), make_profile(tmp_path))
    assert result.observed["moved"][0] == {"bin": "missing", "expected": 0.0, "actual": 0.5}
    assert result.finding is Finding.FAILED


def test_column_may_have_another_name_in_the_profile(tmp_path: Path) -> None:
    frame = pd.DataFrame({"other": ["a", "b"] * 50})
    (result,) = evaluate(frame, make_profile(tmp_path), own(column="other", profile_column="x"))
    assert result.finding is Finding.PASSED


MANY = pd.DataFrame({"x": ["a", "b"] * 50})


@pytest.mark.parametrize(
    ("frame", "profile", "expectation", "error"),
    [
        (MANY, None, own(), "no reference profile is at hand; the stage that trains writes one"),
        (MANY, "gone.json", own(), "the reference profile cannot be read (No such file or directory)"),
        (MANY, ".", own(), "the reference profile cannot be read (Is a directory)"),
        (MANY, "broken.json", own(), "the reference profile: not readable as a reference profile"),
        (MANY, "profile.json", own(column="y"), "no column 'y'"),
        (
            MANY,
            "profile.json",
            own(profile_column="xx"),
            "column 'xx' of the profile does not exist; did you mean 'x'?",
        ),
        (MANY[:99], "profile.json", own(), "cannot be decided: the table has 99 rows, at least 100 are needed"),
        (MANY, "small.json", own(), "cannot be decided: the profile has 99 rows, at least 100 are needed"),
        (MANY.assign(x=1), "profile.json", own(), "column 'x' is int64; the reference profile has texts"),
        (MANY.assign(x=[SECRET, 1] * 50), "profile.json", own(), "column 'x' (object) holds values of several kinds"),
        (MANY.assign(x=[[SECRET]] * 100), "profile.json", own(), "column 'x' is list"),
        (pd.concat([MANY, MANY], axis=1), "profile.json", own(), "2 columns are named 'x'"),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    tmp_path: Path, frame: pd.DataFrame, profile: str | None, expectation: Expectation, error: str
) -> None:
    make_profile(tmp_path)
    write_profile(tmp_path / "small.json", pd.DataFrame({"x": ["a"] * 99}))
    (tmp_path / "broken.json").write_text("{")
    (result,) = evaluate(frame, None if profile is None else tmp_path / profile, expectation)
    assert result.finding is Finding.ERROR
    assert error in result.error
    assert SECRET not in repr(result)
    check = CheckResult("a", "", "s", "", len(frame), (result,))
    assert not check.passed


def test_check_without_own_expectations_has_the_bytes_that_it_always_had() -> None:
    check = CheckResult("a", "1", "s", "2", 3, (), ("no",))
    assert canonical_json(msgspec.to_builtins(check)) == (
        b'{"artifact":"a","artifact_sha256":"1","errors":["no"],"expectations":[],"n_rows":3,"suite":"s","suite_sha256":"2"}'
    )
    with_profile = msgspec.structs.replace(check, profile_sha256="3")
    assert msgspec.convert(msgspec.to_builtins(with_profile), CheckResult) == with_profile
    assert b'"profile_sha256":"3"' in canonical_json(msgspec.to_builtins(with_profile))


def make_case(folder: Path, *expectations: dict[str, Any]) -> tuple[Path, Path]:
    """A table of 200 rows and its suite."""
    pd.DataFrame({"x": ["a", "b"] * 100, "y": range(200)}).to_parquet(folder / "t.parquet")
    (folder / "t.json").write_text(json.dumps({"name": "t", "expectations": expectations}))
    return folder / "t.parquet", folder / "t.json"


def item(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {"why": "because"}}


@pytest.mark.kernel
def test_both_kinds_stand_in_the_order_of_the_suite_and_the_profile_is_named(tmp_path: Path) -> None:
    kinds = [PSI, ROW_COUNT["type"], "expect_column_values_to_be_unique", KL_DIVERGENCE]
    table, suite = make_case(
        tmp_path,
        item(PSI, column="x", max_value=0.1),
        ROW_COUNT,
        item("expect_column_values_to_be_unique", column="y"),
        item(KL_DIVERGENCE, column="x", max_value=0.1),
    )
    profile = make_profile(tmp_path)
    result = check_artifact(table, "t.parquet", suite, sha256_file(table), profile)
    assert result.passed
    assert [each.type for each in result.expectations] == kinds
    assert result.profile_sha256 == sha256_file(profile)
    without = check_artifact(table, "t.parquet", suite)
    assert [each.finding for each in without.expectations] == [
        Finding.ERROR,
        Finding.PASSED,
        Finding.PASSED,
        Finding.ERROR,
    ]
    assert without.profile_sha256 is msgspec.UNSET
    plain = check_artifact(*make_case(tmp_path, ROW_COUNT)[:1], "t.parquet", suite, profile=profile)
    assert (plain.passed, plain.profile_sha256) == (True, msgspec.UNSET)


@pytest.mark.kernel
def test_fresh_process_answers_all_requests_in_order(tmp_path: Path) -> None:
    table, suite = make_case(tmp_path, ROW_COUNT, item(PSI, column="x", max_value=0.1))
    profile = make_profile(tmp_path)
    good = CheckRequest(str(table), "t.parquet", str(suite), sha256_file(table), str(profile))
    gone = CheckRequest(str(tmp_path / "u.parquet"), "u.parquet", str(suite), "0" * 64)
    first, second, third = check_in_process([good, gone, good])
    assert (first.passed, second.passed, third) == (True, False, first)
    assert first == check_artifact(table, "t.parquet", suite, profile=profile)
    assert second.errors == ("u.parquet: the artifact cannot be read (No such file or directory)",)


def test_process_that_takes_too_long_decides_nothing() -> None:
    with pytest.raises(UndecidableError, match=r"the checking process gave no answer in 0\.001 s"):
        check_in_process([], timeout_s=0.001)


def test_process_that_dies_decides_nothing(tmp_path: Path) -> None:
    request = CheckRequest("\0", "a", "\0", "0")
    with pytest.raises(UndecidableError, match="the checking process ended with 1 and no answer: ValueError"):
        check_in_process([request])
