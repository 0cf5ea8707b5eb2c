"""Asking a server for a kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit.errors import WarmUnavailableError
from kit.warm.folder import WarmFolder, connect, open_folder
from kit.warm.key import make_edition, make_key
from kit.warm.servers import make_room
from kit.warm.starting import find_name, hold_lock, start_server
from kit.warm.wire import Closed, Connection, await_message, is_readable

# A server answers in 0.03 s, or after the requests of others.
ANSWER_S = 20.0
ATTEMPTS = 3
END_S = 10.0


class Forked:
    """A kernel that was forked; numbers as subprocess has them. It ends with its group when this is closed or collected.

    Attributes:
        pid: its process id, which is also its process group and session; of no other process until `close`.
        exit_fd: readable when it has ended; closed by `close`.
        preloaded: top-level names of what was imported before, sorted.
        returncode: None until `poll` or `wait` has seen its end.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, exit_fd: int, preloaded: tuple[str, ...], connection: Connection) -> None:
        self.pid, self.exit_fd, self.preloaded = pid, exit_fd, preloaded
        self.returncode: int | None = None
        self._connection = connection
        self._closing = weakref.finalize(self, _close, os.getpid(), connection, exit_fd)

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.returncode is None and self._closing.alive and is_readable(self.exit_fd, 0.0):
            self.returncode = self._read_code(END_S)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended.

        Raises:
            TimeoutError: it runs for longer than `timeout` seconds.
        """
        if self.returncode is None:
            if self._closing.alive and not is_readable(self.exit_fd, timeout):
                raise TimeoutError(f"kernel {self.pid} has not ended within {timeout:g} s")
            self.returncode = self._read_code(END_S)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel alone."""
        with contextlib.suppress(ProcessLookupError):
            if self._closing.alive:
                signal.pidfd_send_signal(self.exit_fd, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let the server end what is left of it and its group."""
        self._closing()

    def _read_code(self, limit_s: float) -> int:
        """What the server says; a server that was killed takes its kernels with it."""
        try:
            message = await_message(self._connection, limit_s)
        except (Closed, TimeoutError, OSError):
            return -signal.SIGKILL
        return int(message[0]["code"])


def fork_kernel(
    *,
    preload: tuple[str, ...],
    launcher: Path,
    arguments: list[str],
    folder: Path,
    variables: dict[str, str],
    stdout: int,
    stderr: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Forked:
    """A kernel, forked from a server that has imported what is to be preloaded; the server is started if there is none.

    Args:
        preload: dotted names of modules, in the order of their imports; those of installed packages are imported.
        launcher: file with a function `main(arguments)` that is a kernel to its end.
        arguments: for it.
        folder: the kernel's working directory.
        variables: its whole environment.
        stdout: descriptor for its stream.
        stderr: descriptor for its stream.
        is_cancelled: asked every 50 ms while a server starts.

    Raises:
        WarmUnavailableError: with the reason; a cold kernel can be started.
        OSError: the folder cannot be entered, the launcher cannot be read.
    """
    if sys.platform != "linux":
        raise WarmUnavailableError("kernels are forked only on Linux")
    launcher = launcher.resolve()
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        order = {"kind": "fork", "arguments": arguments, "variables": variables, **describe_self()}
        return _ask(open_folder(), preload, launcher, order, (stdout, stderr, folder_fd), is_cancelled)
    finally:
        os.close(folder_fd)


def describe_self() -> dict[str, Any]:
    """What a new process would have from this one: the umask, and which signals are ignored and blocked."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    mask = int(lines["SigIgn"], 16)
    restored = (signal.SIGPIPE, signal.SIGXFSZ)  # by subprocess, in each new process
    ignored = [number for number in signal.valid_signals() if mask >> (number - 1) & 1 and number not in restored]
    return {
        "umask": int(lines["Umask"], 8),
        "ignored": sorted(map(int, ignored)),
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    }


def _ask(
    place: WarmFolder,
    preload: tuple[str, ...],
    launcher: Path,
    order: dict[str, Any],
    descriptors: tuple[int, int, int],
    is_cancelled: Callable[[], bool],
) -> Forked:
    variables = order["variables"]
    key = make_key(preload, launcher, variables)
    problem = ""
    for _ in range(ATTEMPTS):
        problem = problem or place.read_refusal(find_name(place, key, variables))
        if problem:
            break
        connection = _reach(place, key, preload, launcher, variables, is_cancelled)
        try:
            connection.send(order, descriptors)
            answer, received = await_message(connection, ANSWER_S, is_cancelled)
        except Closed:  # it has just ended: the next one
            connection.close()
            continue
        except TimeoutError:  # it hangs; its kernels stay, and no client finds it any more
            connection.close()
            place.socket(find_name(place, key, variables)).unlink(missing_ok=True)
            continue
        except BaseException:
            connection.close()
            raise
        if answer["kind"] == "forked":
            return Forked(answer["pid"], received[0], tuple(answer["preloaded"]), connection)
        connection.close()
        problem = answer["reason"] if answer["kind"] == "refused" else ""
    raise WarmUnavailableError(problem or f"{ATTEMPTS} servers were started, and none of them stayed")


def _reach(
    place: WarmFolder,
    key: str,
    preload: tuple[str, ...],
    launcher: Path,
    variables: dict[str, str],
    is_cancelled: Callable[[], bool],
) -> Connection:
    """A server that listens, started if there is none; one that does not answer is not asked again."""
    with contextlib.suppress(OSError):
        return Connection(connect(place.socket(find_name(place, key, variables))))
    with hold_lock(place.lock(key), is_cancelled):
        with contextlib.suppress(OSError):  # started while we waited
            return Connection(connect(place.socket(find_name(place, key, variables))))
        make_room(place, make_edition(launcher))
        name = start_server(place, key, preload, launcher, variables, is_cancelled)
    try:
        return Connection(connect(place.socket(name)))
    except OSError as error:
        raise WarmUnavailableError(f"a server was started and cannot be reached: {error.strerror}") from error


def _close(owner: int, connection: Connection, exit_fd: int) -> None:
    if os.getpid() == owner:  # a fork of this process has the same descriptors, and ends nothing
        connection.close()
        os.close(exit_fd)
