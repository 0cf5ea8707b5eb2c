"""What exactly will be executed: code, parameters and inputs of one stage, decided before any kernel starts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from kit.archive import Archive
from kit.bundle import Bundle
from kit.digests import Digests
from kit.engine.values import Job, Outcome, Progress, Start
from kit.environment import Environment, require_known_parameters
from kit.errors import UnknownNameError
from kit.execute.inputs import ResolvedInput, resolve_inputs
from kit.execute.key import StageKey, describe_parameters, make_key
from kit.execute.measure import measure_inputs
from kit.execute.signed import require_signed
from kit.execute.sources import Sources, choose_sources
from kit.execute.surroundings import look_around
from kit.files import Clock, canonical_json, sha256_bytes, tell_look, utc_now
from kit.graph import Graph, Stage, require_bound
from kit.notebook.imports import Reach
from kit.parameter import ResolvedParameter, parse_text, resolve_parameters
from kit.project import Project
from kit.record import Code
from kit.signing import PublicKey, parse_public_key
from kit.workspace import GateContext, ReleaseContext

DEVELOPMENT = "dev"


class Engine(Protocol):
    """Executes a notebook; never raises for what the notebook did."""

    def prepare(self, start: Start, preload: tuple[str, ...]) -> None:
        """Begin to start the kernel of the next job, see `Job`; returns at once."""

    def execute(self, job: Job, progress: Callable[[Progress], None]) -> Outcome:
        """Execute it."""


@dataclass(frozen=True)
class Workbench:
    """What use cases work with: the project, its archive, and the collaborators that tests replace."""

    project: Project
    archive: Archive
    engine: Engine
    clock: Clock = utc_now
    notify: Callable[[str], None] = lambda _: None
    on_progress: Callable[[str, Progress], None] = lambda _stage, _progress: None
    now_ns: Callable[[], int] = time.time_ns  # for stamps of files, which come from the system's clock

    @property
    def digests(self) -> Digests:
        """What is known of files that have not changed since they were hashed."""
        return Digests(self.project.digests, self.now_ns)

    @property
    def trusted_keys(self) -> tuple[PublicKey, ...]:
        """The keys whose signatures count here: those that the project names; without any the one that signs here."""
        own = (self.archive.key.public,) if self.archive.key else ()
        return tuple(map(parse_public_key, self.project.trusted_keys)) or own


@dataclass(frozen=True)
class Order:
    """What a person asked for.

    Attributes:
        stage: its name.
        environment: its name.
        parameters: name -> text, as the command line has them.
        inputs: input name -> record id or path.
        timeout_s: instead of the environment's.
        allow_drift: for `run`: execute a release although something differs from it, where its policy permits that.
        reuse: take a succeeded, intact record of the same key instead of executing again.
        start: `cold` or `warm`; empty for what the environment has by default.
        sweep: digest of the sweep that this is a point of.
    """

    stage: str
    environment: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    allow_drift: bool = False
    reuse: bool = False
    start: Literal["", "cold", "warm"] = ""
    sweep: str = ""


@dataclass(frozen=True)
class Plan:
    """What will be executed, down to the digest. Nothing of it is decided later.

    `reproduces` is the id of the record that is executed again, if it is one; `drift` what differs from the release that
    is run and may, a sentence each. `key`: digest of all that decides what it gives, and `parts` what that is, see
    `kit.execute.key`. `start` and `preload`: how its kernel shall come to be, see `Job`; `variables`: of its environment.
    `sweep`: digest of the sweep that it is a point of.
    """

    stage: Stage
    environment: Environment
    bundle: Bundle
    code: Code
    parameters: tuple[ResolvedParameter, ...]
    inputs: tuple[ResolvedInput, ...]
    timeout_s: float
    gate: GateContext | None = None
    release: ReleaseContext | None = None
    reproduces: str | None = None
    drift: tuple[str, ...] = ()
    key: str = ""
    start: Start = Start.COLD
    preload: tuple[str, ...] = ()
    sweep: str = ""
    parts: StageKey | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Parameter values by name."""
        return {parameter.name: parameter.value for parameter in self.parameters}


def plan_stage(workbench: Workbench, order: Order, sources: Sources | None = None, *, keep: bool = True) -> Plan:
    """Plan a stage other than `release` and `run`.

    Args:
        workbench: project, archive and collaborators.
        order: what was asked for.
        sources: to execute in; None for those that `choose_sources` gives.
        keep: put into the archive what the plan names. A plan that nothing was kept of is to be looked at, not executed.

    Raises:
        PolicyError: the environment's policy forbids the code at hand.
        UsageError: parameters, signature or graph are wrong (see `kit.errors`).
        NotFoundError: an input or a build is missing.
    """
    environment = workbench.project.read_environment(order.environment)
    sources = sources or choose_sources(workbench.project, workbench.archive, environment, order.stage)
    graph = sources.bundle.read_graph()
    stage = graph.stage(order.stage)
    require_bound(stage, graph, [*environment.data, *order.inputs], environment.name)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = find_inputs(workbench, stage, graph, environment, order.inputs, keep=keep)
    return finish_plan(
        workbench, order, stage, environment, sources.bundle, sources.build, parameters, inputs, keep=keep
    )


def find_inputs(
    workbench: Workbench, stage: Stage, graph: Graph, environment: Environment, named: Mapping[str, str], *, keep: bool
) -> tuple[ResolvedInput, ...]:
    """What a stage reads; with `keep` the data sources are in the archive afterwards. See `resolve_inputs`."""
    archive, root, digests = workbench.archive, workbench.project.root, workbench.digests
    for name in set(stage.inputs) & set(environment.data):
        tell_look(f"{root}/{environment.data[name]}")  # which may be a link
    if not keep:
        return measure_inputs(stage, graph, environment, archive, root, digests)
    return resolve_inputs(stage, graph, environment, archive, root, named, digests)


def finish_plan(
    workbench: Workbench,
    order: Order,
    stage: Stage,
    environment: Environment,
    bundle: Bundle,
    build: str | None,
    parameters: tuple[ResolvedParameter, ...],
    inputs: Sequence[ResolvedInput],
    gate: GateContext | None = None,
    release: ReleaseContext | None = None,
    drift: tuple[str, ...] = (),
    subject: str = "",
    *,
    keep: bool = True,
) -> Plan:
    """Put the decided parts together, and keep the bundle and the effective configuration in the archive.

    Args:
        workbench: project, archive and collaborators.
        order: what was asked for.
        stage: of the bundle.
        environment: its configuration.
        bundle: the sources.
        build: id of the record that made them; None for an ad-hoc bundle.
        parameters: resolved.
        inputs: resolved.
        gate: of a release.
        release: that is run.
        drift: what differs from it and may.
        subject: id of the training that is released; part of the key, as the id of a release that is run is.
        keep: see `plan_stage`.

    Raises:
        PolicyError: the environment demands signed work, and there is no key, or what goes in is not signed.
    """
    if keep:
        records = [build or "", *(each.record for each in inputs)]
        trusted = workbench.trusted_keys if environment.policy.signed else ()
        require_signed(workbench.archive, environment, records, trusted)
        workbench.archive.objects.put_bytes(bundle.data)
        workbench.archive.objects.put_bytes(canonical_json(environment.configuration))
    subject = subject or (release.id if release else "")
    parts, reach = make_key(
        stage,
        environment,
        bundle,
        parameters,
        {each.artifact.name: each.artifact.sha256 for each in inputs},
        look_around(),
        workbench.project.lock,
        {"id": subject, "configuration": environment.sha256} if subject else {},
        drift,
    )
    return Plan(
        stage,
        environment,
        bundle,
        _describe_code(stage, bundle, build),
        parameters,
        tuple(inputs),
        order.timeout_s or environment.limits.timeout_s,
        gate,
        release,
        drift=drift,
        key=parts.sha256,
        start=choose_start(order, environment),
        preload=reach.modules,
        variables=_start_variables(reach),
        sweep=order.sweep,
        parts=parts,
    )


def _start_variables(reach: Reach) -> dict[str, str]:
    """Of a notebook that pins determinism: what must hold before anything it imports is, which may be before it starts."""
    if "make_deterministic" not in reach.attributes:
        return {}
    from kit.model.determinism import start_variables

    return start_variables()


def _describe_code(stage: Stage, bundle: Bundle, build: str | None) -> Code:
    return Code(
        bundle_sha256=bundle.sha256,
        notebook=stage.notebook,
        notebook_sha256=sha256_bytes(bundle.read(stage.notebook)),
        commit=bundle.commit,
        dirty=bundle.is_dirty,
        build=build,
    )


def with_parameters(plan: Plan, parameters: tuple[ResolvedParameter, ...]) -> Plan:
    """The same plan for other parameter values, with the key that these make."""
    if plan.parts is None:
        raise ValueError("a plan without the parts of its key cannot be given other parameters")
    parts = msgspec.structs.replace(plan.parts, parameters=describe_parameters(parameters))
    return dataclasses.replace(plan, parameters=parameters, parts=parts, key=parts.sha256)


def choose_start(order: Order, environment: Environment) -> Start:
    """How the kernel comes to be: as asked for, else warm while one works on it, and cold where only a build may execute."""
    if order.start:
        return Start(order.start)
    if environment.policy.code == "build":
        return Start.COLD
    return Start.WARM if environment.name == DEVELOPMENT or order.sweep else Start.READY


def choose_parameters(
    stage: Stage, graph: Graph, environment: Environment, texts: Mapping[str, str]
) -> tuple[ResolvedParameter, ...]:
    """Merge notebook < environment < command line for one stage; texts are read by the declared types."""
    require_known_parameters(environment, graph)
    declared = {parameter.name: parameter for parameter in stage.parameters}
    where = f"declared in {stage.notebook}"
    for name in texts:
        if name not in declared:
            raise UnknownNameError(f"stage {stage.name!r}: parameter", name, declared, where)
    values = {name: parse_text(declared[name], text) for name, text in texts.items()}
    return resolve_parameters(stage.parameters, environment.parameters_for(stage, graph), values, where)
