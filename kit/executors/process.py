"""One worker process as the pool sees it: started, asked, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kit.errors import KitError
from kit.executors.messages import DIED, Answer, Failed, Task, decode_answer, encode_line
from kit.record import Failure

CHUNK_BYTES = 1 << 16
TAIL_BYTES = 4_000
END_S = 2.0  # a process that has closed its socket is about to end


class WorkerProcess:
    """A process that calls the target function with one task after the other.

    It has a process group of its own, so that Ctrl-C on a terminal reaches it through the pool only, and once.

    Args:
        target: `module:function`.
        variables: of its environment, beside those of this process.
        selector: told of everything that it can be heard through, with this object as the data.
    """

    def __init__(self, target: str, variables: Mapping[str, str], selector: selectors.BaseSelector) -> None:
        self.task = ""
        self._selector = selector
        self._received, self._tail, self._is_silent = bytearray(), bytearray(), False
        self._socket, theirs = socket.socketpair()
        self._echo, echo_end = os.pipe()
        command = [sys.executable, "-P", "-m", "kit.executors.worker", target, str(theirs.fileno()), str(os.getpid())]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=echo_end, stderr=echo_end,
                    pass_fds=[theirs.fileno()], process_group=0,
                )  # fmt: skip
        except BaseException:
            self._socket.close()
            os.close(self._echo)
            raise
        finally:
            os.close(echo_end)
        # Its end is also seen by this one, where something that it started keeps the socket open.
        self._end = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        os.set_blocking(self._echo, False)
        for source in self._sources:
            selector.register(source, selectors.EVENT_READ, self)

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    @property
    def _sources(self) -> list[Any]:
        sources: list[Any] = [self._socket, self._end, None if self._is_silent else self._echo]
        return [source for source in sources if source is not None]

    def send(self, name: str, value: Any) -> None:
        """Give it a task; it must have none."""
        self.task = name
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is heard, and told, in `receive`
            self._socket.setblocking(True)
            self._socket.sendall(encode_line(Task(value)))

    def receive(self) -> Iterator[Answer]:
        """What it has said by now.

        Raises:
            EOFError: it has ended.
        """
        self._read_echo()
        is_over = self._has_ended(0.0)
        self._socket.setblocking(False)
        while True:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                data = None
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._received += data
            *lines, rest = self._received.split(b"\n")
            self._received = bytearray(rest)
            yield from (_decode(bytes(line)) for line in lines)
        if is_over or data == b"":
            raise EOFError

    def interrupt(self) -> None:
        """Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):  # `Popen.send_signal` would wait for one that has ended
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it at once, and what it started in its own process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def describe_end(self) -> Failure:
        """Why it ended without an answer; nothing of its process group is left."""
        code = self._reap()
        self._read_echo()
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {_name_signal(-code)}"
        if code == -signal.SIGKILL:
            how += " (by someone, or by the system because memory ran out)"
        words = self._tail.decode("utf-8", "replace").strip()
        return Failure(DIED, f"the worker process that executed it {how}{words and f'; it said: {words}'}")

    def close(self) -> None:
        """Let an idle process end, or what is left of an ended one go."""
        for source in self._sources:
            self._selector.unregister(source)
        self._socket.close()
        self._reap()
        for descriptor in (self._echo, self._end):
            if descriptor is not None:
                os.close(descriptor)

    def _reap(self) -> int:
        """Its exit code, as `subprocess` has it."""
        if self._process.returncode is None:
            self._has_ended(END_S)
            self.kill()  # before it is waited for, while no other group can have its number
        return self._process.wait()

    def _has_ended(self, timeout_s: float) -> bool:
        """True if it has, or does within that time; never waits for it in the system's sense."""
        if self._end is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            return self._process.returncode is not None
        return self._process.returncode is not None or bool(select.select([self._end], [], [], timeout_s)[0])

    def _read_echo(self) -> None:
        if self._is_silent:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._echo, CHUNK_BYTES):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
            self._is_silent = True  # it has closed its output; that would be heard for ever
            self._selector.unregister(self._echo)


def _decode(line: bytes) -> Answer:
    try:
        return decode_answer(line)
    except KitError as error:
        return Failed(Failure(type(error).__name__, str(error)))


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
