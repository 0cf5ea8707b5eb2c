"""Planning to execute the release that is live, or a named one: its bundle, its model, its frozen configuration."""

from __future__ import annotations

import msgspec

from kit.archive import RELEASE_FILE, Archive
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import KitError, NotFoundError, PolicyError, UnknownSubjectError, UsageError
from kit.execute import Order, Plan, ResolvedInput, Workbench, finish_plan
from kit.execute.plan import choose_parameters, find_inputs
from kit.execute.signed import require_signed
from kit.execute.sources import look_into_bundle
from kit.gate import Manifest, Release
from kit.graph import RUN, Graph, Stage, require_bound
from kit.release.difference import advise_to_cut, readable_release, require_no_drift
from kit.release.drift import find_drift
from kit.release.live import find_live
from kit.release.soundness import require_cut
from kit.release.waivers import find_expired
from kit.workspace import ReleaseContext


def plan_run(workbench: Workbench, order: Order, release_id: str = "") -> Plan:
    """Plan the run notebook of the live release, or of a named one: its bundle, its model, its frozen configuration.

    Every byte that the release pins is verified first, then all that differs here from what was released is told at once.

    Raises:
        NotFoundError: nothing is live there.
        IntegrityError: bytes are not those that were released.
        PolicyError: something else differs and the order does not allow it, or the release may not be run any more.
    """
    release, manifest, environment = _choose_subject(workbench, order, release_id)
    drift = require_no_drift(release, manifest, find_drift(workbench, release, manifest), allow=order.allow_drift)
    require_signed(workbench.archive, environment, [release.record, manifest.training_record], workbench.trusted_keys)
    _require_unexpired(workbench, environment, release, manifest)
    return _plan(workbench, order, release, manifest, environment, drift, keep=True)


def preview_run(workbench: Workbench, order: Order) -> Plan:
    """The plan of a run of what is live if nothing differs from it; to be looked at, not executed: nothing is verified or kept.

    Raises:
        NotFoundError: nothing is live there.
        IntegrityError: what is live cannot be read.
    """
    return _plan(workbench, order, *_choose_subject(workbench, order, ""), (), keep=False)


def _choose_subject(workbench: Workbench, order: Order, release_id: str) -> tuple[Release, Manifest, Environment]:
    release = _choose_release(workbench, order.environment, release_id)
    with readable_release(release.environment):
        manifest = workbench.archive.read_manifest(release)
    environment = decode_environment(manifest.configuration, f"release {release.id}")
    if not order.environment == environment.name == manifest.environment == release.environment:
        raise PolicyError(
            f"release {release.id} holds the verdict and the configuration of {environment.name!r}: it was never admitted "
            f"to {order.environment!r}; `kit verify` says more"
        )
    return release, manifest, environment


def _plan(
    workbench: Workbench,
    order: Order,
    release: Release,
    manifest: Manifest,
    environment: Environment,
    drift: tuple[str, ...],
    *,
    keep: bool,
) -> Plan:
    bundle = _released_bundle(workbench.archive, manifest, is_kept=keep)
    graph = bundle.read_graph()
    stage = graph.stage(RUN)
    if order.inputs.keys() & {RELEASE_FILE}:
        raise UsageError(f"choose a release with --release {environment.name}-N, not with --input")
    require_bound(stage, graph, [*environment.data, *order.inputs], environment.name)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = _run_inputs(workbench, order, environment, graph, release, manifest, keep=keep)
    build = workbench.archive.read_record(manifest.training_record).code.build
    return finish_plan(
        workbench,
        order,
        stage,
        environment,
        bundle,
        build,
        parameters,
        inputs,
        release=ReleaseContext(release.id, manifest, ""),
        drift=drift,
        keep=keep,
    )


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


def _released_bundle(archive: Archive, manifest: Manifest, *, is_kept: bool) -> Bundle:
    changes = (
        () if manifest.commit and not archive.read_record(manifest.training_record).code.dirty else ("(released)",)
    )
    if not is_kept:
        return look_into_bundle(archive, manifest.bundle_sha256, manifest.commit, bool(changes))
    return Bundle(archive.objects.read(manifest.bundle_sha256), manifest.commit, changes)


def _run_inputs(
    workbench: Workbench,
    order: Order,
    environment: Environment,
    graph: Graph,
    release: Release,
    manifest: Manifest,
    *,
    keep: bool,
) -> tuple[ResolvedInput, ...]:
    stage = graph.stage(RUN)
    cut = workbench.archive.read_record(release.record)
    released = cut.output(RELEASE_FILE)
    if released is None or released.sha256 != manifest.sha256:
        raise NotFoundError(f"record {cut.id} does not hold the release.json of {release.id}")
    others = tuple(name for name in stage.inputs if name != RELEASE_FILE)
    rest = find_inputs(workbench, _with_inputs(stage, others), graph, environment, order.inputs, keep=keep)
    return (ResolvedInput(released, record=cut.id), *rest)


def _with_inputs(stage: Stage, names: tuple[str, ...]) -> Stage:
    return msgspec.structs.replace(stage, inputs=names)
