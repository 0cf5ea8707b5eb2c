"""Checks as values: an expectation suite's verdict on exactly one artifact, without the data's own values."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class Severity(enum.StrEnum):
    """What a failed expectation means: `critical` fails the stage, `warning` is recorded and shown."""

    CRITICAL = "critical"
    WARNING = "warning"


class Finding(enum.StrEnum):
    """How one expectation ended. `ERROR`: it could not be evaluated, which counts as failed."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


class ExpectationResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One expectation's result.

    Attributes:
        type: Great Expectations' name, `expect_column_values_to_be_between`, or kit's own, `expect_column_psi_to_be_at_most`.
        arguments: the expectation's arguments as the suite has them.
        severity: `critical` or `warning`.
        why: the suite's reason for this expectation (`meta.why`).
        finding: passed, failed or error.
        n_unexpected: how many rows broke it; None for expectations over a whole column or table.
        observed: the observed aggregate (a count, a mean, column names), never a row's values; of kit's own expectations
            {value, moved: [{bin, expected, actual}, …]}, bins by position and shares of the rows.
        error: why it could not be evaluated.
    """

    type: str
    arguments: dict[str, Any]
    severity: Severity
    why: str
    finding: Finding
    n_unexpected: int | None = None
    observed: Any = None
    error: str = ""


class CheckResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expectation suite applied to an artifact.

    Attributes:
        artifact: its name.
        artifact_sha256: digest of the bytes that were checked.
        suite: the suite's name.
        suite_sha256: digest of the suite file.
        n_rows: rows that were checked.
        expectations: one result for each expectation of the suite, in its order.
        errors: why the check as a whole cannot count as passed (empty suite, empty data, dropped expectation, exception).
        profile_sha256: digest of the reference profile; unset, and not in the JSON, if the suite needs none. (It came
            later: older records keep their bytes.)
    """

    artifact: str
    artifact_sha256: str
    suite: str
    suite_sha256: str
    n_rows: int
    expectations: tuple[ExpectationResult, ...]
    errors: tuple[str, ...] = ()
    profile_sha256: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def problems(self) -> tuple[str, ...]:
        """Why this check did not pass; empty if it did. Fails closed: nothing checked is a problem."""
        found = list(self.errors)
        if not self.expectations:
            found.append("no expectation was evaluated")
        if self.n_rows <= 0:
            found.append("there were no rows to check")
        found += [
            describe_expectation(result)
            for result in self.expectations
            if result.finding is Finding.ERROR
            or (result.severity is Severity.CRITICAL and result.finding is Finding.FAILED)
        ]
        return tuple(found)

    @property
    def passed(self) -> bool:
        """True if rows were checked, every expectation was evaluated, and every critical one met."""
        return not self.problems

    @property
    def warnings(self) -> tuple[str, ...]:
        """What `warning` expectations found; one that could not be evaluated is a problem instead."""
        return tuple(
            describe_expectation(result)
            for result in self.expectations
            if result.severity is Severity.WARNING and result.finding is Finding.FAILED
        )


def describe_expectation(result: ExpectationResult) -> str:
    """One sentence on a result: what was expected, of which column, what was found."""
    columns = result.arguments.get("column") or result.arguments.get("column_list") or ""
    target = f" on {columns}" if columns else ""
    if result.finding is Finding.ERROR:
        return f"{result.type}{target}: error: {result.error or 'not evaluated'}"
    if result.n_unexpected:
        return f"{result.type}{target}: {result.n_unexpected} rows are not as expected"
    return f"{result.type}{target}: {result.finding}" + (
        f", observed {_describe_observed(result)}" if result.observed is not None else ""
    )


def _describe_observed(result: ExpectationResult) -> str:
    if not isinstance(result.observed, dict) or "moved" not in result.observed:
        return str(result.observed)
    moved = (f"{each['bin']} from {each['expected']:.1%} to {each['actual']:.1%}" for each in result.observed["moved"])
    distance = f"{result.observed['value']:.4g}, at most {result.arguments.get('max_value')}"
    return f"{distance} ({'; '.join(moved) or 'nothing moved'})"
