"""What makes an execution a failure although every cell succeeded: inputs, checks, the bundle, the release, lost rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult
from kit.errors import IntegrityError
from kit.execute.plan import Plan
from kit.execute.sources import BUNDLE
from kit.graph import BUILD, RUN
from kit.record import Failure


def first_failure(
    plan: Plan,
    inputs: tuple[InputArtifact, ...],
    outputs: tuple[Artifact, ...],
    checks: tuple[CheckResult, ...],
    metrics: Mapping[str, Any],
    written: Path,
) -> Failure | None:
    """The first reason why an execution whose cells all succeeded is a failure; None if it holds.

    Args:
        plan: what was executed.
        inputs: hashed before and after.
        outputs: as they are in the archive.
        checks: that the stage made.
        metrics: that it recorded.
        written: the folder that it wrote its outputs to.
    """
    judges: list[Callable[[], Failure | None]] = [
        lambda: _judge_inputs(inputs),
        lambda: _judge_checks(plan, inputs, outputs, checks),
        lambda: _judge_bundle(plan, outputs),
        lambda: _judge_release(plan, outputs),
        lambda: _judge_rows(plan, metrics),
        lambda: _judge_names(plan, outputs, written),
    ]
    return next((failure for judge in judges if (failure := judge())), None)


def _judge_inputs(inputs: tuple[InputArtifact, ...]) -> Failure | None:
    for each in inputs:
        if each.sha256_after != each.artifact.sha256:
            now = f"{each.sha256_after[:12]}…" if each.sha256_after else "gone"
            sentence = (
                f"input {each.artifact.name!r} was changed while the stage ran (before {each.artifact.sha256[:12]}…, after "
                f"{now}); write to stage.outputs or stage.scratch instead"
            )
            return Failure("InputChanged", sentence)
    return None


def _judge_checks(
    plan: Plan, inputs: tuple[InputArtifact, ...], outputs: tuple[Artifact, ...], checks: tuple[CheckResult, ...]
) -> Failure | None:
    digests = {artifact.name: artifact.sha256 for artifact in (*(each.artifact for each in inputs), *outputs)}
    suites = {Path(name).stem for name in plan.bundle.names() if name.startswith("notebooks/expectations/")}
    checked = {check.artifact for check in checks}
    for artifact in outputs:
        if Path(artifact.name).stem in suites and artifact.name not in checked:
            sentence = f"{artifact.name!r} has a suite and was not checked; call stage.check({artifact.name!r}) after writing it"
            return Failure("CheckMissing", sentence)
    for check in checks:
        if digests.get(check.artifact) != check.artifact_sha256:
            sentence = f"{check.artifact!r} was changed after its check; check it after the last write"
            return Failure("CheckOutdated", sentence)
        if not check.passed:
            return Failure("CheckFailed", f"check of {check.artifact!r}: {'; '.join(check.problems)}")
    return None


def _judge_bundle(plan: Plan, outputs: tuple[Artifact, ...]) -> Failure | None:
    for artifact in outputs:
        if plan.stage.name == BUILD and artifact.name == BUNDLE and artifact.sha256 != plan.code.bundle_sha256:
            sentence = (
                f"{BUNDLE} is not the bundle that the build executed in; copy stage.bundle to stage.outputs[{BUNDLE!r}]"
            )
            return Failure("BundleDiffers", sentence)
    return None


def _judge_release(plan: Plan, outputs: tuple[Artifact, ...]) -> Failure | None:
    if plan.gate is None:
        return None
    if not plan.gate.verdict.passed or plan.gate.manifest is None:
        return Failure("GateRefused", "; ".join(plan.gate.verdict.reasons))
    if [artifact.sha256 for artifact in outputs if artifact.name == "release.json"] != [plan.gate.manifest.sha256]:
        return Failure(
            "ReleaseDiffers", "release.json is not what the gate admitted; write it with stage.cut_release()"
        )
    return None


def _judge_rows(plan: Plan, metrics: Mapping[str, Any]) -> Failure | None:
    if plan.stage.name != RUN or plan.reproduces:  # what is done again is held to what it did, not to later rules
        return None
    from kit.scoring import find_lost_rows  # and below: 5 ms that a command which executes nothing need not spend

    problem = find_lost_rows(metrics)
    return Failure("RowsLost", f"the run's row counts do not hold: {problem}") if problem else None


def _judge_names(plan: Plan, outputs: tuple[Artifact, ...], written: Path) -> Failure | None:
    if plan.release is None or plan.reproduces:
        return None
    from kit.scoring import RELEASE_KEY, read_release_id

    for name, path in _list_parquet(outputs, written):
        try:
            found = read_release_id(path)
        except IntegrityError as error:
            return Failure("ReleaseNotNamed", str(error))
        if found != plan.release.id:
            says = f"names release {found!r}" if found else "names no release"
            sentence = (
                f"{name!r} {says} in its footer, expected {RELEASE_KEY} = {plan.release.id!r}; write it with "
                f"stage.score(…) or stage.write_table(…)"
            )
            return Failure("ReleaseNotNamed", sentence)
    return None


def _list_parquet(outputs: tuple[Artifact, ...], written: Path) -> Iterator[tuple[str, Path]]:
    """Parquet files among outputs, also those in an output that is a folder, with their names."""
    for artifact in outputs:
        path = written / artifact.name
        for each in sorted(path.rglob("*")) if artifact.is_folder else [path]:
            if each.suffix.lower() == ".parquet" and each.is_file():
                yield each.relative_to(written).as_posix(), each
