"""Starting a kernel: forked from a process that has the libraries already, or in a new interpreter."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from kit.engine.interpreter import LAUNCHER, Interpreter, Process, make_echo
from kit.engine.journal import CLEARED_FACTOR
from kit.engine.sockets import SocketFolder, remove_abandoned_folders
from kit.engine.values import Job, Start
from kit.signing import KEY_VARIABLE


class Fork(Protocol):
    """As `kit.warm.fork_kernel`."""

    def __call__(
        self,
        *,
        preload: tuple[str, ...],
        launcher: Path,
        arguments: list[str],
        folder: Path,
        variables: dict[str, str],
        stdout: int,
        stderr: int,
        is_cancelled: Callable[[], bool],
    ) -> Forked:
        """Fork a kernel, or raise WarmUnavailableError."""


class Forked(Process, Protocol):
    """A kernel that was forked; `preloaded`: what was imported before, by top-level name, sorted."""

    preloaded: tuple[str, ...]


class Started:
    """A kernel's process and where it listens. While entered it is there; on leaving it is gone, unless somebody took it.

    Attributes:
        process: not waited for yet.
        echo: the reading end of its stdout and stderr, not blocking.
        sockets: where it listens, or will.
        start: how it came to be.
        preloaded: what a forked one had imported.
        note: why it is not a warm one although that was asked for; else empty.
    """

    def __init__(
        self,
        process: Process,
        echo: int,
        sockets: SocketFolder,
        start: Literal["cold", "warm"],
        preloaded: tuple[str, ...] = (),
        note: str = "",
    ) -> None:
        self.process, self.echo, self.sockets = process, echo, sockets
        self.start, self.preloaded, self.note = start, preloaded, note
        self._is_taken = False

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_taken:
            kill_group(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.close()

    def take(self) -> None:
        """From now on the caller ends the process and closes this."""
        self._is_taken = True

    def close(self) -> None:
        """Close the descriptors and remove the sockets; the process has ended."""
        os.close(self.echo)
        self.process.close()
        self.sockets.remove()


def start_kernel(job: Job, waiting: Interpreter | None, is_cancelled: Callable[[], bool], fork: Fork) -> Started:
    """Start a kernel as the job has it, and a cold one where that cannot be.

    Args:
        job: what it is for.
        waiting: an interpreter that was started before; ended if it is of no use.
        is_cancelled: asked while a process to fork from is being made.
        fork: forks kernels.

    Raises:
        OSError: no process can be started.
    """
    sockets = SocketFolder()
    try:
        started = _start(job, sockets, waiting, is_cancelled, fork)
    except BaseException:
        sockets.remove()
        raise
    if waiting and started.process is not waiting:
        waiting.end()
    remove_abandoned_folders(sockets.folder.parent)
    return started


def _start(
    job: Job, sockets: SocketFolder, waiting: Interpreter | None, is_cancelled: Callable[[], bool], fork: Fork
) -> Started:
    variables, arguments = make_variables(job.variables), _arguments(job, sockets)
    note = ""
    if job.start is not Start.COLD:
        from kit.warm import WarmUnavailableError

        try:
            return _fork(job, sockets, variables, arguments, is_cancelled, fork)
        except WarmUnavailableError as error:
            note = error.reason if job.start is Start.WARM else ""
    if waiting is None or not waiting.fits(variables):
        waiting = Interpreter(variables, job.folder)
    waiting.order(arguments, job.folder, variables)
    return Started(waiting, waiting.echo, sockets, "cold", note=note)


def _fork(
    job: Job,
    sockets: SocketFolder,
    variables: dict[str, str],
    arguments: list[str],
    is_cancelled: Callable[[], bool],
    fork: Fork,
) -> Started:
    echo, write_end = make_echo()
    try:
        forked = fork(
            preload=job.preload if job.start is Start.WARM else (),
            launcher=LAUNCHER,
            arguments=arguments,
            folder=job.folder,
            variables=variables,
            stdout=write_end,
            stderr=write_end,
            is_cancelled=is_cancelled,
        )
    except BaseException:
        os.close(echo)
        raise
    finally:
        os.close(write_end)
    return Started(forked, echo, sockets, "warm", forked.preloaded)


def kill_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a kernel and the processes that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def make_variables(added: dict[str, str]) -> dict[str, str]:
    """The environment of a kernel: this process', what is added, a fixed order of sets; never the signing key."""
    inherited = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    return {**inherited, **added, "PYTHONHASHSEED": "0"}


def _arguments(job: Job, sockets: SocketFolder) -> list[str]:
    settings = {
        "HistoryManager.enabled": False,
        "KernelApp.ready_pipe": sockets.ready_pipe,
        "KernelApp.output_budget_bytes": job.output_budget_bytes,
        "KernelApp.output_limit_bytes": CLEARED_FACTOR * job.output_budget_bytes,
    }
    return ["-f", str(sockets.connection_file), *(f"--{name}={value}" for name, value in settings.items())]
