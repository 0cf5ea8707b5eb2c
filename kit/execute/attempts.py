"""Further attempts after failures that may pass by themselves, each with a record of its own."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

from kit.archive import Archive
from kit.environment import StageSettings
from kit.errors import IntegrityError, NotFoundError
from kit.execute.plan import Plan, Workbench
from kit.execute.stage import execute_plan
from kit.graph import RELEASE
from kit.record import Record, Status

LONGEST_PAUSE_S = 3600.0
JITTER = 0.25  # a pause is up to this part longer, so that many who failed together do not come back together

_chance = random.SystemRandom().random  # not the generator that someone may have seeded


def execute_with_retries(
    workbench: Workbench,
    plan: Plan,
    pause: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = _chance,
) -> Record:
    """Execute a plan, and again after a failure that the environment's `[stages.<name>]` calls transient.

    Each attempt is an execution with a sealed record; `attempts` of a later one names those before. What went in is the
    same for all: it was decided in the plan. Never again after success, after an interruption, for a release, whose gate has
    decided before its notebook starts, and for work that is done again as proof.

    Args:
        workbench: project, archive and collaborators.
        plan: what to execute.
        pause: waits for some seconds; Ctrl-C ends the wait, and no further attempt begins.
        chance: a number in [0, 1).

    Returns:
        The record of the last attempt.
    """
    settings = plan.environment.stages.get(plan.stage.name, StageSettings())
    record = execute_plan(workbench, plan)
    failed: list[str] = []
    while len(failed) < settings.retries and not plan.reproduces and is_transient(record, settings):
        failed.append(record.id)
        pause_s = choose_pause(settings.backoff_s, len(failed), chance())
        workbench.notify(
            f"{plan.stage.name}: {record.failure.kind if record.failure else record.status}, which [stages.{plan.stage.name}] "
            f"calls transient; attempt {len(failed) + 1} of {settings.retries + 1} in {pause_s:.1f} s"
        )
        pause(pause_s)
        record = execute_plan(workbench, plan, tuple(failed))
    return record


def is_transient(record: Record, settings: StageSettings) -> bool:
    """True if an execution failed in a way after which another attempt may succeed.

    The kind of a failure is the name of the exception's class, and a kernel tells no more of it: that a class derives from a
    named one is not known here.
    """
    if record.failure is None or record.stage == RELEASE or record.status in (Status.SUCCEEDED, Status.INTERRUPTED):
        return False
    return record.failure.kind in settings.transient


def choose_pause(backoff_s: float, n_failed: int, chance: float) -> float:
    """Seconds before the next attempt: twice as long after each failure, a little more by chance, an hour at most."""
    return min(backoff_s * 2.0 ** (n_failed - 1) * (1.0 + JITTER * chance), LONGEST_PAUSE_S)


def read_attempts(archive: Archive, record: Record) -> list[Record]:
    """Those of a record's earlier attempts that can be read here, oldest first."""
    found = []
    for record_id in record.attempts:
        with contextlib.suppress(IntegrityError, NotFoundError):
            found.append(archive.read_record(record_id))
    return found
