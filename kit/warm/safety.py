"""What makes a process unfit to be forked, found by looking at it: threads, devices, connections, child processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Threads that survive a fork's preparation and are made anew in the child by their own handler (jemalloc 5,
# `background_thread_postfork_child`; it comes with pyarrow). OpenBLAS ends its threads before each fork.
FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
HARMLESS_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
HARMLESS_MAPS = (*HARMLESS_FILES, "/dev/shm/")
# What ipykernel sets at its start: after an import's own in a warm kernel, before it in a cold one.
HOOKS = ("excepthook", "displayhook", "unraisablehook")
# Modules that put themselves into the running kernel when they are imported (ipywidgets 8, `_handle_ipython`).
BOUND_MODULES = ("ipywidgets",)
TASKS = Path("/proc/self/task")
THREAD_END_S = 1.0


class Before(NamedTuple):
    """What there was before libraries were imported: open descriptors, and what a kernel puts in place of Python's own."""

    descriptors: frozenset[int]
    hooks: dict[str, Any]


def look() -> Before:
    """The state of this process now."""
    hooks = {"threading.excepthook": threading.excepthook, **{f"sys.{name}": getattr(sys, name) for name in HOOKS}}
    handlers = {f"the handler of {number.name}": signal.getsignal(number) for number in signal.Signals}
    return Before(open_descriptors(), hooks | handlers)


def describe_unfit(before: Before) -> str:
    """Why this process must not be forked, the end of a sentence that begins with a module's name; empty if it may.

    Where there are threads it forks once, so that those end that end at a fork.
    """
    now = look()
    for name, hook in before.hooks.items():
        if now.hooks[name] is not hook:
            return f"replaced {name}, as a kernel does"
    bound = next((name for name in BOUND_MODULES if name in sys.modules), "")
    if bound:
        return f"let {bound} look for the running kernel"
    device = next(iter(find_devices()), "")
    if device:
        return f"opened the device {device}"
    for descriptor in sorted(now.descriptors - before.descriptors):
        problem = describe_descriptor(descriptor)
        if problem:
            return problem
    children = sorted(list_children())
    if children:
        return f"left the process {children[0]} running"
    return describe_threads()


def describe_threads() -> str:
    """Which thread stays alive through a fork, though nobody knows whether it may; empty if there is none."""
    if other_threads():
        fork_in_vain()
    end = time.monotonic() + THREAD_END_S
    while (names := other_threads()) and time.monotonic() < end:
        time.sleep(0.005)
    if not names:
        return ""
    python = sorted(each.name for each in threading.enumerate() if each is not threading.main_thread())
    return f"started the thread {(python or sorted(names))[0]!r}, which stays alive"


def other_threads() -> list[str]:
    """Names of the threads that must not be there at a fork."""
    names = []
    for task in TASKS.iterdir():
        try:
            name = Path(task, "comm").read_text().strip()
        except OSError:
            continue  # it has just ended
        if int(task.name) != os.getpid() and name not in FORKABLE_THREADS:
            names.append(name)
    return names


def fork_quietly() -> int:
    """`os.fork`, without Python 3.12's warning about threads, which are looked at here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def fork_in_vain() -> None:
    """Fork a process that ends at once."""
    pid = fork_quietly()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def open_descriptors() -> frozenset[int]:
    """The descriptors that are open now."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            os.fstat(int(entry.name))
        except OSError:
            continue  # the listing's own
        found.add(int(entry.name))
    return frozenset(found)


def describe_descriptor(descriptor: int) -> str:
    """What is wrong with a descriptor that an import left open; empty for a file that is only read."""
    try:
        target = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
    if target in HARMLESS_FILES:
        return ""
    if target.startswith("socket:"):
        return "opened a network connection or another socket"
    if target.startswith("/dev/") and not target.startswith(HARMLESS_MAPS):
        return f"opened the device {target}"
    if target.startswith("/") and Path(target).is_file() and _is_read_only(descriptor):
        return ""
    return f"keeps open {target}, which each kernel needs for itself"


def find_devices() -> Iterable[str]:
    """Devices that are mapped into this process' memory."""
    for path in mapped_files():
        if path.startswith("/dev/") and not path.startswith(HARMLESS_MAPS):
            yield path


def mapped_files() -> set[str]:
    """Files that are mapped into this process' memory: shared libraries above all."""
    lines = Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines()
    paths = (line.split(None, 5)[5] for line in lines if line.count("/"))
    return {path for path in paths if path.startswith("/")}


def list_children() -> set[int]:
    """Process ids of the children, of all threads; an ended one counts until it is waited for."""
    found: set[int] = set()
    for task in TASKS.iterdir():
        try:
            found.update(map(int, Path(task, "children").read_text().split()))
        except OSError:
            continue
    return found


def imported_modules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and attributes of all that is imported; a lazy one is not woken, as by `getattr` it would be."""
    for name, module in list(sys.modules.items()):
        with contextlib.suppress(AttributeError):
            yield name, object.__getattribute__(module, "__dict__")


def find_foreign(allowed: Iterable[Path]) -> str:
    """The name of an imported module that is neither of the standard library nor installed; empty if there is none.

    Args:
        allowed: site folders, and single files and folders beside them, resolved.
    """
    paths = sysconfig.get_paths()
    roots = {each.resolve() for each in (Path(paths["stdlib"]), Path(paths["platstdlib"]), *allowed)}
    for name, attributes in imported_modules():
        file = attributes.get("__file__")
        if isinstance(file, str) and not file.startswith("<"):
            path = Path(file).resolve()
            if roots.isdisjoint((path, *path.parents)):
                return f"{name} ({file})"
    return ""


def _is_read_only(descriptor: int) -> bool:
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE == os.O_RDONLY
