"""The gate's evidence on the LiteRT model: it says what the SavedModel says, within the environment's limits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from kit.archive import Archive
from kit.environment import Environment, LiteRTLimits
from kit.errors import KitError
from kit.gate import Evidence, Finding
from kit.model.closeness import Closeness, Representations, compare_representations
from kit.record import Record

KIND = "litert"

# two representations and what they are compared on -> how close they are; a fake in tests
Compare = Callable[[Representations], Closeness]


def judge_litert(
    archive: Archive, environment: Environment, training: Record, compare: Compare = compare_representations
) -> Iterator[Evidence]:
    """Hold a training's LiteRT model against its SavedModel, where the environment sets limits for it.

    Args:
        archive: holds the artifacts.
        environment: its `[gates.litert]` has the limits, its `[gates.evaluation]` the rows beside golden predictions.
        training: the record that wrote both representations.
        compare: loads and queries both.

    Yields:
        Nothing where the environment wants no LiteRT model; else what was found, on golden predictions, then on
        evaluation rows. Whatever is missing, unreadable or not finite refuses.
    """
    limits = environment.gates.litert
    if limits is None:
        if environment.serving.representation == "litert":
            detail = '[serving] representation is "litert", but nothing admits such a model: add a table [gates.litert]'
            yield Evidence(KIND, LiteRTLimits().model, Finding.REFUSES, detail)
        return
    missing = [name for name in _list_needed(environment, limits) if training.output(name) is None]
    if missing:
        detail = f"missing: {training.id} wrote no {' and no '.join(missing)}"
        yield Evidence(KIND, limits.model, Finding.REFUSES, detail)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="kit-gate-") as folder:
            closeness = compare(_unpack(archive, environment, limits, training, Path(folder)))
    except (KitError, OSError) as error:
        # A kind that nobody can waive: bytes that are not those of the training are no matter of limits.
        yield Evidence("model", limits.model, Finding.REFUSES, f"cannot be read: {error}")
        return
    yield from judge_closeness(closeness, environment, limits)


def _list_needed(environment: Environment, limits: LiteRTLimits) -> list[str]:
    gates = environment.gates
    needed = [limits.model, limits.encoding, gates.model, gates.golden]
    return [*needed, gates.evaluation.data] if gates.evaluation else needed


def _unpack(
    archive: Archive, environment: Environment, limits: LiteRTLimits, training: Record, folder: Path
) -> Representations:
    paths = []
    for number, name in enumerate(_list_needed(environment, limits)):
        artifact = training.output(name)
        assert artifact is not None  # looked up before
        (folder / str(number)).mkdir()
        archive.objects.copy_artifact(artifact, folder / str(number) / name)  # the name, for sentences about it
        paths.append(str(folder / str(number) / name))
    litert, encoding, saved_model, golden, *rows = paths
    return Representations(
        saved_model=saved_model,
        golden=golden,
        litert=litert,
        encoding=encoding,
        rows=rows[0] if rows else "",
        source=environment.gates.evaluation,
    )


def judge_closeness(closeness: Closeness, environment: Environment, limits: LiteRTLimits) -> Iterator[Evidence]:
    """Hold what was measured against the limits; a number that is not there refuses."""
    if closeness.problem:
        yield Evidence(KIND, limits.model, Finding.REFUSES, f"was not compared: {closeness.problem}")
        return
    golden = f"golden predictions, over {closeness.n_golden:,} rows"
    yield _judge_difference(closeness.golden_difference, closeness.n_golden, golden, limits)
    source = environment.gates.evaluation
    if source is None:
        detail = "AUC was not compared: the environment has no [gates.evaluation] rows"
        yield Evidence(KIND, limits.model, Finding.NOTED, detail)
        return
    rows = f"over {closeness.n_rows:,} rows of {source.data}"
    yield _judge_difference(closeness.difference, closeness.n_rows, f"the SavedModel's {source.output}, {rows}", limits)
    yield _judge_auc(closeness, rows, limits)


def _judge_difference(difference: float | None, n_rows: int, what: str, limits: LiteRTLimits) -> Evidence:
    if difference is None or n_rows <= 0:
        return Evidence(KIND, limits.model, Finding.REFUSES, f"no finite difference from {what}")
    detail = f"largest difference {difference:.3g}, allowed {limits.max_difference:g}, from {what}"
    return _hold(limits.model, difference <= limits.max_difference, detail, "says something else")


def _judge_auc(closeness: Closeness, rows: str, limits: LiteRTLimits) -> Evidence:
    if closeness.auc is None or closeness.auc_litert is None:
        return Evidence(KIND, limits.model, Finding.REFUSES, f"no AUC of both representations {rows}")
    drop = closeness.auc - closeness.auc_litert
    figures = f"AUC {closeness.auc_litert:.6f}, the SavedModel's {closeness.auc:.6f}"
    detail = f"{figures}, loss {drop:.3g}, allowed {limits.max_auc_drop:g}, {rows}"
    return _hold(limits.model, drop <= limits.max_auc_drop, detail, "ranks worse")


def _hold(model: str, holds: bool, detail: str, complaint: str) -> Evidence:
    finding = Finding.HOLDS if holds else Finding.REFUSES
    return Evidence(KIND, model, finding, detail if holds else f"{complaint}: {detail}")
