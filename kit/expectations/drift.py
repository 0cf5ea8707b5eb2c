"""kit's own expectations: how far a column may have moved from the reference profile that training wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.check import ExpectationResult, Finding
from kit.errors import IntegrityError, KitError, NotFoundError, suggest
from kit.expectations.evaluate import as_error
from kit.files import sha256_bytes
from kit.profile import (
    Profile,
    count_column,
    find_shifts,
    kl_divergence,
    parse_profile,
    population_stability_index,
    to_arrow,
)
from kit.suite import KL_DIVERGENCE, PSI, Expectation

if TYPE_CHECKING:
    import pandas as pd

# Equal distributions differ by chance: with 10 bins and 100 rows by a PSI of 0.09 on average (docs/data-drift.md). Below
# that a limit decides nothing.
LEAST_ROWS = 100

_MEASURES: dict[str, Callable[[Any, Any], float]] = {
    PSI: population_stability_index,
    KL_DIVERGENCE: lambda expected, actual: kl_divergence(actual, expected),
}


def evaluate_drift(
    expectations: Sequence[Expectation], frame: pd.DataFrame, profile: Path | None
) -> tuple[tuple[ExpectationResult, ...], str | msgspec.UnsetType]:
    """Hold columns of a table against a reference profile; without one each expectation is an error.

    Returns:
        One result for each expectation, in order, and the digest of the profile's bytes; unset if none were read.
    """
    if not expectations:
        return (), msgspec.UNSET
    try:
        data = _read(profile)
        reference = parse_profile(data, "the reference profile")
    except KitError as error:
        return tuple(as_error(each, str(error)) for each in expectations), msgspec.UNSET
    return tuple(_evaluate_one(each, frame, reference) for each in expectations), sha256_bytes(data)


def _read(profile: Path | None) -> bytes:
    if profile is None:
        raise NotFoundError(
            "no reference profile is at hand; the stage that trains writes one with kit.profile.write_profile"
        )
    try:
        return profile.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"the reference profile cannot be read ({error.strerror or type(error).__name__})"
        ) from error


def _evaluate_one(expectation: Expectation, frame: pd.DataFrame, profile: Profile) -> ExpectationResult:
    name = expectation.arguments["column"]
    reference = expectation.arguments.get("profile_column", name)
    problem = _find_problem(name, reference, frame, profile)
    if problem:
        return as_error(expectation, problem)
    column = profile.columns[reference]
    try:
        counts = count_column(column, to_arrow(name, frame[name]), name)
    except KitError as error:
        return as_error(expectation, str(error))
    except Exception as error:  # noqa: BLE001 - whatever Arrow raises, the check must fail, and its text may hold values
        return as_error(expectation, f"{type(error).__name__} while column {name!r} was counted")
    distance = _MEASURES[expectation.type](column.expected, counts)
    shifts = find_shifts(column.bins, column.expected, counts)
    return ExpectationResult(
        type=expectation.type,
        arguments=expectation.arguments,
        severity=expectation.severity,
        why=expectation.why,
        finding=Finding.PASSED if distance <= expectation.arguments["max_value"] else Finding.FAILED,
        observed={"value": distance, "moved": [_round(each.bin, each.expected, each.actual) for each in shifts]},
    )


def _find_problem(name: str, reference: str, frame: pd.DataFrame, profile: Profile) -> str:
    """Why the two columns cannot be compared; empty if they can."""
    n_columns = list(frame.columns).count(name)
    if n_columns != 1:
        return f"{n_columns} columns are named {name!r}" if n_columns else f"no column {name!r}"
    if reference not in profile.columns:
        return f"column {reference!r} of the profile{suggest(reference, profile.columns)}"
    for whose, n_rows in (("the table", len(frame)), ("the profile", profile.n_rows)):
        if n_rows < LEAST_ROWS:
            return f"cannot be decided: {whose} has {n_rows} rows, at least {LEAST_ROWS} are needed"
    return ""


def _round(name: str, expected: float, actual: float) -> dict[str, Any]:
    return {"bin": name, "expected": round(expected, 6), "actual": round(actual, 6)}
