"""A sweep while it is executed: a few lines that are redrawn on a terminal, a line for each point that ends elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kit.cli.terminal import clip, is_redrawn, printable

if TYPE_CHECKING:
    from kit.engine.values import Progress
    from kit.execute.events import PlanEnded, PlanEvent

REDRAWN_S = 0.1
MAX_RUNNING = 16  # lines of points that are executed


class LiveSweep:
    """What a person sees of a sweep that is executed, on stderr.

    Args:
        title: `sweep-4f09c1a2b3c4, train in dev`.
        labels: of all points, such as `learning_rate=0.001 units=32`.
    """

    def __init__(self, title: str, labels: Sequence[str]) -> None:
        self._title, self._labels = title, labels
        self._ended: Counter[str] = Counter()
        self._running: dict[int, Progress | None] = {}
        self._notes: set[str] = set()
        self._began, self._drawn, self._n_lines = time.monotonic(), 0.0, 0
        self._is_redrawn = is_redrawn()

    def show(self, event: PlanEvent) -> None:
        """Show what has just happened."""
        from kit.execute.events import PlanEnded, PlanNoted, PlanProgressed, PlanStarted

        match event:
            case PlanStarted(name):
                self._running[int(name)] = None
            case PlanProgressed(name, progress):
                self._running[int(name)] = progress
            case PlanNoted(note):
                self.say(note)
            case PlanEnded():
                self._end(event)
        if self._is_redrawn and time.monotonic() - self._drawn > REDRAWN_S:
            self._draw()

    def say(self, sentence: str) -> None:
        """A sentence above the lines, once, however many points say it."""
        if sentence and sentence not in self._notes:
            self._notes.add(sentence)
            self._write([printable(sentence, None)])

    def close(self) -> None:
        """Leave the summary on the screen."""
        self._running.clear()
        self._write([self._summarise()])

    def _end(self, event: PlanEnded) -> None:
        index = int(event.name)
        self._running.pop(index, None)
        status = status_of(event)
        self._ended["reused" if event.reused else status] += 1
        if not self._is_redrawn or status not in ("succeeded", "interrupted"):
            n_ended = sum(self._ended.values())
            parts = [f"{n_ended} of {len(self._labels)}", self._labels[index], status, _explain(event)]
            self._write([printable(": ".join(part for part in parts if part))])

    def _summarise(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self._ended.items())
        n_waiting = len(self._labels) - sum(self._ended.values()) - len(self._running)
        waiting = f"{n_waiting} waiting" if n_waiting else ""
        parts = [counts, f"{len(self._running)} running" if self._running else "", waiting]
        return f"{self._title}: {', '.join(part for part in parts if part)}, {time.monotonic() - self._began:.0f} s"

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        n_shown = max(1, min(MAX_RUNNING, size.lines - 3))  # what has left the screen at its top cannot be redrawn
        running = list(self._running.items())
        lines = [f"  {self._labels[index]}{_tell_progress(progress)}" for index, progress in running[:n_shown]]
        if len(running) > n_shown:
            lines.append(f"  and {len(running) - n_shown} more")
        self._write(
            [clip(printable(line, None), size.columns - 1) for line in [self._summarise(), *lines]], stays=False
        )

    def _write(self, lines: Sequence[str], *, stays: bool = True) -> None:
        above = f"\033[{self._n_lines}F\033[J" if self._n_lines else ""
        with contextlib.suppress(OSError):  # that nobody reads it is no reason to stop
            sys.stderr.write("\n".join([f"{above}{lines[0]}", *lines[1:], ""]))
            sys.stderr.flush()
        self._n_lines, self._drawn = (0 if stays else len(lines)), 0.0 if stays else time.monotonic()


def status_of(event: PlanEnded) -> str:
    """How a point ended: its record's status, else what its process left."""
    if event.record:
        return event.record.status.value
    return "interrupted" if event.is_interrupted else "failed"


def _explain(event: PlanEnded) -> str:
    """Why a point did not succeed; empty for one that did."""
    failure = event.failure or (event.record and event.record.failure)
    return f"{failure.kind}: {failure.message}" if failure else ""


def _tell_progress(progress: Progress | None) -> str:
    if progress is None:
        return ""
    return f": cell {min(progress.n_done + 1, progress.n_cells)} of {progress.n_cells}, {progress.elapsed_s:.1f} s"
