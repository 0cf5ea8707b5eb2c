"""Stages in the order that their inputs demand, those that need nothing of each other at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from kit.errors import InterruptedByUserError, KitError, StageError
from kit.execute.assigned import TARGET
from kit.execute.attempts import execute_with_retries
from kit.execute.events import PlanEnded, PlanNoted, PlanProgressed
from kit.execute.plan import Plan, Workbench
from kit.record import Record

if TYPE_CHECKING:
    from kit.execute.together import PlanPool

Prepare = Callable[[str], Plan | Record]


class Schedule:
    """Which stages may begin.

    Args:
        needs: stage -> the stages that must have succeeded before; all of them are keys.

    Attributes:
        is_stopped: True once `stop` was called.
    """

    def __init__(self, needs: Mapping[str, Collection[str]]) -> None:
        self._needs = {name: set(needed) for name, needed in needs.items()}
        self._succeeded: set[str] = set()
        self.is_stopped = False

    def take(self) -> list[str]:
        """The stages that may begin now; each is given once."""
        ready = [name for name, needed in self._needs.items() if needed <= self._succeeded]
        for name in ready:
            del self._needs[name]
        return ready

    def note_success(self, name: str) -> None:
        """Let those begin that waited for this one last."""
        self._succeeded.add(name)

    def stop(self) -> None:
        """Let none begin any more."""
        self.is_stopped = True
        self._needs.clear()


def execute_ordered(
    workbench: Workbench,
    needs: Mapping[str, Collection[str]],
    prepare: Prepare,
    n_workers: int | None = None,
    target: str = TARGET,
) -> Iterator[PlanEnded]:
    """Execute stages, each as soon as what it needs is there. After the first that does not succeed no other begins.

    A stage that nothing else could be executed beside is executed in this process, all others by workers.

    Args:
        workbench: project, archive and collaborators.
        needs: stage -> the stages whose outputs it reads.
        prepare: gives a stage's plan, or the record that makes it needless, once what it needs is there.
        n_workers: stages at a time, at most; None for as many as there are cores. Fewer where memory does not suffice.
        target: what a worker calls with each assignment.

    Yields:
        The end of each, in the order of ending; `record` is always there.

    Raises:
        KitError: what `prepare` raised; what was executed then has ended before.
        StageError: a process died.
        InterruptedByUserError: Ctrl-C came before some stages had begun, and none was sealed as interrupted.
    """
    schedule, plans = Schedule(needs), dict[str, Plan]()
    while True:
        yield from _prepare(schedule, prepare, plans)
        if not plans:
            return
        if len(plans) > 1 and n_workers != 1:
            from kit.execute.together import choose_workers  # not needed where all is up to date

            n_admitted, sentence = choose_workers(workbench.archive, needs, n_workers, measure_width(needs))
            if sentence:
                workbench.notify(sentence)
            yield from _execute_beside(workbench, schedule, prepare, plans, n_admitted, target)
            return
        name = next(iter(plans))
        record = execute_with_retries(workbench, plans.pop(name))
        yield PlanEnded(name, record)
        if not record.succeeded:
            return
        schedule.note_success(name)


def measure_width(needs: Mapping[str, Collection[str]]) -> int:
    """How many stages can be executed at a time: those that as many others must precede, at the widest place."""
    levels: dict[str, int] = {}

    def level_of(name: str) -> int:
        if name not in levels:
            levels[name] = 1 + max((level_of(each) for each in needs[name]), default=0)
        return levels[name]

    found = [level_of(name) for name in needs]
    return max((found.count(level) for level in found), default=0)


def _prepare(schedule: Schedule, prepare: Prepare, plans: dict[str, Plan]) -> Iterator[PlanEnded]:
    """Add the plans of all stages that may begin; gives those that need not be executed, and frees those behind them."""
    while ready := schedule.take():
        for name in ready:
            prepared = prepare(name)
            if isinstance(prepared, Plan):
                plans[name] = prepared
            else:
                schedule.note_success(name)
                yield PlanEnded(name, prepared, reused=True)


def _execute_beside(
    workbench: Workbench, schedule: Schedule, prepare: Prepare, plans: dict[str, Plan], n_workers: int, target: str
) -> Iterator[PlanEnded]:
    from kit.execute.together import PlanPool

    problem: KitError | None = None
    was_sealed = False
    with PlanPool(workbench, n_workers, target) as pool:
        _submit(pool, plans)
        for event in pool.events():
            if isinstance(event, PlanProgressed):
                workbench.on_progress(event.name, event.progress)
            elif isinstance(event, PlanNoted):
                workbench.notify(event.note)
            elif isinstance(event, PlanEnded):
                was_sealed = was_sealed or (event.is_interrupted and _is_closed(event))
                try:
                    yield from _follow(event, schedule, prepare, plans)
                except KitError as error:  # others are executed still
                    problem = problem or error
                    schedule.stop()
                    plans.clear()
                if schedule.is_stopped:
                    pool.withdraw()
                _submit(pool, plans)
        if pool.is_interrupted and not was_sealed:
            raise InterruptedByUserError
    if problem:
        raise problem


def _follow(event: PlanEnded, schedule: Schedule, prepare: Prepare, plans: dict[str, Plan]) -> Iterator[PlanEnded]:
    """Give the end of a stage, and prepare those that waited for it."""
    record = event.record
    if not _is_closed(event) and not event.is_interrupted:
        why = f"{event.failure.kind}: {event.failure.message}" if event.failure else "it gave no answer"
        raise StageError(f"stage {event.name!r} was not executed to its end: {why}", record.id if record else "")
    if _is_closed(event):
        yield event
    if record and record.succeeded:
        schedule.note_success(event.name)
        yield from _prepare(schedule, prepare, plans)
    else:
        schedule.stop()


def _is_closed(event: PlanEnded) -> bool:
    return event.record is not None and event.record.ended is not None


def _submit(pool: PlanPool, plans: dict[str, Plan]) -> None:
    for name in list(plans):
        pool.submit(name, plans.pop(name))
