"""Many stages: which ones an environment needs, one after the other, stopping where one fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kit.decision import Waiver
from kit.environment import Environment
from kit.execute import Order, Plan, Workbench, execute_plan, plan_stage
from kit.gate import Release
from kit.graph import BUILD, RELEASE, RUN, Graph
from kit.record import Record
from kit.release import PROBES, Probes, cut_release, plan_promotion, plan_release, plan_run


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


def execute_stage(workbench: Workbench, order: Order, release_id: str = "", probes: Probes = PROBES) -> Step:
    """Plan and execute one stage, whichever it is.

    Args:
        workbench: project, archive and collaborators.
        order: what was asked for.
        release_id: for `run`: the release to execute, else the live one.
        probes: for `release`: load and query models, check data.
    """
    if order.stage == RELEASE:
        return cut(workbench, plan_release(workbench, order, probes))
    plan = plan_run(workbench, order, release_id) if order.stage == RUN else plan_stage(workbench, order)
    return Step(execute_plan(workbench, plan))


def promote(
    workbench: Workbench, environment: str, release_id: str, timeout_s: float | None = None, probes: Probes = PROBES
) -> Step:
    """Take a release through the gate of another environment.

    Args:
        workbench: project, archive and collaborators.
        environment: where to.
        release_id: the release.
        timeout_s: for the notebook, instead of the environment's.
        probes: load and query models, check data.
    """
    order = Order(RELEASE, environment, timeout_s=timeout_s)
    return cut(workbench, plan_promotion(workbench, order, release_id, probes))


def cut(workbench: Workbench, plan: Plan) -> Step:
    """Execute a planned release, or promotion, and number what it cut."""
    record, release = cut_release(workbench, plan)
    verdict = plan.gate.verdict if plan.gate else None
    return Step(record, release, verdict.reasons if verdict else (), verdict.waivers if verdict else ())


def execute_all(workbench: Workbench, environment_name: str, probes: Probes = PROBES) -> Iterator[Step]:
    """Execute the stages that an environment needs, in order; ends after the first that does not succeed."""
    environment = workbench.project.read_environment(environment_name)
    for stage in stages_of(environment, workbench.project.read_graph()):
        step = execute_stage(workbench, Order(stage, environment_name), probes=probes)
        yield step
        if not step.record.succeeded:
            return


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
