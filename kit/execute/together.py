"""Plans that are executed at the same time, each by a worker process, as many as cores and memory bear."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType

import msgspec

from kit.archive import Archive
from kit.engine.signals import Interruption
from kit.errors import IntegrityError, NotFoundError
from kit.execute.assigned import TARGET, Executed, Said, assign_plan
from kit.execute.events import PlanEnded, PlanEvent, PlanNoted, PlanProgressed, PlanStarted
from kit.execute.plan import Plan, Workbench
from kit.executors import (
    Event,
    Pool,
    TaskFailed,
    TaskFinished,
    TaskProgressed,
    TaskStarted,
    admit,
    available_memory_bytes,
    divide_threads,
    usable_cores,
)
from kit.files import format_bytes, format_time
from kit.index import Query
from kit.record import ID_TIME, Record, Status

N_EARLIER = 3  # records of a stage that tell how much memory it needs


class PlanPool:
    """Executes plans in worker processes; one that fails stops no other.

    While it is open, Ctrl-C raises nothing here: what is executed is sealed as interrupted, and what waits is withdrawn and
    gets no `PlanEnded`.

    Args:
        workbench: project and archive; the workers have an engine of their own.
        n_workers: plans at a time, > 0; they share the cores.
        target: what a worker calls with each assignment.
    """

    def __init__(self, workbench: Workbench, n_workers: int, target: str = TARGET) -> None:
        self._workbench, self._plans, self._since = workbench, dict[str, Plan](), workbench.clock()
        self._pool = Pool(target, n_workers, divide_threads(n_workers, usable_cores()))
        self._stop = Interruption()

    def __enter__(self) -> PlanPool:
        self._stop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pool.close()
        finally:
            self._stop.__exit__()

    @property
    def is_interrupted(self) -> bool:
        """True once it was asked to stop."""
        return self._stop.is_requested

    def submit(self, name: str, plan: Plan) -> None:
        """Let a plan be executed when its turn comes, unless it was asked to stop; no two have the same name."""
        if not self.is_interrupted:
            self._plans[name] = plan
            self._pool.submit(name, assign_plan(self._workbench, plan))

    def withdraw(self) -> None:
        """Take back the plans that no worker has begun."""
        self._pool.withdraw()

    def events(self) -> Iterator[PlanEvent]:
        """What happens to the plans, until none is left; more may be submitted meanwhile."""
        for event in self._pool.events(self._stop):
            yield self._translate(event)

    def _translate(self, event: Event) -> PlanEvent:
        name, archive = event.task, self._workbench.archive
        match event:
            case TaskStarted():
                return PlanStarted(name)
            case TaskProgressed(value=value):
                said = msgspec.convert(value, Said)
                return PlanProgressed(name, said.progress) if said.progress else PlanNoted(said.note)
            case TaskFinished(value=value):
                return PlanEnded(name, archive.read_record(msgspec.convert(value, Executed).record))
            case TaskFailed(failure=failure):
                return PlanEnded(name, find_left(archive, self._plans[name], self._since), failure)


def find_left(archive: Archive, plan: Plan, since: datetime) -> Record | None:
    """The newest record of a plan that was begun since then, by a process that gave no answer; None if it began none."""
    found = []
    for name in archive.list_ids():
        if name >= f"{since:{ID_TIME}}" and f"-{plan.stage.name}-" in name:
            with contextlib.suppress(IntegrityError, NotFoundError):
                found.append(archive.read_record(name))
    # ids tell seconds, and no order within one; records tell milliseconds
    begun = format_time(since)
    left = [record for record in found if record.key == plan.key and format_time(record.started) >= begun]
    return max(left, key=lambda record: record.started, default=None)


def choose_workers(archive: Archive, stages: Iterable[str], n_wanted: int | None, n_plans: int) -> tuple[int, str]:
    """How many plans are executed at a time, and a sentence if memory allows fewer than were wanted.

    Args:
        archive: earlier records of the stages tell how much memory they need.
        stages: whose plans they are.
        n_wanted: at most; None for as many as there are cores.
        n_plans: that can be executed at the same time.
    """
    n_workers = max(1, min(n_wanted or usable_cores(), n_plans))
    if n_workers == 1:
        return 1, ""
    peaks = {stage: peak_bytes for stage in stages if (peak_bytes := find_peak_memory(archive, stage))}
    stage = max(peaks, key=peaks.__getitem__, default="")
    available_bytes = available_memory_bytes()
    n_admitted = admit(n_workers, peaks.get(stage), available_bytes)
    if n_admitted == n_workers or available_bytes is None:
        return n_workers, ""
    return n_admitted, (
        f"{n_admitted} at a time instead of {n_workers}: stage {stage!r} needed up to {format_bytes(peaks[stage])}, "
        f"{format_bytes(available_bytes)} are available"
    )


def find_peak_memory(archive: Archive, stage: str) -> int | None:
    """The most memory that a kernel needed in the newest succeeded records of a stage, in bytes; None if none tells."""
    rows = archive.search(Query(stage=stage, status=Status.SUCCEEDED, limit=N_EARLIER)).rows
    return max((row.peak_memory_bytes for row in rows if row.peak_memory_bytes), default=None)
