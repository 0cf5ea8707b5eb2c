"""The entry point: what has changed nothing since it was asked last is answered before anything else is imported."""

from __future__ import annotations

import gc
import io
import sys
import time

from kit.cli.memo.recall import ask, recall, say

N_BEFORE_COLLECTION = 50_000  # new objects; with Python's 700 to 2,000 an eighth of a short command goes into that
TYPE_CHECKING = False  # see kit.cli.memo.recall
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None, clock: Callable[[], int] = time.time_ns) -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong use, 3 cannot be decided here, 130 interrupted.

    Args:
        arguments: words of the command line; None for those that the process was started with.
        clock: the present, ns since 1970.
    """
    texts = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks is written out
    question = ask(texts, clock)
    said = recall(question) if question else None
    if said is not None:
        sys.exit(_repeat(texts, said))
    if arguments is None:  # a process of its own
        gc.set_threshold(N_BEFORE_COLLECTION)
    from kit.cli.group import execute

    code = execute(texts, question)
    if arguments is None:
        gc.freeze()  # what is left goes with the process
    sys.exit(code)


def _repeat(texts: Sequence[str], said: Sequence[tuple[int, str]]) -> int:
    """Say what was said; gives the exit code."""
    try:
        say(said)
    except OSError as error:
        from kit.cli.group import conclude

        return conclude(texts, _Failing(error))
    return 0


class _Failing:
    """An action that ends with an error."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error
