"""Many stages: which ones an environment needs, one after the other, stopping where one fails; what is up to date is taken."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kit.decision import Waiver
from kit.environment import Environment
from kit.execute import Order, Plan, Workbench, execute_with_retries, plan_stage
from kit.execute.assigned import TARGET
from kit.execute.ordered import execute_ordered
from kit.execute.reuse import find_reusable
from kit.execute.sources import Sources, choose_sources
from kit.gate import Release
from kit.graph import BUILD, RELEASE, RUN, Graph
from kit.record import Record

if TYPE_CHECKING:
    from kit.release import Probes  # imported where something is released: 10 ms that other commands need not spend


@dataclass(frozen=True)
class Step:
    """What one stage of a pipeline left: its record, for `release` also the release that it cut, or why one was refused.

    `waivers`: those that the release rests on. `reused`: nothing was executed, the record was up to date already.
    """

    record: Record
    release: Release | None = None
    reasons: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    reused: bool = False


@dataclass(frozen=True)
class SourcesOnce:
    """The sources of the stages of one pipeline, made once, so that an edit meanwhile gives no stage other ones."""

    _made: dict[bool, Sources] = field(default_factory=dict)

    def choose(self, workbench: Workbench, environment: Environment, stage: str) -> Sources:
        """See `choose_sources`; where only what was built executes, a build has sources of its own."""
        is_own = stage == BUILD and environment.policy.code == "build"
        if is_own not in self._made:
            self._made[is_own] = choose_sources(workbench.project, workbench.archive, environment, stage)
        return self._made[is_own]


def execute_stage(
    workbench: Workbench,
    order: Order,
    release_id: str = "",
    probes: Probes | None = None,
    sources: Sources | None = None,
) -> Step:
    """Plan and execute one stage, whichever it is; with `order.reuse` a record that is up to date is taken instead.

    A release and a run are acts of a person, and always happen.

    Args:
        workbench: project, archive and collaborators.
        order: what was asked for.
        release_id: for `run`: the release to execute, else the live one.
        probes: for `release`: load and query models, check data; None for the real ones.
        sources: for the other stages: what to execute in; None for what is there now.
    """
    if order.stage in (RELEASE, RUN):
        return _execute_release(workbench, order, release_id, probes)
    plan = plan_stage(workbench, order, sources)
    record = find_reusable(workbench, plan) if order.reuse else None
    return Step(record, reused=True) if record else Step(execute_with_retries(workbench, plan))


def _execute_release(workbench: Workbench, order: Order, release_id: str, probes: Probes | None) -> Step:
    from kit.release import PROBES, plan_release, plan_run

    if order.stage == RELEASE:
        return cut(workbench, plan_release(workbench, order, probes or PROBES))
    return Step(execute_with_retries(workbench, plan_run(workbench, order, release_id)))


def promote(
    workbench: Workbench,
    environment: str,
    release_id: str,
    timeout_s: float | None = None,
    probes: Probes | None = None,
) -> Step:
    """Take a release through the gate of another environment.

    Args:
        workbench: project, archive and collaborators.
        environment: where to.
        release_id: the release.
        timeout_s: for the notebook, instead of the environment's.
        probes: load and query models, check data; None for the real ones.
    """
    from kit.release import PROBES, plan_promotion

    order = Order(RELEASE, environment, timeout_s=timeout_s)
    return cut(workbench, plan_promotion(workbench, order, release_id, probes or PROBES))


def cut(workbench: Workbench, plan: Plan) -> Step:
    """Execute a planned release, or promotion, and number what it cut."""
    from kit.release import cut_release

    record, release = cut_release(workbench, plan)
    verdict = plan.gate.verdict if plan.gate else None
    return Step(record, release, verdict.reasons if verdict else (), verdict.waivers if verdict else ())


def execute_all(
    workbench: Workbench,
    environment_name: str,
    probes: Probes | None = None,
    *,
    reuse: bool = False,
    start: Literal["", "cold", "warm"] = "",
    n_workers: int | None = None,
    target: str = TARGET,
) -> Iterator[Step]:
    """Execute the stages that an environment needs; after the first that does not succeed no other begins.

    The build comes first, because it lints and tests what the others execute, release and run come last. Those between are
    executed as soon as their inputs are there, several at a time where they need nothing of each other.

    Args:
        workbench: project, archive and collaborators.
        environment_name: whose stages.
        probes: for `release`: load and query models, check data; None for the real ones.
        reuse: only those that are not up to date.
        start: of the kernels, see `Order`.
        n_workers: stages at a time, at most; None for as many as there are cores.
        target: what a worker process calls, see `execute_ordered`.
    """
    environment = workbench.project.read_environment(environment_name)
    graph, sources = workbench.project.read_graph(), SourcesOnce()
    orders = [Order(name, environment_name, reuse=reuse, start=start) for name in stages_of(environment, graph)]

    def in_turn(*stages: str) -> Iterator[Step]:
        return (_bring_up(workbench, each, environment, sources, probes) for each in orders if each.stage in stages)

    def prepare(order: Order) -> Plan | Record:
        plan = plan_stage(workbench, order, sources.choose(workbench, environment, order.stage))
        return (find_reusable(workbench, plan) if order.reuse else None) or plan

    others = {each.stage: each for each in orders if each.stage not in (BUILD, RELEASE, RUN)}
    ends = execute_ordered(workbench, find_needs(graph, others), lambda name: prepare(others[name]), n_workers, target)
    between = (Step(end.record, reused=end.reused) for end in ends if end.record)
    for steps in (in_turn(BUILD), between, in_turn(RELEASE), in_turn(RUN)):
        failed = False
        for step in steps:  # all of them: what is executed when another fails has an end too
            yield step
            failed = failed or not step.record.succeeded
        if failed:
            return


def find_needs(graph: Graph, names: Collection[str]) -> dict[str, set[str]]:
    """For each of some stages those of them whose outputs it reads."""
    producers = {name: [graph.producer_of(artifact) for artifact in graph.stage(name).inputs] for name in names}
    return {name: {each.name for each in found if each and each.name in names} for name, found in producers.items()}


def _bring_up(
    workbench: Workbench, order: Order, environment: Environment, sources: SourcesOnce, probes: Probes | None
) -> Step:
    """Execute one stage unless it is up to date and may stay so."""
    if order.stage in (RELEASE, RUN):
        return (find_current(workbench, order) if order.reuse else None) or execute_stage(
            workbench, order, probes=probes
        )
    return execute_stage(workbench, order, sources=sources.choose(workbench, environment, order.stage))


def find_current(workbench: Workbench, order: Order) -> Step | None:
    """What is live, or the last run of it, if that is up to date; None if it is to be made."""
    from kit.release.current import judge_release, judge_run

    standing = (judge_release if order.stage == RELEASE else judge_run)(workbench, order)
    if standing.record is None or not standing.is_current:
        return None
    waivers = standing.manifest.verdict.waivers if standing.manifest and order.stage == RELEASE else ()
    return Step(standing.record, standing.release if order.stage == RELEASE else None, (), waivers, reused=True)


def stages_of(environment: Environment, graph: Graph) -> list[str]:
    """Names of the stages that `kit all` executes in an environment, in order.

    Release and run are part of it where the environment has a `[release]` table; building and training are left to the
    environment that the table names, if that is another one.
    """
    names = [stage.name for stage in graph.stages]
    if environment.release is None and environment.policy.promoted_from:
        return [RUN]
    if environment.release is None:
        return [name for name in names if name not in (RELEASE, RUN)]
    if environment.training != environment.name:
        return [name for name in names if name in (RELEASE, RUN)]
    return sorted(names, key=lambda name: (name != BUILD, name == RUN))
