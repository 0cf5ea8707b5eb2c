"""A suite file applied to one artifact: a result that holds none of the data's values and never passes for want of any."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kit.check import CheckResult, ExpectationResult
from kit.errors import SuiteError
from kit.expectations.drift import evaluate_drift
from kit.expectations.evaluate import evaluate
from kit.files import sha256_bytes
from kit.suite import Suite, load_suite

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".parquet", ".csv", ".json", ".jsonl")


def check_artifact(
    path: Path, name: str, suite_path: Path, sha256: str | None = None, profile: Path | None = None
) -> CheckResult:
    """Evaluate a suite on an artifact's bytes; never raises for what it finds, never passes for want of evidence.

    Args:
        path: the artifact's file: Parquet, CSV, JSON (a list of objects) or JSON lines.
        name: the artifact's name.
        suite_path: the suite file.
        sha256: digest that the bytes must have; without it they are taken as they are.
        profile: the reference profile that kit's own expectations compare with; without it these are errors.

    Returns:
        The result. Row values are never in it. What went wrong with the check as a whole is in `errors`.
    """
    suite, frame, errors = Suite(suite_path.stem, "", ()), None, []
    digest = ""
    try:
        suite = load_suite(suite_path)
    except SuiteError as error:
        errors.append(str(error))
    try:
        data = path.read_bytes()
        digest = sha256_bytes(data)
        if sha256 is not None and sha256 != digest:
            errors.append(f"{name}: the bytes are not those expected: sha256 {digest}, expected {sha256}")
        frame = _read_frame(data, path.suffix.lower(), name)
    except OSError as error:
        errors.append(f"{name}: the artifact cannot be read ({error.strerror or type(error).__name__})")
    except _UnreadableError as error:
        errors.append(str(error))
    n_rows = 0 if frame is None else len(frame)
    results: tuple[ExpectationResult, ...] = ()
    profile_sha256: str | msgspec.UnsetType = msgspec.UNSET
    if frame is not None and n_rows == 0:
        errors.append(f"{name}: the artifact has no rows; nothing was checked")
    if not errors and frame is not None:
        results, profile_sha256 = _evaluate_in_order(suite, frame, profile)
        if len(results) != len(suite.expectations):
            errors.append(f"{len(suite.expectations)} expectations, but {len(results)} results")
    return CheckResult(name, digest, suite.name, suite.sha256, n_rows, results, tuple(errors), profile_sha256)


def _evaluate_in_order(
    suite: Suite, frame: pd.DataFrame, profile: Path | None
) -> tuple[tuple[ExpectationResult, ...], str | msgspec.UnsetType]:
    """Results of both kinds in the suite's order, as many as there are; and the digest of the profile, if one was read."""
    drift, digest = evaluate_drift([each for each in suite.expectations if each.needs_profile], frame, profile)
    own, others = iter(drift), iter(evaluate([each for each in suite.expectations if not each.needs_profile], frame))
    merged = [next(own if each.needs_profile else others, None) for each in suite.expectations]
    return tuple(result for result in (*merged, *own, *others) if result is not None), digest


class _UnreadableError(Exception):
    """The artifact's bytes are no table that can be checked; the message holds none of them."""


def _read_frame(data: bytes, suffix: str, name: str) -> pd.DataFrame:
    if suffix not in FORMATS:
        raise _UnreadableError(f"{name}: only {', '.join(FORMATS)} files can be checked")
    from kit import standins

    standins.install()
    import pandas as pd

    try:
        if suffix == ".parquet":
            return pd.read_parquet(io.BytesIO(data))
        if suffix == ".csv":
            return pd.read_csv(io.BytesIO(data), low_memory=False)
        lines = data.splitlines()
        rows = [json.loads(line) for line in lines if line.strip()] if suffix == ".jsonl" else json.loads(data)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _UnreadableError(f"{name}: expected a list of objects")
        return pd.DataFrame(rows)
    except _UnreadableError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a parser raises, the check must fail, not the stage's cell
        kind = type(error).__name__
        raise _UnreadableError(
            f"{name}: no readable {suffix[1:]} file ({kind}); the stage must write a table"
        ) from None
