"""How far a scoring is: the value, and one line of text that is written over and over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

import msgspec

INTERVAL_S = 1.0


class Progress(msgspec.Struct, frozen=True):
    """How far a scoring is; `is_done` is true for the last one only."""

    rows: int
    total_rows: int
    elapsed_s: float
    is_done: bool = False

    @property
    def rows_per_s(self) -> float:
        """Rows for each second so far; 0 if no time has passed."""
        return self.rows / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def __str__(self) -> str:
        """`1,310,720 of 50,000,000 rows, 3 %, 1432110 rows/s`."""
        share = 100 * self.rows // max(self.total_rows, 1)
        return f"{self.rows:,} of {self.total_rows:,} rows, {share} %, {self.rows_per_s:.0f} rows/s"


class ProgressLine:
    """Writes progress as one line, at most once a second and once at the end.

    What remains when it is done differs from one execution to the next in its rate only, which a comparison of two
    executions leaves out (`kit.compare.volatile`).
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._next, self._width = clock() + INTERVAL_S, 0

    def __call__(self, progress: Progress) -> None:
        """Write it if it is due."""
        now = self._clock()
        if not progress.is_done and now < self._next:
            return
        self._next = now + INTERVAL_S
        text = str(progress)
        line = ("\r" if self._width else "") + text.ljust(self._width) + ("\n" if progress.is_done else "")
        self._width = len(text)
        self._stream.write(line)
        self._stream.flush()
