"""What makes an execution a failure although every cell succeeded: inputs, checks, the bundle, the release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult
from kit.execute.plan import BUNDLE, Plan
from kit.graph import BUILD
from kit.record import Failure


def first_failure(
    plan: Plan, inputs: tuple[InputArtifact, ...], outputs: tuple[Artifact, ...], checks: tuple[CheckResult, ...]
) -> Failure | None:
    """The first reason why an execution whose cells all succeeded is a failure; None if it holds."""
    judges: list[Callable[[], Failure | None]] = [
        lambda: _judge_inputs(inputs),
        lambda: _judge_checks(plan, inputs, outputs, checks),
        lambda: _judge_bundle(plan, outputs),
        lambda: _judge_release(plan, outputs),
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
