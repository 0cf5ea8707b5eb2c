"""Contenders side by side: whole processes, in interleaved rounds, compared by the medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

WARM_UPS = 1  # rounds that are not counted: byte code, page cache, a warm kernel's server


class Contender(NamedTuple):
    """A command that is measured.

    Attributes:
        name: for the table.
        command: its arguments.
        folder: where it runs.
        variables: added to the environment.
        before: undoes what the last round left; not measured.
        after: says whether the round did what it should; not measured.
    """

    name: str
    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = {}
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


class Cost(NamedTuple):
    """Medians over the rounds. `cpu_s`: of the process and of those that it waited for."""

    wall_s: float
    cpu_s: float


class Goal(NamedTuple):
    """One line of the table: `ours` is at most `limit` times `theirs`; without `theirs` the limit is seconds of CPU."""

    what: str
    ours: str
    theirs: str
    limit: float


class Result(NamedTuple):
    """A line of the table, measured."""

    goal: Goal
    ours_s: float
    theirs_s: float | None

    @property
    def value(self) -> float:
        """The ratio, or the seconds where there is nothing to compare with."""
        return self.ours_s / self.theirs_s if self.theirs_s else self.ours_s

    @property
    def holds(self) -> bool:
        """Whether the goal was met."""
        return self.value <= self.goal.limit


def measure(contenders: Sequence[Contender], n_rounds: int) -> dict[str, Cost]:
    """Run all of them in turn, round by round, so that a busy neighbour is everyone's; gives medians by name."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in contenders}
    for number in range(WARM_UPS + n_rounds):
        for contender in contenders:
            cost = _run(contender)
            if number >= WARM_UPS:
                costs[contender.name].append(cost)
            print(f"  {contender.name}: {cost.wall_s:.3f} s, CPU {cost.cpu_s:.3f} s", file=sys.stderr)
    return {name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in costs.items()}


def compare(goals: Sequence[Goal], costs: Mapping[str, Cost]) -> list[Result]:
    """Each goal with what was measured: wall time against wall time, CPU time where there is only ours."""
    return [
        Result(goal, costs[goal.ours].wall_s, costs[goal.theirs].wall_s)
        if goal.theirs
        else Result(goal, costs[goal.ours].cpu_s, None)
        for goal in goals
    ]


def _run(contender: Contender) -> Cost:
    contender.before()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin, used = time.perf_counter(), os.times()
    done = subprocess.run(
        list(contender.command),
        cwd=contender.folder,
        env={**environment, **contender.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s, now = time.perf_counter() - begin, os.times()
    if done.returncode != 0:
        sys.exit(f"{contender.name}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    contender.after()
    cpu_s = now.children_user - used.children_user + now.children_system - used.children_system
    return Cost(wall_s, cpu_s)
