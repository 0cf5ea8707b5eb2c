"""Great Expectations, failing closed: each expectation's result on a table, without the data's values.

Great Expectations passes an empty suite and an empty table, drops an expectation whose type it does not know, and puts
row values into results and messages. So suites are parsed strictly (`kit.suite`), expectations are evaluated one by
one, and everything that is not a clear pass becomes an error in the result. Only this module imports great_expectations.
"""

from __future__ import annotations

import builtins
import math
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kit.check import ExpectationResult, Finding
from kit.suite import Expectation

if TYPE_CHECKING:
    import pandas as pd

_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")

# What an expectation observed is kept only where it cannot be a row's value: counts, fractions, names of columns and
# types; means only over enough rows. Minimum, maximum, median, quantiles and sets of values are row values.
_OBSERVES_COUNTS = re.compile(r"expect_(table_(row|column)_count|column_unique_value_count|column_proportion)_")
_OBSERVES_MEANS = re.compile(r"expect_column_(mean|stdev|sum)_to_be_between")
_OBSERVES_COLUMNS = re.compile(r"expect_table_columns_to_match_")
_LEAST_ROWS_OF_A_MEAN = 10


def evaluate(expectations: Sequence[Expectation], frame: pd.DataFrame) -> tuple[ExpectationResult, ...]:
    """Evaluate Great Expectations' own expectations; one result for each, in order."""
    with warnings.catch_warnings():
        # deprecations inside Great Expectations must not decide a check where warnings are errors
        warnings.simplefilter("ignore")
        try:
            batch, find_type = _open_batch(frame)
        except Exception as error:  # noqa: BLE001 - fails closed: each expectation is reported as not evaluated
            reason = f"Great Expectations did not start ({type(error).__name__})"
            return tuple(as_error(expectation, reason) for expectation in expectations)
        return tuple(_evaluate_one(expectation, frame, batch, find_type) for expectation in expectations)


def _open_batch(frame: pd.DataFrame) -> tuple[Any, Any]:
    """The frame as a batch of an ephemeral context: no gx folder, no progress bars, no analytics."""
    from kit import standins

    standins.install()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.registry import get_expectation_impl

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("kit").add_dataframe_asset("artifact")
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame}), get_expectation_impl


def _evaluate_one(expectation: Expectation, frame: pd.DataFrame, batch: Any, find_type: Any) -> ExpectationResult:
    missing = [column for column in _columns(expectation.arguments) if column not in frame.columns]
    if missing and expectation.type != "expect_column_to_exist":
        return as_error(expectation, f"no column {', '.join(map(repr, missing))}")
    try:
        instance = find_type(expectation.type)(**expectation.arguments)
    except Exception as error:  # noqa: BLE001 - arguments are the suite's, so their message may be shown
        return as_error(expectation, "its arguments are not accepted: " + " ".join(str(error).split()))
    try:
        answer = batch.validate(instance, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
        return _translate(expectation, answer, frame)
    except Exception as error:  # noqa: BLE001 - an exception in a check is a finding, and its text may hold row values
        return as_error(expectation, _describe_exception(type(error).__name__, expectation, frame))


def _translate(expectation: Expectation, answer: Any, frame: pd.DataFrame) -> ExpectationResult:
    raised = _exception_in(answer.exception_info)
    if raised is not None:
        return as_error(expectation, _describe_exception(raised, expectation, frame))
    if not isinstance(answer.success, bool):
        return as_error(expectation, "Great Expectations gave no verdict")
    result = answer.result
    n_elements, n_missing = result.get("element_count"), result.get("missing_count", 0)
    if n_elements is not None and n_elements - n_missing <= 0 and not expectation.type.endswith("_be_null"):
        return as_error(expectation, "nothing was evaluated: all values are missing or no row is selected")
    return ExpectationResult(
        type=expectation.type,
        arguments=expectation.arguments,
        severity=expectation.severity,
        why=expectation.why,
        finding=Finding.PASSED if answer.success else Finding.FAILED,
        n_unexpected=None if result.get("unexpected_count") is None else int(result["unexpected_count"]),
        observed=_observed(expectation, result.get("observed_value"), frame),
    )


def _observed(expectation: Expectation, value: Any, frame: pd.DataFrame) -> Any:
    """What was observed, where it cannot be a row's value, else None."""
    kind, arguments = expectation.type, expectation.arguments
    if _OBSERVES_COUNTS.match(kind):
        return _plain_number(value)
    if _OBSERVES_MEANS.match(kind) and arguments.get("row_condition") is None:
        enough = int(frame[arguments["column"]].count()) >= _LEAST_ROWS_OF_A_MEAN
        return _plain_number(value) if enough else None
    if _OBSERVES_COLUMNS.match(kind):
        return [str(column) for column in frame.columns]
    return None


def _plain_number(value: Any) -> int | float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and not isinstance(value, float) else number


def _exception_in(info: Mapping[str, Any]) -> str | None:
    """The exception's type if Great Expectations caught one; its message may hold row values and is left out."""
    details = [info] if "raised_exception" in info else [d for d in info.values() if isinstance(d, dict)]
    for detail in details:
        if detail.get("raised_exception"):
            last = (detail.get("exception_traceback") or "").strip().rsplit("\n", 1)[-1]
            return _exception_name(last.partition(":")[0].strip())
    return None


def _exception_name(text: str) -> str:
    """The text if it names an exception that exists, so that no line of a message can pass for one."""
    module, _, name = text.rpartition(".")
    found = getattr(sys.modules.get(module) if module else builtins, name, None)
    return name if isinstance(found, type) and issubclass(found, BaseException) else "an exception"


def _describe_exception(kind: str, expectation: Expectation, frame: pd.DataFrame) -> str:
    types = ", ".join(f"{column!r} is {frame[column].dtype}" for column in _columns(expectation.arguments))
    return f"{kind} while it was evaluated" + (f" ({types})" if types else "")


def _columns(arguments: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key in _COLUMN_ARGUMENTS:
        value = arguments.get(key)
        found += [value] if isinstance(value, str) else [v for v in value or () if isinstance(v, str)]
    return found


def as_error(expectation: Expectation, reason: str) -> ExpectationResult:
    """The result of an expectation that could not be evaluated, which counts as failed."""
    return ExpectationResult(
        type=expectation.type,
        arguments=expectation.arguments,
        severity=expectation.severity,
        why=expectation.why,
        finding=Finding.ERROR,
        error=reason,
    )
