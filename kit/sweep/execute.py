"""Executing a sweep: points that are known are taken, the others go to worker processes, and each leaves its own record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kit.execute import Workbench
from kit.execute.assigned import TARGET
from kit.execute.events import PlanEnded, PlanEvent, PlanNoted
from kit.execute.reuse import find_reusable
from kit.execute.together import PlanPool, choose_workers
from kit.sweep.plan import PlannedSweep
from kit.sweep.read import Sweep

MAX_UNBEGUN = 5


def execute_sweep(
    workbench: Workbench,
    sweep: PlannedSweep,
    n_workers: int | None = None,
    *,
    reuse: bool = True,
    target: str = TARGET,
) -> Iterator[PlanEvent]:
    """Execute the points of a sweep that have no result yet; one that fails stops no other.

    Ctrl-C ends it early: what is executed then is sealed as interrupted, and what waits gets no `PlanEnded`. It also ends
    when `MAX_UNBEGUN` points in a row could not even begin.

    Args:
        workbench: project and archive; the workers have an engine of their own.
        sweep: what to execute.
        n_workers: points at a time, at most; None for as many as there are cores. Fewer where memory does not suffice.
        reuse: take a succeeded, intact record of the same key, from this sweep or any other execution.
        target: what a worker calls with each assignment.

    Yields:
        What happens; a point is named by its index in the definition.
    """
    left = []
    for index, plan in enumerate(sweep.plans):
        record = find_reusable(workbench, plan) if reuse else None
        if record:
            yield PlanEnded(str(index), record, reused=True)
        else:
            left.append(index)
    if not left:
        return
    n_admitted, sentence = choose_workers(workbench.archive, [sweep.definition.stage], n_workers, len(left))
    if sentence:
        yield PlanNoted(sentence)
    with PlanPool(workbench, n_admitted, target) as pool:
        for index in left:
            pool.submit(str(index), sweep.plans[index])
        yield from _give_up_early(pool)


def _give_up_early(pool: PlanPool) -> Iterator[PlanEvent]:
    """What happens, until none of several points in a row could begin: what keeps them from it would keep the others too."""
    n_unbegun = 0
    for event in pool.events():
        yield event
        if isinstance(event, PlanEnded) and not event.is_interrupted:
            n_unbegun = 0 if event.record else n_unbegun + 1
            if n_unbegun == MAX_UNBEGUN:
                pool.withdraw()
                yield PlanNoted(f"{n_unbegun} points in a row could not even begin; the others are left out")


def collect_results(sweep: PlannedSweep, ended: Mapping[str, PlanEnded]) -> Sweep:
    """A sweep with what its execution left.

    Args:
        sweep: what was executed.
        ended: by the point's name.
    """
    names = [str(index) for index in range(len(sweep.plans))]
    records = tuple(ended[name].record if name in ended else None for name in names)
    failures = {int(name): each.failure for name, each in ended.items() if each.failure and not each.is_interrupted}
    return Sweep(sweep.definition, records, failures)
