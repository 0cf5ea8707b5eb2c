"""A kernel's process and the sockets to it, and both gone when we are done or gone ourselves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from kit import standins
from kit.engine.start import Started, kill_group

# Of jupyter_client we need its messages; its clients and managers, and the event loops that these run in, stay out.
with standins.importing_late(
    "jupyter_client", "tornado.ioloop", "zmq.asyncio", "zmq.eventloop", "zmq.eventloop.zmqstream"
):
    from jupyter_client.session import Session

    getattr(zmq, "asyncio").Socket  # noqa: B009, B018 - what Session compares sockets with

QUEUE_MESSAGES = 250
TAIL_BYTES = 8_000
WELCOME = "iopub_welcome"


class Usage(NamedTuple):
    """What a process has used so far; None where the system does not tell."""

    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class Kernel:
    """One kernel process and the sockets to it.

    Args:
        started: its process, which is ended by `shut_down` from now on.
        wake_fd: readable when `wait` shall return early.

    Attributes:
        is_subscribed: True once the kernel has said that it knows who listens: from then on all that it publishes comes.
    """

    def __init__(self, started: Started, wake_fd: int) -> None:
        self._started, sockets = started, started.sockets
        self._process, self._echo, self._ready_fd = started.process, started.echo, sockets.ready_fd
        self._exit_fd = self._process.exit_fd
        self._context = zmq.Context()
        # Messages that wait here at most; then the kernel waits (launch.py), and nothing is dropped.
        self._context.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        self._context.setsockopt(zmq.LINGER, 0)
        self._session = Session(
            key=sockets.info["key"].encode(), signature_scheme=sockets.info["signature_scheme"], username="kit"
        )
        self._channels: dict[str, zmq.Socket[bytes]] = {}
        self._tail = bytearray()
        self._usage = Usage()
        self._poller = zmq.Poller()
        for descriptor in (wake_fd, self._echo, self._ready_fd, self._exit_fd):
            if descriptor is not None:
                self._poller.register(descriptor, zmq.POLLIN)
        self.is_subscribed = False
        started.take()

    @property
    def pid(self) -> int:
        """The kernel's process id, which is also its process group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The end of what the process wrote to its own stdout and stderr (crash messages among it)."""
        self._read_echo()
        return self._tail.decode("utf-8", "replace").strip()

    def connect(self) -> bool:
        """Open the channels as soon as the kernel listens; ZeroMQ would retry a refused socket only after a while."""
        if not self._channels:
            with contextlib.suppress(BlockingIOError):
                if os.read(self._ready_fd, 1):
                    self._poller.unregister(self._ready_fd)
                    self._open_channels()
        return bool(self._channels)

    def request_info(self) -> str:
        """Ask who is there; gives the message's id."""
        return self._send("shell", "kernel_info_request", {})

    def send(self, source: str) -> str:
        """Send a cell; gives the message's id."""
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}}
        return self._send("shell", "execute_request", {**content, "allow_stdin": False, "stop_on_error": True})

    def wait(self, timeout_s: float) -> None:
        """Until a message, the process' end, a wake-up, or the time."""
        limit_s = timeout_s if self._exit_fd is not None else min(timeout_s, 0.2)
        ready = dict(self._poller.poll(max(0, int(limit_s * 1000) + 1)))
        if self._echo in ready:
            self._read_echo()
        if self._exit_fd is not None and self._exit_fd in ready:
            # A dead process would make each further wait return at once.
            self._poller.unregister(self._exit_fd)
            self._exit_fd = None

    def read_output(self) -> dict[str, Any] | None:
        """The next published message, if one has come."""
        message = self._receive("iopub")
        self.is_subscribed |= message is not None and message["msg_type"] == WELCOME
        return message

    def read_reply(self) -> dict[str, Any] | None:
        """The next reply, if one has come."""
        return self._receive("shell")

    def interrupt(self) -> None:
        """Ctrl-C for the kernel and the processes that it started."""
        kill_group(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the kernel and the processes that it started, at once."""
        kill_group(self.pid, signal.SIGKILL)

    def measure(self) -> Usage:
        """CPU time and peak memory by now; the last known ones of a kernel that has died."""
        self._usage = read_usage(self.pid) or self._usage
        return self._usage

    def describe_end(self) -> str:
        """How a dead kernel ended: `killed by SIGKILL`, `exit code 3`."""
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def shut_down(self, grace_s: float, is_impatient: Callable[[], bool]) -> None:
        """Ask the kernel to end, then make it; leaves no process of its group, no socket and no file."""
        try:
            self.measure()
            if self._channels and self.is_alive and not is_impatient():
                self._send("control", "shutdown_request", {"restart": False})
                self._wait_for_end(grace_s, is_impatient)
            if self.is_alive and not is_impatient():
                kill_group(self.pid, signal.SIGTERM)
                self._wait_for_end(min(grace_s, 1.0), is_impatient)
        finally:
            self.kill()
            self._process.wait()
            self._close()

    def _open_channels(self) -> None:
        for channel, kind in (("iopub", zmq.SUB), ("shell", zmq.DEALER), ("control", zmq.DEALER)):
            socket = self._context.socket(kind)
            if kind == zmq.SUB:
                socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(self._started.sockets.address(channel))
            self._channels[channel] = socket
            if channel != "control":
                self._poller.register(socket, zmq.POLLIN)

    def _send(self, channel: str, kind: str, content: dict[str, Any]) -> str:
        return str(self._session.send(self._channels[channel], kind, content)["header"]["msg_id"])

    def _receive(self, channel: str) -> dict[str, Any] | None:
        message: dict[str, Any] | None = None
        if channel in self._channels:
            _, message = self._session.recv(self._channels[channel], zmq.NOBLOCK)
        return message

    def _wait_for_end(self, limit_s: float, is_impatient: Callable[[], bool]) -> None:
        end = time.monotonic() + limit_s
        while self.is_alive and (left_s := end - time.monotonic()) > 0 and not is_impatient():
            self.wait(min(left_s, 0.1))
            while self.read_output() or self.read_reply():
                pass

    def _read_echo(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._echo, 1 << 16):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
            self._poller.unregister(self._echo) if self._echo in self._poller else None

    def _close(self) -> None:
        self._context.destroy(linger=0)
        self._started.close()


def read_usage(pid: int) -> Usage | None:
    """A process' CPU time (ended children included) and peak memory from proc(5); None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    if peak is None:  # a process that has ended and was not yet waited for
        return None
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak) * 1024)
