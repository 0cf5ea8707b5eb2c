"""Scoring a candidate and what is live again, on the same rows, in a fresh process: `python -m kit.model.evaluate`.

Whatever models, rows or a project's own measure do becomes a sentence in the result, never a number.
"""

from __future__ import annotations

import gc
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.environment import EvaluationSource
from kit.errors import KitError, UsageError
from kit.fresh import NoAnswer, answer, ask, first_line
from kit.measures import measure_each
from kit.model.importing import QUIET
from kit.model.rows import Slices, read_label, read_slices
from kit.model.scores import score_rows
from kit.model.servable import Servable, open_saved_model

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

TIMEOUT_S = 900.0

# (labels, scores) -> metrics that are defined, and why the others are not
Measure = Callable[["Array", "Array"], tuple[Mapping[str, float], Mapping[str, str]]]


class EvaluationOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be scored on what; paths are absolute.

    Attributes:
        rows: the Parquet file.
        source: names label, output and measure.
        columns: slice columns.
        candidate: its SavedModel.
        live: the SavedModel of what is live; empty for none.
        notebooks: the folder that a project's own measure is imported from; empty for kit's measures.
    """

    rows: str
    source: EvaluationSource
    columns: tuple[str, ...]
    candidate: str
    live: str = ""
    notebooks: str = ""


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics over some rows.

    Attributes:
        n_rows: so many rows.
        metrics: finite numbers by name.
        undefined: why a metric has no number here, by name.
        problem: why there are none at all.
    """

    n_rows: int
    metrics: dict[str, float] = {}
    undefined: dict[str, str] = {}
    problem: str = ""

    def explain_missing(self, name: str) -> str:
        """Why there is no such metric."""
        known = ", ".join(sorted(self.metrics)) or "none"
        return self.undefined.get(name) or self.problem or f"the measure gives no {name!r}; it gives {known}"


class Scored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one model reaches.

    Attributes:
        problem: why it cannot be scored on these rows; empty if it was.
        overall: over all rows; None if it was not scored.
        slices: by column, then by the value's name.
    """

    problem: str = ""
    overall: Measured | None = None
    slices: dict[str, dict[str, Measured]] = {}


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What candidate and live model reach on the same rows.

    Attributes:
        problem: why nothing was measured; empty if something was.
        n_rows: rows that were scored.
        columns: why a slice column has no slices, by its name.
        candidate: None where nothing was measured.
        live: None where nothing was measured, or none was given.
    """

    problem: str = ""
    n_rows: int = 0
    columns: dict[str, str] = {}
    candidate: Scored | None = None
    live: Scored | None = None

    @property
    def candidate_problem(self) -> str:
        """Why nothing is known of the candidate; empty if it was measured."""
        return self.problem or _explain_absence(self.candidate)

    @property
    def live_problem(self) -> str:
        """Why the two cannot be compared; empty if both were measured."""
        return self.candidate_problem or _explain_absence(self.live)


def _explain_absence(scored: Scored | None) -> str:
    if scored is None or (scored.overall is None and not scored.problem):
        return "it was not scored"
    return scored.problem


def evaluate_in_process(order: EvaluationOrder, timeout_s: float = TIMEOUT_S) -> Evaluation:
    """Score and measure in a fresh process, which has no signing key; whatever happens becomes a result.

    Args:
        order: what to score on what.
        timeout_s: for the whole process; loading TensorFlow takes several seconds of it.
    """
    found = ask("kit.model.evaluate", order, Evaluation, timeout_s, QUIET)
    return Evaluation(found.describe("the evaluating process")) if isinstance(found, NoAnswer) else found


def evaluate(order: EvaluationOrder, open_model: Callable[[Path], Servable] = open_saved_model) -> Evaluation:
    """The evaluation itself; imports TensorFlow and runs whatever the models are, so only ever in a process of its own."""
    try:
        measure = _import_measure(order) if order.source.measure else measure_each
        labels = read_label(Path(order.rows), order.source.label)
    except KitError as error:
        return Evaluation(str(error))
    slices: dict[str, Slices] = {}
    problems: dict[str, str] = {}
    for name in order.columns:
        try:
            slices[name] = read_slices(Path(order.rows), name)
        except KitError as error:
            problems[name] = str(error)
    scored = []
    for folder in filter(None, (order.candidate, order.live)):
        scores = _try_to_score(folder, order, open_model)
        gc.collect()  # one model at a time in memory
        scored.append(Scored(scores) if isinstance(scores, str) else _measure_all(measure, labels, scores, slices))
    return Evaluation("", len(labels), problems, *scored)


def _try_to_score(folder: str, order: EvaluationOrder, open_model: Callable[[Path], Servable]) -> Array | str:
    """(n,) scores, or why there are none."""
    try:
        return score_rows(open_model(Path(folder)), Path(order.rows), order.source.output)
    except Exception as error:  # noqa: BLE001  a broken model can raise anything; it becomes a sentence
        return first_line(error).replace(folder, Path(folder).name)


def _measure_all(measure: Measure, labels: Array, scores: Array, slices: Mapping[str, Slices]) -> Scored:
    parts = {
        column: {name: _measure(measure, labels[rows], scores[rows]) for name, rows in each.rows_by_name().items()}
        for column, each in slices.items()
    }
    return Scored("", _measure(measure, labels, scores), parts)


def _measure(measure: Measure, labels: Array, scores: Array) -> Measured:
    try:
        metrics, undefined = measure(labels, scores)
    except Exception as error:  # noqa: BLE001  a project's own measure can raise anything; it becomes a sentence
        return Measured(len(labels), problem=first_line(error))
    return Measured(len(labels), dict(metrics), dict(undefined))


def _import_measure(order: EvaluationOrder) -> Measure:
    module_name, _, function_name = order.source.measure.partition(":")
    where, folder = f"measure {order.source.measure!r}", Path(order.notebooks).resolve()
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except Exception as error:
        raise UsageError(f"{where} cannot be imported from notebooks/: {first_line(error)}") from error
    if not Path(getattr(module, "__file__", None) or "/").resolve().is_relative_to(folder):
        raise UsageError(f"{where}: {module_name!r} is no module in notebooks/ of the bundle")

    def measure(labels: Array, scores: Array) -> tuple[dict[str, float], dict[str, str]]:
        answer = function(labels, scores)
        if not isinstance(answer, Mapping):
            raise TypeError(f"{where} gives {type(answer).__name__}, expected a mapping from names to numbers")
        numbers = {str(name): float(value) for name, value in answer.items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return finite, {name: f"is no finite number: {numbers[name]}" for name in numbers.keys() - finite.keys()}

    return measure


if __name__ == "__main__":
    answer(sys.argv[1:], EvaluationOrder, evaluate)
