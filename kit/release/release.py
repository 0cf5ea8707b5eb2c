"""Cutting a release through its environment's gate, and executing the one that is live."""

from __future__ import annotations

from collections import Counter

import msgspec

from kit.archive import RELEASE_FILE, Archive
from kit.artifact import Artifact, media_type_of
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import KitError, NotFoundError, PolicyError, UnknownSubjectError, UsageError
from kit.execute import Order, Plan, ResolvedInput, Workbench, execute_plan, finish_plan, resolve_inputs
from kit.execute.inputs import from_record, newest_success
from kit.execute.plan import BUNDLE, bundle_of, choose_parameters
from kit.execute.signed import require_signed
from kit.gate import Finding, Manifest, Release, Verdict
from kit.graph import RELEASE, RUN, Graph, Stage, require_bound
from kit.record import Record
from kit.release.admission import require_still_admitted
from kit.release.bound_data import bind_now
from kit.release.difference import advise_to_cut, readable_release, require_no_drift
from kit.release.drift import find_drift
from kit.release.evidence import judge_candidate
from kit.release.live import find_live
from kit.release.probes import PROBES, Probes
from kit.release.soundness import require_cut, require_sound
from kit.release.waivers import find_expired
from kit.workspace import GateContext, ReleaseContext


def plan_release(workbench: Workbench, order: Order, probes: Probes = PROBES) -> Plan:
    """Decide on the newest training of the environment that `[release] from` names, and plan the release notebook.

    The gate's verdict is reached here, before the notebook starts; the notebook can show it, not change it.

    Args:
        workbench: project, archive and collaborators.
        order: any of its inputs may name another training; one record at most.
        probes: load and query models, check data.

    Raises:
        NotFoundError: there is no training, or it has no such output.
        PolicyError: the environment takes no releases, or none but promoted ones.
    """
    environment = workbench.project.read_environment(order.environment)
    if environment.release is None:
        raise PolicyError(_tell_closed(environment))
    training = _choose_training(workbench, environment, order)
    return _plan_candidate(workbench, order, environment, training, probes)


def plan_promotion(workbench: Workbench, order: Order, release_id: str, probes: Probes = PROBES) -> Plan:
    """Plan the release notebook for another environment, on bundle and training of a release, after every byte was verified.

    Args:
        workbench: project, archive and collaborators.
        order: its environment is where to, with the configuration that the working tree has of it.
        release_id: the release that is promoted.
        probes: load and query models, check data.

    Raises:
        NotFoundError: there is no such release.
        UsageError: it is one of that environment already, or the order names another training.
        IntegrityError: the release is not what its gate admitted.
        PolicyError: the environment takes no releases.
    """
    environment = workbench.project.read_environment(order.environment)
    release = workbench.archive.find_release(release_id)
    if release is None:
        raise UnknownSubjectError(f"release {release_id!r} does not exist; `kit releases` lists them")
    if release.environment == environment.name:
        raise UsageError(
            f"{release.id} is a release of {environment.name!r} already; `kit rollback {environment.name} --to {release.id} "
            f"--reason …` makes it live again"
        )
    if order.inputs:
        raise UsageError(f"a promotion takes the training of {release.id}; it has no other inputs")
    if environment.release is None and not environment.policy.promoted_from:
        raise PolicyError(_tell_closed(environment))
    manifest = require_sound(workbench.archive, release)
    training = workbench.archive.read_record(manifest.training_record)
    return _plan_candidate(workbench, order, environment, training, probes, promoted_from=release.id)


def _tell_closed(environment: Environment) -> str:
    name, sources = environment.name, environment.policy.promoted_from
    if sources:
        return (
            f"environment {name!r} has no table [release]: it takes only what was released in {' or '.join(sources)} before; "
            f"`kit promote {sources[0]}-N --to {name}` takes it through the gate"
        )
    return (
        f"environment {name!r} takes no releases: give environments/{name}.toml a table [release] with from = "
        f'"<the environment that trains>", or [policy] promoted_from = ["<environment>"]'
    )


def _count_findings(verdict: Verdict) -> str:
    """`30 hold, 1 waived, 5 noted`."""
    found = Counter(each.finding for each in verdict.evidence)
    words = ((Finding.HOLDS, "hold"), (Finding.REFUSES, "refuse"), (Finding.WAIVED, "waived"), (Finding.NOTED, "noted"))
    return ", ".join(f"{found[finding]} {word}" for finding, word in words if found[finding])


def _plan_candidate(
    workbench: Workbench,
    order: Order,
    environment: Environment,
    training: Record,
    probes: Probes,
    promoted_from: str = "",
) -> Plan:
    """Judge a training and plan the release notebook of its bundle."""
    archive = workbench.archive
    bundle = bundle_of(archive, training)
    graph = bundle.read_graph()
    stage = graph.stage(RELEASE)
    inputs = tuple(_release_input(archive, name, training) for name in stage.inputs)
    workbench.notify(f"gate of {environment.name}: judging {promoted_from or training.id}")
    verdict = judge_candidate(
        archive,
        environment,
        training,
        bundle,
        bind_now(archive, environment, workbench.project.root),
        probes,
        workbench.trusted_keys,
        promoted_from=promoted_from,
        moment=workbench.clock(),
    )
    workbench.notify(f"gate of {environment.name}: {_count_findings(verdict)}")
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
        promoted_from=promoted_from,
        python=training.machine.python,
    )
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    gate = GateContext(verdict, manifest if verdict.passed else None)
    return finish_plan(workbench, order, stage, environment, bundle, training.code.build, parameters, inputs, gate=gate)


def cut_release(workbench: Workbench, plan: Plan) -> tuple[Record, Release | None]:
    """Execute a planned release notebook and, if the gate admits it and the notebook cut it, number the release.

    Returns:
        The record, and the release; None if there is none, for the reasons that the record has.

    Raises:
        GateRefusedError: what the gate saw of other releases changed meanwhile; the record stays, without a number.
    """
    record = execute_plan(workbench, plan)
    if not record.succeeded or plan.gate is None or plan.gate.manifest is None:
        return record, None
    archive, environment, manifest = workbench.archive, plan.environment, plan.gate.manifest
    training = archive.read_record(manifest.training_record)

    def admit() -> None:
        require_still_admitted(
            archive, environment, manifest, training, workbench.trusted_keys, workbench.clock, record.id
        )

    return record, archive.add_release(environment.name, record, workbench.clock(), admit)


def plan_run(workbench: Workbench, order: Order, release_id: str = "") -> Plan:
    """Plan the run notebook of the live release, or of a named one: its bundle, its model, its frozen configuration.

    Every byte that the release pins is verified first, then all that differs here from what was released is told at once.

    Raises:
        NotFoundError: nothing is live there.
        IntegrityError: bytes are not those that were released.
        PolicyError: something else differs and the order does not allow it, or the release may not be run any more.
    """
    release = _choose_release(workbench, order.environment, release_id)
    with readable_release(release.environment):
        manifest = workbench.archive.read_manifest(release)
    environment = decode_environment(manifest.configuration, f"release {release.id}")
    if not order.environment == environment.name == manifest.environment == release.environment:
        raise PolicyError(
            f"release {release.id} holds the verdict and the configuration of {environment.name!r}: it was never admitted "
            f"to {order.environment!r}; `kit verify` says more"
        )
    drift = require_no_drift(release, manifest, find_drift(workbench, release, manifest), allow=order.allow_drift)
    require_signed(workbench.archive, environment, [release.record, manifest.training_record], workbench.trusted_keys)
    _require_unexpired(workbench, environment, release, manifest)
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
    return finish_plan(
        workbench, order, stage, environment, bundle, build, parameters, inputs, release=context, drift=drift
    )


def _choose_training(workbench: Workbench, environment: Environment, order: Order) -> Record:
    named = set(order.inputs.values())
    if len(named) > 1:
        raise UsageError("a release takes one training: name one record with --from")
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


def _choose_release(workbench: Workbench, environment: str, release_id: str) -> Release:
    archive = workbench.archive
    with readable_release(environment):
        if release_id:
            release = archive.find_release(release_id)
        else:
            signed = _demands_signatures(workbench, environment)
            release = find_live(archive, environment, workbench.trusted_keys, signed=signed)
    if release is None and release_id:
        raise UnknownSubjectError(
            f"release {release_id!r} does not exist; `kit releases --env {environment}` lists them"
        )
    if release is None:
        advice = _advise_to_release(workbench, environment)
        raise NotFoundError(f"nothing is live in environment {environment!r}; {advice}")
    if release.environment != environment:
        raise UsageError(f"release {release.id} belongs to {release.environment!r}; use --env {release.environment}")
    require_cut(archive, release)
    return release


def _advise_to_release(workbench: Workbench, name: str) -> str:
    try:
        environment = workbench.project.read_environment(name)
    except KitError:
        return f"run `kit release --env {name}` first"
    sources = environment.policy.promoted_from
    if environment.release is None and sources:
        return f"promote one with `kit promote {sources[0]}-N --to {name}` first"
    return f"run `kit release --env {name}` first"


def _demands_signatures(workbench: Workbench, environment: str) -> bool:
    """What the environment's file says; that it cannot be read is told as drift."""
    try:
        return workbench.project.read_environment(environment).policy.signed
    except KitError:
        return False


def _require_unexpired(workbench: Workbench, environment: Environment, release: Release, manifest: Manifest) -> None:
    keys = workbench.trusted_keys if environment.policy.signed else None
    if expired := find_expired(workbench.archive, manifest.verdict, workbench.clock(), keys):
        raise PolicyError(
            f"release {release.id} was admitted only because of what no longer holds: {'; '.join(expired)}; renew it with "
            f"`kit waive`, {advise_to_cut(release.environment)}, or go back with `kit rollback {release.environment}`"
        )


def _released_bundle(archive: Archive, manifest: Manifest) -> Bundle:
    changes = (
        () if manifest.commit and not archive.read_record(manifest.training_record).code.dirty else ("(released)",)
    )
    return Bundle(archive.objects.read(manifest.bundle_sha256), manifest.commit, changes)


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
