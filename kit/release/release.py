"""Cutting a release through its environment's gate, and executing the one that is live."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kit.archive import RELEASE_FILE, Archive
from kit.artifact import Artifact, media_type_of
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import NotFoundError, PolicyError, UsageError
from kit.execute import Order, Plan, ResolvedInput, Workbench, execute_plan, finish_plan, resolve_inputs
from kit.execute.inputs import from_record, newest_success
from kit.execute.plan import BUNDLE, bundle_of, choose_parameters
from kit.execute.signed import require_signed
from kit.gate import Manifest, Release
from kit.graph import RELEASE, RUN, Graph, Stage, require_bound
from kit.record import Record
from kit.release.evidence import Probe, ProbeOutcome, judge_candidate
from kit.workspace import GateContext, ReleaseContext


def probe_model(model: Path, golden: Path) -> ProbeOutcome:
    """Load a SavedModel in a fresh process and compare its golden predictions."""
    from kit.model import probe_saved_model

    result = probe_saved_model(model, golden)
    return ProbeOutcome(result.passed, result.detail)


def plan_release(workbench: Workbench, order: Order, probe: Probe = probe_model) -> Plan:
    """Decide on the newest training of the environment that `[release] from` names, and plan the release notebook.

    The gate's verdict is reached here, before the notebook starts; the notebook can show it, not change it.

    Raises:
        NotFoundError: there is no training, or it has no such output.
        PolicyError: the environment takes no releases.
    """
    environment = workbench.project.read_environment(order.environment)
    if environment.release is None:
        raise PolicyError(
            f"environment {environment.name!r} takes no releases: give environments/{environment.name}.toml a table "
            f'[release] with from = "<the environment that trains>"'
        )
    training = _choose_training(workbench, environment, order)
    bundle = bundle_of(workbench.archive, training)
    graph = bundle.read_graph()
    stage = graph.stage(RELEASE)
    inputs = tuple(_release_input(workbench.archive, name, training) for name in stage.inputs)
    workbench.notify(f"gate of {environment.name}: judging {training.id}")
    verdict = judge_candidate(workbench.archive, environment, training, bundle, probe, workbench.trusted_keys)
    manifest = Manifest(
        environment=environment.name,
        bundle_sha256=training.code.bundle_sha256,
        commit=training.code.commit,
        training_record=training.id,
        artifacts=training.outputs,
        lock_sha256=training.software.lock_sha256,
        configuration=environment.configuration,
        configuration_sha256=environment.sha256,
        metrics=training.metrics,
        verdict=verdict,
    )
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    gate = GateContext(verdict, manifest if verdict.passed else None)
    return finish_plan(workbench, order, stage, environment, bundle, training.code.build, parameters, inputs, gate=gate)


def cut_release(workbench: Workbench, plan: Plan) -> tuple[Record, Release | None]:
    """Execute a planned release notebook and, if the gate admits it and the notebook cut it, number the release.

    Returns:
        The record, and the release; None if there is none, for the reasons that the record has.
    """
    record = execute_plan(workbench, plan)
    if not record.succeeded or plan.gate is None or plan.gate.manifest is None:
        return record, None
    return record, workbench.archive.add_release(plan.environment.name, record, workbench.clock())


def plan_run(workbench: Workbench, order: Order, release_id: str = "") -> Plan:
    """Plan the run notebook of the live release, or of a named one: its bundle, its model, its frozen configuration.

    Raises:
        NotFoundError: nothing is live there.
        PolicyError: the environment's file is no longer what was released.
    """
    release = _choose_release(workbench.archive, order.environment, release_id)
    manifest = workbench.archive.read_manifest(release)
    environment = decode_environment(manifest.configuration, f"release {release.id}")
    if not order.environment == environment.name == manifest.environment == release.environment:
        raise PolicyError(
            f"release {release.id} holds the verdict and the configuration of {environment.name!r}: it was never admitted "
            f"to {order.environment!r}; `kit verify` says more"
        )
    _require_no_drift(workbench, environment, release)
    require_signed(workbench.archive, environment, [release.record, manifest.training_record], workbench.trusted_keys)
    bundle = _released_bundle(workbench.archive, manifest)
    graph = bundle.read_graph()
    stage = graph.stage(RUN)
    if order.inputs.keys() & {RELEASE_FILE}:
        raise UsageError(f"choose a release with --release {environment.name}-N, not with --input")
    require_bound(stage, graph, [*environment.data, *order.inputs], environment.name)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = _run_inputs(workbench, order, environment, graph, release, manifest)
    build = workbench.archive.read_record(manifest.training_record).code.build
    context = ReleaseContext(release.id, manifest, "")
    return finish_plan(workbench, order, stage, environment, bundle, build, parameters, inputs, release=context)


def _choose_training(workbench: Workbench, environment: Environment, order: Order) -> Record:
    named = set(order.inputs.values())
    if len(named) > 1:
        raise UsageError("a release takes one training: name one record with --input")
    if named:
        return workbench.archive.find_record(named.pop())
    producer = workbench.project.read_graph().producer_of(environment.gates.model)
    if producer is None:
        raise NotFoundError(
            f"no stage writes {environment.gates.model!r}, the model that the gate of {environment.name!r} loads; "
            f"set [gates] model to the output that is your SavedModel"
        )
    return newest_success(workbench.archive, producer.name, environment.training, RELEASE)


def _release_input(archive: Archive, name: str, training: Record) -> ResolvedInput:
    if name != BUNDLE:
        return from_record(name, training)
    sha256 = training.code.bundle_sha256
    build = archive.newest(lambda record: (output := record.output(BUNDLE)) is not None and output.sha256 == sha256)
    if build is not None:
        return from_record(BUNDLE, build)
    size_bytes = archive.objects.path(sha256).stat().st_size  # the gate refuses a bundle that was never built
    return ResolvedInput(Artifact(BUNDLE, sha256, size_bytes, media_type_of(BUNDLE)), source=f"code of {training.id}")


def _choose_release(archive: Archive, environment: str, release_id: str) -> Release:
    release = archive.find_release(release_id) if release_id else archive.live_release(environment)
    if release is None:
        what = (
            f"release {release_id!r} does not exist"
            if release_id
            else f"nothing is live in environment {environment!r}"
        )
        raise NotFoundError(f"{what}; run `kit release --env {environment}` first")
    if release.environment != environment:
        raise UsageError(f"release {release.id} belongs to {release.environment!r}; use --env {release.environment}")
    return release


def _released_bundle(archive: Archive, manifest: Manifest) -> Bundle:
    changes = (
        () if manifest.commit and not archive.read_record(manifest.training_record).code.dirty else ("(released)",)
    )
    return Bundle(archive.objects.read(manifest.bundle_sha256), manifest.commit, changes)


def _require_no_drift(workbench: Workbench, frozen: Environment, release: Release) -> None:
    now = workbench.project.read_environment(frozen.name)
    if now.sha256 != frozen.sha256:
        keys = [key for key, value in now.configuration.items() if frozen.configuration.get(key) != value]
        raise PolicyError(
            f"environments/{frozen.name}.toml differs from what {release.id} froze, in: {', '.join(sorted(keys))}; "
            f"cut a new release with `kit release --env {frozen.name}`, or take the change back"
        )


def _run_inputs(
    workbench: Workbench, order: Order, environment: Environment, graph: Graph, release: Release, manifest: Manifest
) -> tuple[ResolvedInput, ...]:
    stage = graph.stage(RUN)
    cut = workbench.archive.read_record(release.record)
    released = cut.output(RELEASE_FILE)
    if released is None or released.sha256 != manifest.sha256:
        raise NotFoundError(f"record {cut.id} does not hold the release.json of {release.id}")
    root, archive = workbench.project.root, workbench.archive
    others = tuple(name for name in stage.inputs if name != RELEASE_FILE)
    rest = resolve_inputs(_with_inputs(stage, others), graph, environment, archive, root, order.inputs)
    return (ResolvedInput(released, record=cut.id), *rest)


def _with_inputs(stage: Stage, names: tuple[str, ...]) -> Stage:
    return msgspec.structs.replace(stage, inputs=names)
