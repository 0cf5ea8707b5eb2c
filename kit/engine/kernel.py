"""A kernel process of this interpreter, reached over IPC, and gone when we are done or gone ourselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from kit.engine.journal import CLEARED_FACTOR

LAUNCHER = Path(__file__).with_name("launch.py")
# sun_path holds 108 bytes with the closing zero (unix(7)); the longest name in the folder is "c-ipc-99".
LONGEST_FOLDER = 107 - len("/c-ipc-99")
FOLDER_PREFIX = "kit-kernel-"
# A process of another container may share this folder and be invisible; no kernel starts for a day.
STALE_S = 86_400.0
QUEUE_MESSAGES = 250
TAIL_BYTES = 8_000


class Usage(NamedTuple):
    """What a process has used so far; None where the system does not tell."""

    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class InterpreterKernelManager(KernelManager):  # type: ignore[misc]
    """Starts this very interpreter, whatever kernel a notebook names.

    Attributes:
        limits: of output, as launch.py's KernelApp names them.
    """

    limits: dict[str, int]

    @property
    def kernel_spec(self) -> KernelSpec:
        """Our own launcher; no kernel.json is looked for."""
        argv = [sys.executable, str(LAUNCHER), "-f", "{connection_file}", "--HistoryManager.enabled=False"]
        argv += [f"--KernelApp.{name}={value}" for name, value in self.limits.items()]
        return KernelSpec(argv=argv, display_name="Python (kit)", language="python", interrupt_mode="signal")


class Kernel:
    """One kernel process and the sockets to it.

    Args:
        folder: its working directory.
        variables: its whole environment.
        wake_fd: readable when `wait` shall return early.
        budget_bytes: of output that is kept of a cell; a larger display is not even sent.
    """

    def __init__(self, folder: Path, variables: dict[str, str], wake_fd: int, budget_bytes: int) -> None:
        self._files = make_socket_folder()
        self._context = zmq.Context()
        # Messages that wait here at most; then the kernel waits (launch.py), and nothing is dropped.
        self._context.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        self._context.setsockopt(zmq.LINGER, 0)
        self._client: Any = None
        self._tail = bytearray()
        self._usage = Usage()
        self._poller = zmq.Poller()
        self._poller.register(wake_fd, zmq.POLLIN)
        self._manager = InterpreterKernelManager(
            transport="ipc",
            connection_file=str(self._files / "c.json"),
            ip=str(self._files / "c-ipc"),
            context=self._context,
        )
        self._manager.limits = {
            "output_budget_bytes": budget_bytes,
            "output_limit_bytes": CLEARED_FACTOR * budget_bytes,
        }
        self._echo, write_end = os.pipe()
        os.set_blocking(self._echo, False)
        self._poller.register(self._echo, zmq.POLLIN)
        try:
            self._manager.start_kernel(cwd=str(folder), env=variables, stdout=write_end, stderr=write_end)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(write_end)
        self._process: subprocess.Popen[bytes] = self._manager.provisioner.process
        self._exit_fd = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        if self._exit_fd is not None:
            self._poller.register(self._exit_fd, zmq.POLLIN)

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
        if self._client is None:
            ports = (self._manager.shell_port, self._manager.iopub_port, self._manager.control_port)
            if not all(Path(f"{self._manager.ip}-{port}").exists() for port in ports):
                return False
            self._client = self._manager.client(context=self._context)
            self._client.start_channels(stdin=False, hb=False)
            for channel in (self._client.iopub_channel, self._client.shell_channel):
                self._poller.register(channel.socket, zmq.POLLIN)
        return True

    def request_info(self) -> str:
        """Ask who is there; gives the message's id."""
        return str(self._client.kernel_info())

    def send(self, source: str) -> str:
        """Send a cell; gives the message's id."""
        return str(self._client.execute(source, store_history=True, allow_stdin=False, stop_on_error=True))

    def wait(self, timeout_s: float) -> None:
        """Until a message, the process' end, a wake-up, or the time."""
        limit_s = timeout_s if self._exit_fd is not None else min(timeout_s, 0.2)
        ready = dict(self._poller.poll(max(0, int(limit_s * 1000) + 1)))
        if self._echo in ready:
            self._read_echo()
        if (
            self._exit_fd is not None and self._exit_fd in ready
        ):  # a dead process would make each further wait return at once
            self._poller.unregister(self._exit_fd)
            os.close(self._exit_fd)
            self._exit_fd = None

    def read_output(self) -> dict[str, Any] | None:
        """The next published message, if one has come."""
        return _receive(self._client.iopub_channel) if self._client else None

    def read_reply(self) -> dict[str, Any] | None:
        """The next reply, if one has come."""
        return _receive(self._client.shell_channel) if self._client else None

    def interrupt(self) -> None:
        """Ctrl-C for the kernel and the processes that it started."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the kernel and the processes that it started, at once."""
        self._signal(signal.SIGKILL)

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
            if self._client is not None and self.is_alive and not is_impatient():
                self._client.shutdown()
                self._wait_for_end(grace_s, is_impatient)
            if self.is_alive and not is_impatient():
                self._signal(signal.SIGTERM)
                self._wait_for_end(min(grace_s, 1.0), is_impatient)
        finally:
            self.kill()
            self._process.wait()
            self._close()

    def _wait_for_end(self, limit_s: float, is_impatient: Callable[[], bool]) -> None:
        end = time.monotonic() + limit_s
        while self.is_alive and (left_s := end - time.monotonic()) > 0 and not is_impatient():
            self.wait(min(left_s, 0.1))
            while self.read_output() or self.read_reply():
                pass

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _read_echo(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._echo, 1 << 16):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
            self._poller.unregister(self._echo) if self._echo in self._poller else None

    def _close(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
        provisioner = self._manager.provisioner
        if provisioner is not None:
            provisioner.process = None
        self._manager.cleanup_resources()
        self._context.destroy(linger=0)
        for descriptor in (self._echo, getattr(self, "_exit_fd", None)):
            if descriptor is not None:
                os.close(descriptor)
        shutil.rmtree(self._files, ignore_errors=True)


def make_socket_folder() -> Path:
    """A private folder whose path is short enough for sockets."""
    prefix = f"{FOLDER_PREFIX}{os.getpid()}-"
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    remove_stale_folders(folder.parent, time.time() - STALE_S)
    return folder


def remove_stale_folders(parent: Path, before: float) -> None:
    """Remove what a killed kit left: our own socket folders from before that time."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*-*"):
        with contextlib.suppress(OSError):
            status = folder.stat(follow_symlinks=False)
            is_ours = folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid()
            if is_ours and status.st_mtime < before and not Path(f"/proc/{folder.name.split('-')[2]}").exists():
                shutil.rmtree(folder, ignore_errors=True)


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


def _receive(channel: Any) -> dict[str, Any] | None:
    if not channel.socket.poll(0):
        return None
    message: dict[str, Any] = channel.get_msg(timeout=0)
    return message
