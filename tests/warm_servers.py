"""Servers of forked kernels for tests: in a folder of their own, ended afterwards, with a look for what stays."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kit.warm import Forked, fork_kernel, stop_servers
from kit.warm.folder import FOLDER_VARIABLE
from kit.warm.starting import IDLE_VARIABLE

LAUNCHER = Path(__file__).with_name("warm_launcher.py")
PATIENCE_S = 30.0


@pytest.fixture(scope="session")
def warm_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where servers are, for this session of tests; none of their processes stays behind."""
    folder = tmp_path_factory.mktemp("warm", numbered=True)
    folder.chmod(0o700)
    before = {name: os.environ.get(name) for name in (FOLDER_VARIABLE, IDLE_VARIABLE)}
    os.environ.update({FOLDER_VARIABLE: str(folder), IDLE_VARIABLE: "120"})
    try:
        yield folder
        stop_servers()
        await_no_process(folder)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


class Ended(NamedTuple):
    """What became of a kernel."""

    code: int
    out: str
    err: str
    preloaded: tuple[str, ...]


class Running:
    """A kernel that executes a text, and what it puts out."""

    def __init__(
        self, text: str, folder: Path, preload: tuple[str, ...] = (), launcher: Path = LAUNCHER, **variables: str
    ) -> None:
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        try:
            self.kernel: Forked = fork_kernel(
                preload=preload,
                launcher=launcher,
                arguments=[text],
                folder=folder,
                variables=environment(**variables),
                stdout=out,
                stderr=err,
            )
        except BaseException:
            os.close(self._out)
            os.close(self._err)
            raise
        finally:
            os.close(out)
            os.close(err)

    def read_line(self) -> str:
        """The next line on stdout."""
        data = b""
        while not data.endswith(b"\n"):
            piece = os.read(self._out, 1)
            assert piece, f"the kernel ended: {read_rest(self._err)}"
            data += piece
        return data.decode().rstrip("\n")

    def end(self) -> Ended:
        """Wait for its end."""
        out, err = read_rest(self._out), read_rest(self._err)
        code = self.kernel.wait(PATIENCE_S)
        self.kernel.close()
        os.close(self._out)
        os.close(self._err)
        return Ended(code, out, err, self.kernel.preloaded)


def fork(text: str, folder: Path, **options: object) -> Ended:
    """Execute a text in a forked kernel."""
    return Running(text, folder, **options).end()  # type: ignore[arg-type]


def run_cold(text: str, folder: Path, **variables: str) -> Ended:
    """Execute a text in a new interpreter, in the way that forked ones must not differ from."""
    command = [sys.executable, str(LAUNCHER), text]
    done = subprocess.run(
        command, cwd=folder, env=environment(**variables), stdin=subprocess.DEVNULL, capture_output=True,
        start_new_session=True, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode(), ())


def environment(**variables: str) -> dict[str, str]:
    """This process' environment and some variables more."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {**inherited, "PYTHONHASHSEED": "0", **variables}


def read_rest(descriptor: int) -> str:
    data = b""
    while piece := os.read(descriptor, 1 << 16):
        data += piece
    return data.decode()


def server_of(kernel: Forked) -> int:
    """The process that forked it."""
    return parent_of(kernel.pid)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def find_processes(text: str | Path) -> list[int]:
    """Processes whose command line has that text and that have not ended: a server's folder finds its guard and kernels, too."""
    wanted, found = os.fsencode(text), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = Path(entry, "stat").read_text().rpartition(")")[2].split()[0]
                if wanted in Path(entry, "cmdline").read_bytes() and state not in "ZX":
                    found.append(int(entry.name))
    return sorted(found)


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], PATIENCE_S)[0], f"process {pid} did not end"
        finally:
            os.close(descriptor)


def await_no_process(text: str | Path) -> None:
    """Wait until no process of a folder's servers is left."""
    while found := find_processes(text):
        await_end(found[0])


def kill(*pids: int) -> None:
    """SIGKILL, in that order."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
