"""The process of one worker: `python -P -m kit.executors.worker MODULE:FUNCTION DESCRIPTOR PARENT`.

It reads tasks from a socket, calls the function with each, and answers there; what the function prints goes elsewhere.
It cannot outlive the process that started it: Linux ends it at once (prctl(2), PR_SET_PDEATHSIG), elsewhere it ends when
the socket does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import msgspec

from kit.errors import KitError
from kit.executors.messages import INTERRUPTED, Failed, Finished, Progressed, Task, encode_line
from kit.record import Failure

PR_SET_PDEATHSIG = 1

# the task, and a function for progress; both of values that msgspec can write as JSON
Target = Callable[[Any, Callable[[Any], None]], Any]


class Attention:
    """SIGINT raises KeyboardInterrupt while a task is worked on, or when the next begins: the pool has sent it already."""

    def __init__(self) -> None:
        self._is_busy = self._is_asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """As a signal handler."""
        if self._is_busy:
            raise KeyboardInterrupt
        self._is_asked = True

    def __enter__(self) -> None:
        self._is_busy = True
        if self._is_asked:
            self._is_busy = self._is_asked = False
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        self._is_busy = False


def main(arguments: Sequence[str]) -> None:
    """Work until the socket ends."""
    target, descriptor, parent = arguments
    die_with(int(parent))
    attention = Attention()
    signal.signal(signal.SIGINT, attention)
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)  # no process that a task starts keeps it open
    serve(connection, target, attention)


def serve(connection: socket.socket, target: str, attention: Attention) -> None:
    """Answer each task in turn, until one fails: what it left half done ends with the process."""

    def report(value: Any) -> None:
        connection.sendall(encode_line(Progressed(value)))

    with connection, connection.makefile("rb") as lines:
        for line in lines:
            answer, is_well = work_on(line, target, attention, report)
            connection.sendall(answer)
            if not is_well:
                return


def work_on(line: bytes, target: str, attention: Attention, report: Callable[[Any], None]) -> tuple[bytes, bool]:
    """Call the target with one task; gives the line to answer with, and whether it finished."""
    try:
        with attention:
            function, kind = load_target(target)
            task = msgspec.convert(msgspec.json.decode(line, type=Task).value, kind)
            return encode_line(Finished(function(task, report))), True
    except KeyboardInterrupt:
        failure = Failure(INTERRUPTED, "interrupted before it could answer")
    except Exception as error:  # noqa: BLE001 - the outermost edge of this process: whatever it is, it is the answer
        if not isinstance(error, KitError):
            traceback.print_exc()
        failure = Failure(type(error).__name__, str(error))
    return encode_line(Failed(failure)), False


def load_target(target: str) -> tuple[Target, Any]:
    """The function that `module:function` names, and the type that it declares for its task.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such function.
    """
    module, _, name = target.partition(":")
    function: Target = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    hints.pop("return", None)
    return function, next(iter(hints.values()), Any)


def die_with(parent: int) -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent was gone before we asked


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the pool has gone; there is no one to tell
        main(sys.argv[1:])
    os._exit(0)  # nothing is open any more; taking the imported libraries apart would only cost time
