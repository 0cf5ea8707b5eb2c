"""Ctrl-C, SIGTERM and the end of the terminal, as a request that the engine answers in its own time."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

# Windows has no SIGHUP.
NUMBERS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interruption:
    """While entered, SIGINT, SIGTERM and SIGHUP raise nothing: they set `is_requested` and make `wake_fd` readable.

    A second signal means: do not wait for the kernel's good manners. A signal that was ignored stays ignored (nohup).
    Outside the main thread, where Python delivers no signals, `request` can be called instead.
    """

    def __init__(self) -> None:
        self.name = ""
        self.n_requests = 0
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def is_requested(self) -> bool:
        """True from the first signal on."""
        return self.n_requests > 0

    @property
    def is_impatient(self) -> bool:
        """True from the second signal on."""
        return self.n_requests > 1

    def __enter__(self) -> Interruption:
        self.wake_fd, self._signal_fd = os.pipe()
        os.set_blocking(self._signal_fd, False)
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(self.wake_fd)
        os.close(self._signal_fd)

    def request(self, name: str) -> None:
        """Ask for the end of the execution."""
        self.name = self.name or name
        self.n_requests += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._signal_fd, b"!")

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.request(signal.Signals(number).name)
