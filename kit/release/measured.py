"""What a gate finds out by itself, in fresh processes and two at a time: metrics again, the model asked, data checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.bundle import Bundle
from kit.environment import Environment
from kit.errors import KitError
from kit.gate import Evidence, Finding, Manifest, Release
from kit.record import Record
from kit.release.bound_data import Bind, BoundData, judge_bound_data
from kit.release.evaluated import LiveRelease, compares, judge_evaluation
from kit.release.live import list_checked
from kit.release.probes import Probes
from kit.release.represented import judge_litert

_AT_ONCE = 2  # each loads TensorFlow or Great Expectations: about a gigabyte, and one processor most of the time


class Live(msgspec.Struct, frozen=True):
    """What a candidate is compared with.

    Attributes:
        release: what is live in the environment; None if nothing is, or it cannot be relied on.
        manifest: its manifest.
        problem: why it cannot be compared with, in a sentence; empty if it can, or nothing is live.
        by_rollback: a rollback made it live. One that cannot be relied on is answered by a rollback; a release that cannot may
            be replaced where nothing is compared with it.
    """

    release: Release | None = None
    manifest: Manifest | None = None
    problem: str = ""
    by_rollback: bool = False


def judge_measured(
    archive: Archive,
    environment: Environment,
    training: Record,
    bundle: Bundle,
    bind: Bind,
    probes: Probes,
    live: Live,
) -> BoundData:
    """All evidence that fresh processes give, and the digests of the bound data, in a fixed order.

    Args:
        archive: holds the artifacts.
        environment: its limits decide.
        training: the record that made the model.
        bundle: the sources that trained it.
        bind: gives the data that the environment binds.
        probes: what the processes do.
        live: what the candidate is compared with.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked: list[Callable[[], list[Evidence]]] = [
            lambda: list(_judge_metrics(archive, environment, training, bundle, live, probes)),
            lambda: [_judge_model(archive, environment, training, probes)],
            lambda: list(judge_litert(archive, environment, training, probes.compare)),
        ]
        answers = [pool.submit(each) for each in asked]
        bound = pool.submit(
            judge_bound_data,
            archive,
            environment,
            training,
            bundle,
            bind,
            probes.check,
            list_checked(live.manifest, "data"),
        )
        evidence = [each for answer in answers for each in answer.result()]
        return BoundData((*evidence, *bound.result().evidence), bound.result().subjects)


def _judge_metrics(
    archive: Archive, environment: Environment, training: Record, bundle: Bundle, live: Live, probes: Probes
) -> Iterator[Evidence]:
    compared = LiveRelease(live.release.id, live.manifest) if live.release else None
    if live.problem:
        refuses = live.by_rollback or compares(environment.gates)
        yield Evidence("metric", "live release", Finding.REFUSES if refuses else Finding.NOTED, live.problem)
        compared = LiveRelease("the live release", problem=live.problem)
    yield from judge_evaluation(archive, environment, training, bundle, compared, probes.evaluate)


def _judge_model(archive: Archive, environment: Environment, training: Record, probes: Probes) -> Evidence:
    model, golden = (training.output(name) for name in (environment.gates.model, environment.gates.golden))
    if model is None or golden is None:
        missing = environment.gates.model if model is None else environment.gates.golden
        return Evidence("model", missing, Finding.REFUSES, f"missing: {training.id} wrote no such output")
    try:
        with tempfile.TemporaryDirectory(prefix="kit-gate-") as folder:
            archive.objects.copy_artifact(model, Path(folder) / "model")
            archive.objects.copy_artifact(golden, Path(folder) / "golden.json")
            outcome = probes.model(Path(folder) / "model", Path(folder) / "golden.json")
    except (KitError, OSError) as error:
        return Evidence("model", model.name, Finding.REFUSES, f"cannot be read: {error}")
    return Evidence("model", model.name, Finding.HOLDS if outcome.passed else Finding.REFUSES, outcome.detail)
