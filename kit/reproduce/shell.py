"""Other programs that a reproduction starts: uv, and kit itself in a rebuilt environment."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

from kit.errors import UndecidableError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


class Shell(Protocol):
    """Starts programs; a fake in tests."""

    def run(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, *, aloud: bool) -> Ended:
        """Run a program to its end.

        Args:
            command: program and arguments.
            variables: its whole environment.
            folder: that it works in.
            aloud: its standard error goes where ours goes, and is not in the result.
        """


class RealShell:
    """Starts them."""

    def run(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, *, aloud: bool) -> Ended:
        """Run a program to its end; a signal to end this one is handed on, and the program left the time to obey.

        Raises:
            UndecidableError: there is no such program.
            KeyboardInterrupt: a signal was handed on; the program has ended.
        """
        err = None if aloud else subprocess.PIPE
        with _Forwarding() as forwarding:
            try:
                process = subprocess.Popen(
                    command,
                    env=dict(variables),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=err,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # so that Ctrl-C, which a terminal sends to a whole group, comes once: by us
                )
            except OSError as error:
                raise UndecidableError(f"{command[0]} cannot be started: {error}") from error
            with process:
                forwarding.begin(process)
                out, said = process.communicate()
        if forwarding.received:
            raise KeyboardInterrupt
        return Ended(process.returncode, out, said or "")


class _Forwarding:
    """While entered, signals to end this process go to another one instead; what was ignored stays ignored (nohup)."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._process: subprocess.Popen[str] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Forwarding:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python delivers no signals
            for number in _ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def begin(self, process: subprocess.Popen[str]) -> None:
        """Name the process; what came before it was started is handed on now."""
        self._process = process
        for number in tuple(self.received):
            process.send_signal(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)
        if self._process is not None:
            self._process.send_signal(number)  # does nothing if it has ended
