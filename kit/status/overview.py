"""How the stages of an environment stand. Nothing is executed, and nothing is written into the archive."""

from __future__ import annotations

from kit.environment import Environment
from kit.errors import KitError, NotFoundError
from kit.execute import Order, Plan, Workbench, plan_stage
from kit.execute.carried import find_carried_change
from kit.execute.reuse import find_fault
from kit.execute.sources import BUNDLE, Sources
from kit.execute.surroundings import look_around
from kit.graph import BUILD, RELEASE, RUN, Graph
from kit.pipeline import SourcesOnce, stages_of
from kit.record import Record, Status
from kit.release.current import Standing, judge_release, judge_run
from kit.status.latest import find_latest
from kit.status.values import Kind, Overview, Reason, StageStatus, State, describe_state


def read_overview(workbench: Workbench, environment_name: str) -> Overview:
    """How the stages that `kit all` would execute stand, by the same keys.

    A stage whose input is to be made again is stale, too; if the bytes turn out the same, it is taken after all.

    Args:
        workbench: project and archive; the archive's folder may not be there.
        environment_name: whose stages.

    Raises:
        UsageError: the environment or a notebook's signature cannot be read.
    """
    environment = workbench.project.read_environment(environment_name)
    graph = workbench.project.read_graph()
    look = _Look(workbench, environment, graph)
    for name in stages_of(environment, graph):
        look.at(name)
    return Overview(environment.name, tuple(look.found.values()))


_Judged = tuple[
    Plan, Record | None, str, tuple[Reason, ...]
]  # what would be executed, what is there, release, why another


class _Look:
    """One look at all stages, in order.

    Attributes:
        found: how each stage stands, by name.
    """

    def __init__(self, workbench: Workbench, environment: Environment, graph: Graph) -> None:
        self._workbench, self._environment, self._graph = workbench, environment, graph
        self._sources = SourcesOnce()
        self.found: dict[str, StageStatus] = {}

    def at(self, name: str) -> None:
        """Find out how a stage stands."""
        archive, record = self._workbench.archive, None
        latest = find_latest(archive, name, self._environment.name)
        try:
            record = archive.newest_of(name, self._environment.name)
            judge = self._judge_act if name in (RELEASE, RUN) else self._judge_stage
            plan, record, release, reasons = judge(name, record)
        except NotFoundError as error:
            state = State.NEVER if record is None else State.BLOCKED
            self.found[name] = _status(name, state, record, latest, (Reason(Kind.INPUT, detail=str(error)),))
            return
        except (KitError, OSError) as error:
            self.found[name] = _status(name, State.BLOCKED, record, latest, (Reason(Kind.RECORD, detail=str(error)),))
            return
        reasons = (*reasons, *self._list_waiting(name))
        state = _choose_state(plan, record, latest, reasons)
        self.found[name] = _status(name, state, record, latest, reasons, release)

    def _judge_stage(self, name: str, record: Record | None) -> _Judged:
        workbench = self._workbench
        plan = plan_stage(workbench, Order(name, self._environment.name), self._choose_sources(name), keep=False)
        if record is None:
            return plan, None, "", ()
        reasons = self._explain(record, plan)
        if not reasons and (fault := find_fault(workbench, record, self._environment)):
            reasons = (Reason(Kind.RECORD, record.id, detail=fault),)
        if not reasons and (path := find_carried_change(workbench.archive, record, plan)):
            reasons = (
                Reason(Kind.CARRIED, path, detail="a release of this stage's record would take it along as it was"),
            )
        return plan, record, "", reasons

    def _judge_act(self, name: str, record: Record | None) -> _Judged:
        order = Order(name, self._environment.name)
        standing = (judge_release if name == RELEASE else judge_run)(self._workbench, order)
        release = standing.release.id if standing.release else ""
        if standing.record is None and record is None:
            return standing.plan, None, release, ()
        return standing.plan, standing.record or record, release, self._explain_act(standing)

    def _explain_act(self, standing: Standing) -> tuple[Reason, ...]:
        told = tuple(Reason(Kind.RELEASE, detail=each) for each in standing.reasons)
        if standing.record is None:
            return told
        changes = self._explain(standing.record, standing.plan)
        return (*told, *(each for each in changes if each.kind is not Kind.RECORD or not told))

    def _explain(self, record: Record, plan: Plan) -> tuple[Reason, ...]:
        """In what the plan's key differs from the record's."""
        if record.key == plan.key:
            return ()
        from kit.status.explain import explain_change  # with all of kit.diff, which what is up to date does not need

        archive, lock = self._workbench.archive, self._workbench.project.lock
        return explain_change(archive, record, plan, lock, look_around().packages)

    def _choose_sources(self, name: str) -> Sources:
        """What `kit all` would execute in: where a build is to be made first, what that would make."""
        is_built = self._environment.policy.code == "build" and name != BUILD and BUILD in self.found
        if is_built and self.found[BUILD].state not in (State.UP_TO_DATE, State.BLOCKED):
            return self._sources.choose(self._workbench, self._environment, BUILD)
        return self._sources.choose(self._workbench, self._environment, name)

    def _list_waiting(self, name: str) -> list[Reason]:
        """Inputs that will be made again before."""
        artifacts = dict.fromkeys(self._graph.stage(name).inputs)
        if name == RELEASE:  # its bundle is the one that trained, whatever is built since
            artifacts = dict.fromkeys([*artifacts, self._environment.gates.model])
            artifacts.pop(BUNDLE, None)
        found = []
        for artifact in artifacts:
            producer = self._graph.producer_of(artifact)
            status = self.found.get(producer.name) if producer else None
            if producer and status and status.state is not State.UP_TO_DATE:
                found.append(
                    Reason(Kind.INPUT, artifact, detail=f"{describe_state(producer.name, status.state)} itself")
                )
        return found


def _choose_state(plan: Plan, record: Record | None, latest: Record | None, reasons: tuple[Reason, ...]) -> State:
    if record is not None and not reasons:
        return State.UP_TO_DATE
    if latest is not None and latest.status is Status.STARTED:
        return State.RUNNING
    if latest is not None and not latest.succeeded and latest.key == plan.key:
        return State.FAILED
    return State.NEVER if record is None else State.STALE


def _status(
    name: str,
    state: State,
    record: Record | None,
    latest: Record | None,
    reasons: tuple[Reason, ...],
    release: str = "",
) -> StageStatus:
    is_other = latest is not None and (record is None or latest.id != record.id) and not latest.succeeded
    return StageStatus(
        stage=name,
        state=state,
        record=record.id if record else "",
        when=record.ended if record else None,
        release=release,
        reasons=reasons,
        latest=latest.id if latest and is_other else "",
        failure=latest.failure if latest and is_other else None,
    )
