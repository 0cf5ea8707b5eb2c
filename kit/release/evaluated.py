"""A gate's evidence on metrics: recorded and measured again, against what is live on the same rows, and for each slice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact
from kit.bundle import Bundle, unpack_bundle
from kit.environment import Environment, EvaluationSource, Gates, MetricLimits, decode_environment
from kit.errors import KitError, NotFoundError
from kit.gate import Evidence, Finding, Manifest, judge_bounds, judge_drop
from kit.model.evaluate import Evaluation, EvaluationOrder, Measured, Scored, evaluate_in_process
from kit.project import NOTEBOOKS
from kit.record import Record
from kit.release.slices import NO_LIVE, judge_column

NOT_COMPARED = "not compared"
AGREEMENT = 1e-4  # a recorded metric and the gate's own may differ by so much, times max(1, the larger)
NO_SOURCE = "give [gates.evaluation]: the training's output with the rows, the label, the model's output"

# order -> what the models reach; a fake in tests, `kit.model.evaluate.evaluate_in_process` otherwise
Evaluate = Callable[[EvaluationOrder], Evaluation]


class LiveRelease(msgspec.Struct, frozen=True):
    """The release that is live.

    Attributes:
        id: as sentences name it.
        manifest: what it pins; None if it cannot be relied on.
        problem: why not, in a sentence; empty if it can.
    """

    id: str
    manifest: Manifest | None = None
    problem: str = ""


def judge_evaluation(
    archive: Archive,
    environment: Environment,
    training: Record,
    bundle: Bundle,
    live: LiveRelease | None,
    evaluate: Evaluate = evaluate_in_process,
) -> Iterator[Evidence]:
    """Judge all metric limits of an environment: evidence of the kinds `metric`, `drop` and `slice`.

    Args:
        archive: holds models and rows.
        environment: its gates decide.
        training: the record that made the candidate.
        bundle: the sources that trained it; a project's own measure is imported from its notebooks.
        live: what is live in the environment; None if nothing is.
        evaluate: scores both models on the same rows. Not called without `[gates.evaluation]`; what is live takes part
            only where a `max_drop` asks for it.
    """
    gates = environment.gates
    evaluation = _evaluate(archive, gates, training, bundle, live if compares(gates) else None, evaluate)
    where = _describe_rows(gates, training, evaluation)
    problem = evaluation.candidate_problem
    if gates.evaluation is not None and problem:
        yield Evidence("metric", gates.evaluation.data, Finding.REFUSES, f"nothing was measured again: {problem}")
    overall = evaluation.candidate.overall if evaluation.candidate and not problem else None
    for name, limits in sorted(gates.metrics.items()):
        yield from _judge_recorded(name, training.metrics.get(name), limits, overall, where)
        if limits.max_drop is not None:
            yield _judge_drop(name, limits.max_drop, evaluation, live.id if live else "", where)
    for column, slice_limits in sorted(gates.slices.items()):
        yield from judge_column(column, slice_limits, evaluation, live.id if live else "")


def compares(gates: Gates) -> bool:
    """Whether a limit asks for what is live."""
    limits = [*gates.metrics.values(), *(each for column in gates.slices.values() for each in column.metrics.values())]
    return any(each.max_drop is not None for each in limits)


def _evaluate(
    archive: Archive, gates: Gates, training: Record, bundle: Bundle, live: LiveRelease | None, evaluate: Evaluate
) -> Evaluation:
    if gates.evaluation is None:
        return Evaluation(NO_SOURCE)
    try:
        with tempfile.TemporaryDirectory(prefix="kit-gate-") as folder:
            order = _lay_out(archive, gates, gates.evaluation, training, bundle, Path(folder))
            live_folder, live_problem = _lay_out_live(archive, live, Path(folder, "live"))
            found = evaluate(msgspec.structs.replace(order, live=live_folder))
    except (KitError, OSError) as error:
        return Evaluation(str(error))
    return msgspec.structs.replace(found, live=Scored(live_problem)) if live_problem else found


def _lay_out(
    archive: Archive, gates: Gates, source: EvaluationSource, training: Record, bundle: Bundle, folder: Path
) -> EvaluationOrder:
    """Verified copies of all that the candidate is scored with."""
    data, model = _output(training, source.data), _output(training, gates.model)
    rows = folder / "rows" / source.data
    rows.parent.mkdir(parents=True)
    archive.objects.copy_artifact(data, rows)
    archive.objects.copy_artifact(model, folder / "candidate")
    if source.measure:
        unpack_bundle(bundle.data, folder / "source")
    notebooks = str(folder / "source" / NOTEBOOKS) if source.measure else ""
    return EvaluationOrder(str(rows), source, tuple(sorted(gates.slices)), str(folder / "candidate"), "", notebooks)


def _output(training: Record, name: str) -> Artifact:
    artifact = training.output(name)
    if artifact is None:
        raise NotFoundError(f"{training.id} wrote no {name!r}")
    return artifact


def _lay_out_live(archive: Archive, live: LiveRelease | None, folder: Path) -> tuple[str, str]:
    """Where a verified copy of the live model lies, empty for none; and why there is no copy."""
    if live is None:
        return "", ""
    if live.manifest is None or live.problem:
        return "", live.problem or "what it pins is not known"
    try:
        name = decode_environment(live.manifest.configuration, f"release {live.id}").gates.model
        model = live.manifest.artifact(name)
        if model is None:
            return "", f"it has no {name!r}"
        archive.objects.copy_artifact(model, folder)
    except (KitError, OSError) as error:
        return "", str(error)
    return str(folder), ""


def _describe_rows(gates: Gates, training: Record, evaluation: Evaluation) -> str:
    rows = training.output(gates.evaluation.data) if gates.evaluation else None
    return f"{evaluation.n_rows:,} rows of {rows.sha256[:12]}…" if rows else ""


def _judge_recorded(
    name: str, value: Any, limits: MetricLimits, overall: Measured | None, where: str
) -> list[Evidence]:
    """The recorded metric against its bounds, and against the gate's own where the gate can measure it."""
    found = judge_bounds(name, value, limits)
    if overall is None or value is None:
        return found
    if name not in overall.metrics:
        is_known = name in overall.undefined or overall.problem
        return [*found, _refuse_again(name, f"on {where}: {overall.explain_missing(name)}")] if is_known else found
    own = overall.metrics[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        return found
    if abs(value - own) <= AGREEMENT * max(1.0, abs(value), abs(own)):
        return [msgspec.structs.replace(each, detail=f"{each.detail}; measured again on {where}") for each in found]
    detail = f"the record says {value:.6g}, the gate finds {own:.6g} on {where}; may differ by {AGREEMENT:g}"
    return [*found, _refuse_again(name, detail)]


def _refuse_again(name: str, detail: str) -> Evidence:
    """A subject of its own: who waives that a metric is too low does not waive that its record is wrong."""
    return Evidence("metric", f"{name} measured again", Finding.REFUSES, detail)


def _judge_drop(name: str, max_drop: float, evaluation: Evaluation, live_id: str, where: str) -> Evidence:
    if not live_id:
        return Evidence("drop", name, Finding.NOTED, NO_LIVE)
    problem, numbers = evaluation.live_problem, []
    for scored in (evaluation.candidate, evaluation.live):
        overall = scored.overall if scored and not problem else None
        if overall is not None and name in overall.metrics:
            numbers.append(overall.metrics[name])
        elif overall is not None:
            problem = overall.explain_missing(name)
    if problem:
        detail = f"cannot be compared with {live_id} on the same data: {problem}"
        # a subject of its own: who waives that a metric dropped does not waive that nobody knows whether it did
        return Evidence("drop", f"{name} {NOT_COMPARED}", Finding.REFUSES, detail)
    found = judge_drop(name, numbers[0], max_drop, numbers[1], live_id)
    return msgspec.structs.replace(found, detail=f"{found.detail}; both on {where}")
