"""What a gate decides on: a training, its bundle, and the release notebook that will tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from kit.archive import Archive
from kit.artifact import Artifact, media_type_of
from kit.bundle import Bundle
from kit.environment import Environment
from kit.errors import NotFoundError, PolicyError, UsageError
from kit.execute import Order, Plan, ResolvedInput, Workbench, finish_plan
from kit.execute.inputs import from_record, newest_success
from kit.execute.plan import choose_parameters
from kit.execute.sources import BUNDLE, look_into_bundle
from kit.graph import BUILD, RELEASE, Stage
from kit.parameter import ResolvedParameter
from kit.record import Record
from kit.workspace import GateContext


def tell_closed(environment: Environment) -> str:
    """Why an environment takes no releases of a training."""
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


@dataclass(frozen=True)
class Candidate:
    """What a gate decides on, and the release notebook that tells of it."""

    environment: Environment
    training: Record
    bundle: Bundle
    stage: Stage
    parameters: tuple[ResolvedParameter, ...]
    inputs: tuple[ResolvedInput, ...]


def preview_release(workbench: Workbench, order: Order) -> Plan:
    """The plan of a release without its gate; to be looked at, not executed: nothing is judged or kept. See `plan_release`."""
    environment = workbench.project.read_environment(order.environment)
    if environment.release is None:
        raise PolicyError(tell_closed(environment))
    training = choose_training(workbench, environment, order)
    code = training.code
    bundle = look_into_bundle(workbench.archive, code.bundle_sha256, code.commit, code.dirty)
    return finish_release(workbench, order, choose_candidate(workbench, order, environment, training, bundle), None)


def choose_candidate(
    workbench: Workbench, order: Order, environment: Environment, training: Record, bundle: Bundle
) -> Candidate:
    """A training and the release notebook of its bundle."""
    graph = bundle.read_graph()
    stage = graph.stage(RELEASE)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = tuple(_release_input(workbench.archive, name, training) for name in stage.inputs)
    return Candidate(environment, training, bundle, stage, parameters, inputs)


def finish_release(workbench: Workbench, order: Order, candidate: Candidate, gate: GateContext | None) -> Plan:
    """The plan of its release notebook; without a gate to be looked at only."""
    return finish_plan(
        workbench,
        order,
        candidate.stage,
        candidate.environment,
        candidate.bundle,
        candidate.training.code.build,
        candidate.parameters,
        candidate.inputs,
        gate=gate,
        subject=candidate.training.id,
        keep=gate is not None,
    )


def choose_training(workbench: Workbench, environment: Environment, order: Order) -> Record:
    """The training that an order names, else the newest of the environment that `[release] from` names.

    Raises:
        UsageError: several are named.
        NotFoundError: there is none.
    """
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
    build = archive.newest(lambda each: (output := each.output(BUNDLE)) is not None and output.sha256 == sha256, BUILD)
    if build is not None:
        return from_record(BUNDLE, build)
    size_bytes = archive.objects.path(sha256).stat().st_size  # the gate refuses a bundle that was never built
    return ResolvedInput(Artifact(BUNDLE, sha256, size_bytes, media_type_of(BUNDLE)), source=f"code of {training.id}")
