"""What exactly will be executed: code, parameters and inputs of one stage, decided before any kernel starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kit.archive import Archive
from kit.bundle import Bundle, make_bundle
from kit.engine.values import Job, Outcome, Progress, Start
from kit.environment import Environment, require_known_parameters
from kit.errors import NotFoundError, PolicyError, UnknownNameError
from kit.execute.inputs import ResolvedInput, resolve_inputs
from kit.execute.signed import require_signed
from kit.files import Clock, canonical_json, sha256_bytes, utc_now
from kit.graph import BUILD, Graph, Stage, require_bound
from kit.parameter import ResolvedParameter, parse_text, resolve_parameters
from kit.project import Project
from kit.record import Code, Record
from kit.signing import PublicKey, parse_public_key
from kit.workspace import GateContext, ReleaseContext

BUNDLE = "bundle.zip"
DEVELOPMENT = "dev"


class Engine(Protocol):
    """Executes a notebook; never raises for what the notebook did."""

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
    is run and may, a sentence each. `key`: digest of all that decides what it gives, see `kit.execute.key`. `start` and
    `preload`: how its kernel shall come to be, see `Job`. `sweep`: digest of the sweep that it is a point of.
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

    @property
    def values(self) -> dict[str, Any]:
        """Parameter values by name."""
        return {parameter.name: parameter.value for parameter in self.parameters}


def plan_stage(workbench: Workbench, order: Order) -> Plan:
    """Plan a stage other than `release` and `run`.

    Raises:
        PolicyError: the environment's policy forbids the code at hand.
        UsageError: parameters, signature or graph are wrong (see `kit.errors`).
        NotFoundError: an input or a build is missing.
    """
    environment = workbench.project.read_environment(order.environment)
    bundle, build = _choose_bundle(workbench, environment, order.stage)
    graph = bundle.read_graph()
    stage = graph.stage(order.stage)
    require_bound(stage, graph, [*environment.data, *order.inputs], environment.name)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = resolve_inputs(stage, graph, environment, workbench.archive, workbench.project.root, order.inputs)
    return finish_plan(workbench, order, stage, environment, bundle, build, parameters, inputs)


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
) -> Plan:
    """Put the decided parts together, and keep the bundle and the effective configuration in the archive.

    Raises:
        PolicyError: the environment demands signed work, and there is no key, or what goes in is not signed.
    """
    records = [build or "", *(each.record for each in inputs)]
    require_signed(workbench.archive, environment, records, workbench.trusted_keys)
    workbench.archive.objects.put_bytes(canonical_json(environment.configuration))
    code = Code(
        bundle_sha256=workbench.archive.objects.put_bytes(bundle.data),
        notebook=stage.notebook,
        notebook_sha256=sha256_bytes(bundle.read(stage.notebook)),
        commit=bundle.commit,
        dirty=bundle.is_dirty,
        build=build,
    )
    return Plan(
        stage,
        environment,
        bundle,
        code,
        parameters,
        tuple(inputs),
        order.timeout_s or environment.limits.timeout_s,
        gate,
        release,
        drift=drift,
        start=choose_start(order, environment),
        sweep=order.sweep,
    )


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


def _choose_bundle(workbench: Workbench, environment: Environment, stage: str) -> tuple[Bundle, str | None]:
    if environment.policy.code == "worktree":
        return make_bundle(workbench.project, tracked_only=False), None
    if stage == BUILD:
        bundle = make_bundle(workbench.project, tracked_only=True)
        if bundle.is_dirty:
            changes = ", ".join(bundle.changes[:5]) + (" …" if len(bundle.changes) > 5 else "")
            raise PolicyError(
                f'environment {environment.name!r} builds committed sources only (policy.code = "build"), but '
                f"{'there is no commit' if bundle.commit is None else f'these differ from the commit: {changes}'}; commit first"
            )
        return bundle, None
    record = workbench.archive.newest(is_clean_build)
    if record is None:
        raise PolicyError(
            f'environment {environment.name!r} executes only what a clean build made (policy.code = "build"), and the '
            f"archive has no succeeded build of committed sources: commit, then run `kit build --env ci`"
        )
    return bundle_of(workbench.archive, record), record.id


def is_clean_build(record: Record) -> bool:
    """True for a succeeded build of exactly a commit's sources."""
    return record.stage == BUILD and record.succeeded and not record.code.dirty and record.output(BUNDLE) is not None


def bundle_of(archive: Archive, record: Record) -> Bundle:
    """The sources that a record executed.

    Raises:
        NotFoundError: they are not in the archive.
        IntegrityError: they were changed there.
    """
    try:
        data = archive.objects.read(record.code.bundle_sha256)
    except NotFoundError as error:
        raise NotFoundError(f"the bundle of record {record.id} is gone: {error}") from error
    return Bundle(data, record.code.commit, ("(as recorded)",) if record.code.dirty else ())
