"""Importing libraries for kernels that are to come, and knowing what these imports have depended on."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.warm.chance import Chance, watch_seeds
from kit.warm.key import site_folders
from kit.warm.reads import changed_variables, watch_reads
from kit.warm.safety import Before, describe_unfit, find_foreign, imported_modules, look, mapped_files, open_descriptors
from kit.warm.standin import pretend_kernel

LAUNCHER_NAME = "kit_launcher"
KERNEL = "ipykernel"
REGISTRY = "__warningregistry__"
OWN = "kit"
OWN_FOLDER = Path(__file__).resolve().parents[1]
# What `import kit` in a notebook needs next; the package itself imports nothing.
OWN_MODULES = ("kit.session",)

Mark = tuple[int, int, int]


class UnfitError(Exception):
    """No kernel may be forked from this process, nor from another that imports the same; the message is a sentence."""


class ChangedError(Exception):
    """A file was changed while it was imported; the next server may have it whole."""


@dataclass(frozen=True)
class Preloaded:
    """What was imported, and on what it depends.

    Attributes:
        names: top-level names that were imported, sorted.
        changes: variables that imports have set; None for one that they removed.
        marks: file -> (mtime ns, size, inode) of what was read; None for one that was not there.
        registries: the warnings that each module has shown.
        descriptors: that are open and may stay open in kernels.
        launcher_modules: top-level names of all that was imported by the launcher.
        modules: top-level names of all that was imported after it.
        chance: generators of random numbers.
    """

    names: tuple[str, ...]
    changes: dict[str, str | None]
    marks: dict[str, Mark | None]
    registries: tuple[dict[Any, Any], ...]
    descriptors: frozenset[int]
    launcher_modules: frozenset[str]
    modules: frozenset[str]
    chance: Chance = field(default_factory=Chance)

    def find_changed(self) -> str:
        """A file that is no longer what it was when it was imported; empty if all are."""
        return next((path for path, mark in self.marks.items() if read_mark(path) != mark), "")


def preload(names: Sequence[str], launcher: Path, reads: set[str]) -> Preloaded:
    """Import the launcher, then what of the names is installed; what cannot be imported is left to the notebook.

    Args:
        names: dotted, in order.
        launcher: the file that makes a process a kernel.
        reads: gets the names of the variables that are read, also if this fails.

    Raises:
        UnfitError: something was started or asked for that a fork cannot share.
        ChangedError: packages are being installed right now.
    """
    started_ns = time.time_ns()
    before, start = dict(os.environ), look()
    search_installed_only()
    with watch_reads(reads), watch_seeds() as chance:
        load_launcher(launcher)
        _require_fit(launcher.name, start)
        launcher_modules = top_names()
        imported = {KERNEL, *_import_all(names, start)}
    foreign = find_foreign([*site_folders(), OWN_FOLDER, launcher])
    if foreign:
        raise UnfitError(f"{foreign} was imported by what is to be preloaded, and is no installed package")
    forget_folder()
    gc.collect()
    gc.freeze()  # kernels share these objects: their collector must not write to them
    return Preloaded(
        names=tuple(sorted(imported)),
        changes=changed_variables(before, dict(os.environ)),
        marks=mark_files(started_ns),
        registries=tuple(each[REGISTRY] for _, each in imported_modules() if isinstance(each.get(REGISTRY), dict)),
        descriptors=open_descriptors() - start.descriptors,
        launcher_modules=launcher_modules,
        modules=top_names() - launcher_modules,
        chance=chance,
    )


def forget_folder() -> None:
    """Let nothing be remembered of what could be imported from the working folder; each kernel has another."""
    for entry, finder in list(sys.path_importer_cache.items()):
        if finder is None or not Path(entry).is_absolute():
            del sys.path_importer_cache[entry]


def top_names() -> frozenset[str]:
    """Top-level names of all that is imported."""
    return frozenset(name.partition(".")[0] for name in list(sys.modules))


def search_installed_only() -> None:
    """Take PYTHONPATH's folders from `sys.path`: they may be a project's own, and each kernel has its own."""
    standard = {*map(str, site_folders()), *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))}
    own = set(python_path(os.environ.get("PYTHONPATH", ""))) - standard
    sys.path[:] = [entry for entry in sys.path if entry not in own]


def _import_all(names: Sequence[str], start: Before) -> set[str]:
    """Top-level names of those that could be imported."""
    imported, asked = set[str](), list[str]()
    with pretend_kernel(asked):
        for name in names:
            if not is_installed(name):
                continue
            if _import(name):
                imported.add(name.partition(".")[0])
            _require_fit(name, start)
            if asked:
                raise UnfitError(f"{name} asks the running kernel for {asked[0]!r} while it is imported")
    return imported


def is_installed(name: str) -> bool:
    """True for a module of an installed package, and for kit's own; never for a project's."""
    top = name.partition(".")[0]
    if top == OWN:
        return True
    folders = site_folders()
    spec = importlib.machinery.PathFinder.find_spec(top, [str(folder) for folder in folders])
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    resolved = [Path(place).resolve() for place in places if place and Path(place).exists()]
    return bool(resolved) and all(any(place.is_relative_to(f) for f in folders) for place in resolved)


def load_launcher(launcher: Path) -> None:
    """Execute the launcher's file as a module that nobody imports; see `kit.warm.child` for what calls its `main`.

    Raises:
        UnfitError: it cannot be executed.
    """
    spec = importlib.util.spec_from_file_location(LAUNCHER_NAME, launcher)
    if spec is None or spec.loader is None:
        raise UnfitError(f"{launcher} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[LAUNCHER_NAME] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UnfitError(f"{launcher} cannot be loaded: {type(error).__name__}: {error}") from error


def mark_files(started_ns: int) -> dict[str, Mark | None]:
    """Every file that is imported or mapped, and the libraries' own settings files.

    Raises:
        ChangedError: one was changed while libraries were imported.
    """
    files = {file for _, each in imported_modules() if isinstance(file := each.get("__file__"), str)}
    mapped = {path for path in mapped_files() if Path(path).is_file()}
    marks = {path: read_mark(path) for path in sorted(files | mapped)}
    for path, mark in marks.items():
        if mark and mark[0] >= started_ns:
            raise ChangedError(f"{path} was changed while it was imported")
    return {**marks, **{path: read_mark(path) for path in settings_files()}}


def settings_files() -> list[str]:
    """Files beside their packages that imported libraries have read, or would if they were there."""
    found = []
    if matplotlib := sys.modules.get("matplotlib"):
        found += [matplotlib.matplotlib_fname(), str(Path(matplotlib.get_configdir(), "matplotlibrc"))]
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        home = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
        found.append(str(Path(home, "keras.json")))
    return found


def read_mark(path: str) -> Mark | None:
    """What tells one state of a file from another; None if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 (5,000 of them before each fork)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _import(name: str) -> bool:
    """False if it cannot be imported: the notebook will find that out itself."""
    try:
        for each in (name, *(OWN_MODULES if name == OWN else ())):
            importlib.import_module(each)
    except BaseException as error:  # noqa: BLE001 (whatever a library raises at its import, SystemExit too)
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 (the server's log)
        return False
    return True


def _require_fit(name: str, before: Before) -> None:
    problem = describe_unfit(before)
    if problem:
        raise UnfitError(f"{name} {problem} when it is imported")


def python_path(text: str, folder: str = "") -> list[str]:
    """PYTHONPATH's folders as a new interpreter has them in `sys.path` when it is started in a folder (site.removeduppaths)."""
    entries = (os.path.abspath(Path(folder, entry)) for entry in text.split(os.pathsep))  # noqa: PTH100 (".." goes)
    return list(dict.fromkeys(entries)) if text else []
