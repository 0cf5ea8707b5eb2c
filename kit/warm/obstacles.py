"""Why a kernel that is asked for must not be forked from a server that has the right key."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from kit.warm.child import Order
from kit.warm.key import is_read_early, pick
from kit.warm.preloading import Preloaded, python_path
from kit.warm.safety import other_threads

SETTINGS = "matplotlibrc"
MODULE_ENDS = ("py", "pyc", "so")


def describe_obstacle(order: Order, preloaded: Preloaded, variables: Mapping[str, str], reads: Iterable[str]) -> str:
    """The reason, a sentence; empty if this process may be forked for the order.

    Args:
        order: the kernel that is asked for.
        preloaded: what was imported here.
        variables: the environment under which it was imported.
        reads: names of those that were read.
    """
    threads = other_threads()
    if threads:
        return f"the thread {threads[0]!r} has started in the server after its imports"
    names = {name for name in {*order.variables, *variables} if is_read_early(name)} | set(reads)
    asked, own = pick(names, order.variables), pick(names, variables)
    different = [name for name in {*asked, *own} if asked.get(name) != own.get(name)]
    if different:
        return f"{min(different)}, which is read when libraries are imported, has another value"
    folder = str(Path(f"/proc/self/fd/{order.folder}").readlink())
    if "matplotlib" in preloaded.modules and Path(folder, SETTINGS).exists():
        return f"the working folder has a {SETTINGS}, which is read when matplotlib is imported"
    return _describe_hiding(folder, order.variables.get("PYTHONPATH", ""), preloaded)


def _describe_hiding(folder: str, path: str, preloaded: Preloaded) -> str:
    """A file of the project that a cold kernel would import instead of what is imported here.

    IPython searches the working folder after the standard library and before what is installed, and only once the launcher is
    imported; PYTHONPATH comes before everything.
    """
    hidden = [(entry, preloaded.modules | preloaded.launcher_modules) for entry in python_path(path, folder)]
    hidden.append((folder, preloaded.modules - sys.stdlib_module_names))
    for place, names in hidden:
        for entry in sorted(_list_modules(place)):
            if entry.partition(".")[0] in names:
                return f"{entry} in the project hides what is installed under that name"
    return ""


def _list_modules(folder: str) -> set[str]:
    """Files and packages that can be imported from a folder."""
    found = set[str]()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_module = entry.name.rpartition(".")[2] in MODULE_ENDS and "." in entry.name
            if is_module or (entry.is_dir() and Path(entry.path, "__init__.py").exists()):
                found.add(entry.name)
    return found
