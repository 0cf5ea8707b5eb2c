"""What is told of plans while they are executed."""

from __future__ import annotations

from dataclasses import dataclass

from kit.engine.values import Progress
from kit.record import Failure, Record, Status


@dataclass(frozen=True, slots=True)
class PlanStarted:
    """A worker has begun with a plan."""

    name: str


@dataclass(frozen=True, slots=True)
class PlanProgressed:
    """How far it is."""

    name: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class PlanNoted:
    """A sentence for people; several plans may give the same."""

    note: str


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """A plan has a result, or never will.

    Attributes:
        name: as it was submitted.
        record: whatever its status, `lost` if its process died; None if none was begun.
        failure: why its process gave no answer; None if it did.
        reused: True if the record was there before.
    """

    name: str
    record: Record | None
    failure: Failure | None = None
    reused: bool = False

    @property
    def is_interrupted(self) -> bool:
        """True if it ended because someone asked for it."""
        if self.record and self.record.ended:
            return self.record.status is Status.INTERRUPTED
        from kit.executors import INTERRUPTED

        return self.failure is not None and self.failure.kind == INTERRUPTED


PlanEvent = PlanStarted | PlanProgressed | PlanNoted | PlanEnded
