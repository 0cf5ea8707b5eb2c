"""The small process beside a server: if the server is killed, it ends the kernels that the server had forked.

It has imported nothing but this. If the guard itself is killed, the server sees that and ends its kernels and itself; if both
are, the system ends the kernels (PR_SET_PDEATHSIG), and their clients what these had started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import Any

from kit.warm.folder import WarmFolder

# Signals that say something about the imports, unlike those that people and systems send.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)


class Guard:
    """Watches one server.

    Args:
        pid: of the server, a child of this process.
        channel: from which its lines come: `serving`, `+<pid>`, `-<pid>`.
        status: descriptor on which the client that started the server waits.
        folder, name: where a reason is kept that holds for each such server.
        limit_s: for its imports.
    """

    def __init__(
        self, pid: int, channel: socket.socket, status: int, folder: WarmFolder, name: str, limit_s: float
    ) -> None:
        self._pid, self._channel, self._status = pid, channel, status
        self._folder, self._name, self._limit_s = folder, name, limit_s
        self._kernels: set[int] = set()
        self._is_serving = False

    def watch(self) -> None:
        """Until the server has ended; then no kernel of its is left."""
        is_late = not self._follow()
        if is_late:
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        for pid in self._kernels:
            end_group(pid)
        if not self._is_serving:
            self._report(os.waitstatus_to_exitcode(status), is_late)

    def _follow(self) -> bool:
        """Read the server's lines to their end; False if its imports take too long."""
        end = time.monotonic() + self._limit_s
        rest = b""
        while True:
            left_s = None if self._is_serving else max(0.0, end - time.monotonic())
            if not select.select([self._channel], [], [], left_s)[0]:
                return False
            data = self._channel.recv(4096)
            if not data:
                return True
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._note(line)

    def _note(self, line: bytes) -> None:
        if line == b"serving":
            self._is_serving = True
            os.close(self._status)
        elif line.startswith(b"+"):
            self._kernels.add(int(line[1:]))
        elif line.startswith(b"-"):
            self._kernels.discard(int(line[1:]))

    def _report(self, code: int, is_late: bool) -> None:
        if code == 0:
            return  # it has said itself why it does not serve
        if is_late:
            reason = f"the imports did not end within {self._limit_s:g} s"
        else:
            reason = f"the imports ended the process with {describe_code(code)}"
        if is_late or code > 0 or -code in CRASHES:
            self._folder.refuse(self._name, reason)
        report(self._status, {"refused": reason})


def report(status: int, message: dict[str, Any]) -> None:
    """Tell the client that waits for the server's start, if it still does."""
    with contextlib.suppress(OSError):
        os.write(status, json.dumps(message).encode() + b"\n")


def end_group(pid: int) -> None:
    """Kill a process group; it may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def describe_code(code: int) -> str:
    """`exit code 3`, `SIGSEGV`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
