import pytest

from kit.check import CheckResult, ExpectationResult, Finding, Severity, describe_expectation


def make_result(finding=Finding.PASSED, severity=Severity.CRITICAL, **more):
    arguments = more.pop("arguments", {"column": "hour"})
    return ExpectationResult("expect_it", arguments, severity, "why", finding, **more)


def make_check(*expectations, n_rows=5, errors=()):
    return CheckResult("a.parquet", "1" * 64, "a", "2" * 64, n_rows, expectations, errors)


def test_check_whose_critical_expectations_are_met_passes():
    check = make_check(make_result(), make_result(Finding.FAILED, Severity.WARNING, n_unexpected=2))
    assert (check.passed, check.problems) == (True, ())
    assert check.warnings == ("expect_it on hour: 2 rows are not as expected",)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (make_check(), "no expectation was evaluated"),
        (make_check(make_result(), n_rows=0), "there were no rows to check"),
        (make_check(make_result(), n_rows=-1), "there were no rows to check"),
        (make_check(make_result(), errors=("the suite is unreadable",)), "the suite is unreadable"),
        (make_check(make_result(Finding.FAILED, observed=3)), "expect_it on hour: failed, observed 3"),
        (make_check(make_result(Finding.ERROR)), "expect_it on hour: error: not evaluated"),
        (
            make_check(make_result(), make_result(Finding.ERROR, Severity.WARNING, error="no such column")),
            "expect_it on hour: error: no such column",
        ),
    ],
)
def test_whatever_was_not_checked_is_a_problem(check, problem):
    assert (check.passed, check.problems, check.warnings) == (False, (problem,), ())


@pytest.mark.parametrize(("arguments", "target"), [({}, ""), ({"column_list": ["a", "b"]}, " on ['a', 'b']")])
def test_description_names_the_columns(arguments, target):
    assert describe_expectation(make_result(arguments=arguments)) == f"expect_it{target}: passed"
