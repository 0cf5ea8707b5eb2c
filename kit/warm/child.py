"""Becoming a kernel: from a forked server to what a new interpreter would be after the same imports."""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kit.warm.preloading import LAUNCHER_NAME, Preloaded, python_path
from kit.warm.safety import open_descriptors
from kit.warm.wire import Closed

PR_SET_PDEATHSIG = 1
# What Python itself ignores from its start on.
PYTHON_IGNORES = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


@dataclass(frozen=True)
class Order:
    """One kernel that is to be.

    Attributes:
        arguments: of the launcher's `main`.
        variables: its whole environment.
        umask, ignored, blocked: as the client's: file mode mask, signal numbers.
        stdout, stderr, folder: open descriptors.
        permission: descriptor on which a byte says that it may be; -1 before there is a process.
    """

    arguments: list[str]
    variables: dict[str, str]
    umask: int
    ignored: list[int]
    blocked: list[int]
    stdout: int
    stderr: int
    folder: int
    permission: int = -1


def read_order(request: dict[str, Any], descriptors: Sequence[int]) -> Order:
    """The order that a client sends.

    Raises:
        Closed: it is none.
    """
    shapes = {"arguments": list, "variables": dict, "umask": int, "ignored": list, "blocked": list}
    values = [request.get(name) for name in shapes]
    is_shaped = all(isinstance(value, kind) for value, kind in zip(values, shapes.values(), strict=True))
    if not is_shaped or not all(isinstance(value, str) for value in request["variables"].values()):
        raise Closed("an order that no client of this version sends")
    return Order(*values, *descriptors)  # type: ignore[arg-type]


def die_with(parent: int) -> None:
    """End this process when its parent ends (prctl(2)); at once if it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def survive_parent() -> None:
    """Undo `die_with`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)


def flush_streams() -> None:
    """Write out what Python and C hold for the server's log, which a kernel would write again."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


def become_kernel(order: Order, preloaded: Preloaded, launcher: Path) -> None:
    """Take on what the order says, and lose what is the server's; the process is a session and a group of its own already."""
    try:
        _take_streams(order)
        os.fchdir(order.folder)
        _close_others({*preloaded.descriptors, order.permission})
        os.umask(order.umask)
        _set_variables(order.variables, preloaded)
        _set_paths(order, launcher)
        _forget_process(preloaded)
        is_permitted = os.read(order.permission, 1) == b"!"
        os.close(order.permission)
        if not is_permitted:
            os._exit(1)
        _set_signals(order.ignored, order.blocked)
    except BaseException:  # noqa: BLE001 (no half-made kernel)
        traceback.print_exc()
        os._exit(1)


class Ending:
    """Within it a kernel lives to its end, and this process ends as an interpreter does; no frame of ours is on its stack."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        finish(read_code(error))


def read_code(error: BaseException | None) -> int:
    """The exit code of an interpreter whose program ended so; says what an interpreter would say."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 (as the interpreter does)
    return 1


def finish(code: int) -> NoReturn:
    """End this process as an interpreter does, but for the libraries' own clean-up in C: it expects the server's threads."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush_files()  # before the collector, which may close a file's descriptor first
        gc.collect()
    except BaseException:  # noqa: BLE001 (the exit code is decided)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()  # type: ignore[union-attr]
            except BaseException:  # noqa: BLE001 (closed, or its reader has gone)
                continue
        ctypes.CDLL(None).fflush(None)
        os._exit(code)


def _take_streams(order: Order) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (order.stdout, 1), (order.stderr, 2)):
        os.dup2(source, target, inheritable=True)
    out = sys.__stdout__
    if isinstance(out, io.TextIOWrapper) and not out.write_through:  # not PYTHONUNBUFFERED
        out.reconfigure(line_buffering=os.isatty(1))


def _close_others(kept: set[int]) -> None:
    """Close what is neither a standard stream nor a library's own."""
    highest = max(open_descriptors())
    start = 3
    for descriptor in sorted(each for each in kept if each > 2):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, highest + 1)


def _set_variables(variables: dict[str, str], preloaded: Preloaded) -> None:
    os.environ.clear()
    os.environ.update(variables)
    if "JPY_PARENT_PID" in variables:
        os.environ["JPY_PARENT_PID"] = str(os.getppid())  # ipykernel ends when it has another parent
    for name, value in preloaded.changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _set_paths(order: Order, launcher: Path) -> None:
    """`sys` as a new interpreter has it when it runs the launcher, which takes its own folder from the path."""
    own = python_path(order.variables.get("PYTHONPATH", ""))
    sys.path[:] = [*own, *(entry for entry in sys.path if entry not in own)]
    sys.argv = [str(launcher), *order.arguments]
    sys.orig_argv[:] = [sys.executable, *sys.argv]
    main = sys.modules.pop(LAUNCHER_NAME)
    main.__name__, main.__spec__ = "__main__", None
    sys.modules["__main__"] = main


def _forget_process(preloaded: Preloaded) -> None:
    """What modules remember of the process that imported them: its folder, its random numbers, its warnings.

    Touches few of the server's objects: each page that is written to is copied.
    """
    loaded = sys.modules
    if "tempfile" in loaded:
        loaded["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if "multiprocessing.process" in loaded:
        process: Any = loaded["multiprocessing.process"]
        process.ORIGINAL_DIR = str(Path.cwd())
        process.current_process().authkey = os.urandom(32)
    preloaded.chance.renew()
    # Shown once in the server, it is to be shown in each kernel; the filters stay as imports left them.
    warnings.onceregistry.clear()  # type: ignore[attr-defined]
    for registry in preloaded.registries:
        registry.clear()


def _set_signals(ignored: Iterable[int], blocked: Iterable[int]) -> None:
    """Ignored and blocked as the client's; handlers that a library has set at its import stay."""
    asked = frozenset(ignored)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number in asked:
            signal.signal(number, signal.SIG_IGN)
        elif number not in PYTHON_IGNORES and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.SIGINT not in asked and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _flush_files() -> None:
    """Write out what open files hold: an interpreter's end would, for the files that nobody has closed."""
    found = [
        each
        for each in gc.get_objects()
        if issubclass(type(each), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom)
    ]
    for each in sorted(found, key=lambda file: not issubclass(type(file), io.TextIOWrapper)):
        try:
            if not each.closed:
                each.flush()
        except (OSError, ValueError):
            continue
