"""Processes that are kernels or will be: started early, told late what for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Protocol

LAUNCHER = Path(__file__).with_name("launch.py")
# Variables that may still change once an interpreter has started: neither Python nor a library reads them.
LATE_PREFIX = "KIT_"


class Process(Protocol):
    """A kernel's process, however it came to be; numbers as subprocess has them: a negative code is a signal's."""

    pid: int
    exit_fd: int | None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def wait(self) -> int:
        """Its exit code, when it has ended."""

    def close(self) -> None:
        """Give back what is held of it, `exit_fd` among that; it has ended."""


class Interpreter:
    """A process of this very interpreter that imports what a kernel needs and waits for its order.

    It ends if this process ends, and when `end` is called or nobody has it any more before it was told what for.

    Args:
        variables: its environment.
        folder: its working directory until it is told another.

    Attributes:
        pid: its process id, which is also its process group and session.
        exit_fd: readable when it has ended; None where the system has no such thing.
        echo: the reading end of its stdout and stderr, not blocking.
    """

    def __init__(self, variables: dict[str, str], folder: Path | None = None) -> None:
        self._variables = dict(variables)
        self.echo, write_end = make_echo()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(LAUNCHER), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=write_end,
                stderr=write_end,
                env=variables,
                cwd=folder,
                start_new_session=True,
            )
        except BaseException:
            os.close(self.echo)
            raise
        finally:
            os.close(write_end)
        self.pid = self._process.pid
        self.exit_fd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._ending = weakref.finalize(self, _end, os.getpid(), self._process, self.echo, self.exit_fd)

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait()

    def close(self) -> None:
        """Give back what is held of it; it has ended. `echo` is the caller's."""
        if self.exit_fd is not None:
            os.close(self.exit_fd)
            self.exit_fd = None

    def fits(self, variables: dict[str, str]) -> bool:
        """Whether it is as good as one that is started with these variables: alive, and nothing that it may have read differs."""
        names = {*variables, *self._variables}
        late = all(n.startswith(LATE_PREFIX) for n in names if variables.get(n) != self._variables.get(n))
        # A relative entry meant the folder that it was started in.
        paths = variables.get("PYTHONPATH", os.sep).split(os.pathsep)
        return late and all(map(os.path.isabs, paths)) and self.poll() is None

    def order(self, arguments: list[str], folder: Path, variables: dict[str, str]) -> None:
        """Let it become a kernel; it belongs to the caller from now on.

        Args:
            arguments: see launch.py's `main`.
            folder: its working directory.
            variables: its whole environment, see `fits`.
        """
        self._ending.detach()
        names = {*variables, *self._variables}
        changed = {n: variables.get(n) for n in names if variables.get(n) != self._variables.get(n)}
        text = json.dumps({"arguments": arguments, "folder": str(folder), "variables": changed})
        assert self._process.stdin is not None
        with (
            contextlib.suppress(BrokenPipeError),
            self._process.stdin as pipe,
        ):  # else it has died, and that will be seen
            pipe.write(text.encode())

    def end(self) -> None:
        """End one that was not needed."""
        self._ending()


def make_echo() -> tuple[int, int]:
    """A pipe for a process' stdout and stderr: (reading end that does not block, writing end)."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    return read_end, write_end


def _end(owner: int, process: subprocess.Popen[bytes], echo: int, exit_fd: int | None) -> None:
    if os.getpid() != owner:
        return  # a fork of this process has it, too
    process.kill()
    if process.stdin:
        process.stdin.close()
    process.wait()
    for descriptor in (echo, exit_fd):
        if descriptor is not None:
            os.close(descriptor)
