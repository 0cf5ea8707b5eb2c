"""What a stage's code can reach: the modules beside its notebook, third-party modules, and whether any file may matter.

Nothing is run. The kernel starts in the notebook's folder, which is also the first place that it imports from. What cannot be
understood counts as everything: too much in a stage's reach costs an execution, too little would keep a wrong result.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec

from kit.notebook.cells import code_cells
from kit.notebook.source import Facts, Import, read_cell, read_module

SKIP_TAG = "skip-execution"  # of cells that are not executed, as nbclient has it
_OWN = ("kit", "__future__", "__main__")


class Reader(Protocol):
    """Gives source files by path, as a bundle does."""

    def names(self) -> list[str]:
        """Paths of all files."""

    def read(self, name: str) -> bytes:
        """Bytes of one."""


class Reach(msgspec.Struct, frozen=True):
    """What a notebook's code can reach.

    Attributes:
        helpers: paths of the modules of the bundle that it can import, sorted; packages with their `__init__`.
        modules: dotted names of third-party modules that are imported as the cells run, in the order of first import;
            those of kit and of the standard library are not among them.
        late_modules: those that are imported only inside functions.
        attributes: names of all attributes that cells and helpers use.
        variables: names of the environment variables that they read by name.
        opaque: why every file of the bundle may matter, in a few words; empty if the above is all.
    """

    helpers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    late_modules: tuple[str, ...] = ()
    attributes: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    opaque: str = ""

    @property
    def reads_all(self) -> bool:
        """True if every file of the bundle may matter."""
        return bool(self.opaque)


def find_reach(reader: Reader, path: str, notebook: dict[str, Any]) -> Reach:
    """What a stage's code can reach.

    Args:
        reader: of the bundle.
        path: the notebook's, in the bundle.
        notebook: as `read_notebook` gives it.
    """
    search = _Search(reader, PurePosixPath(path).parent)
    for _, cell in executed_cells(notebook):
        search.add(read_cell(cell["source"]), PurePosixPath(path).name, "", is_late=False)
    search.add_shadows()
    return search.reach()


def executed_cells(notebook: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """(index among all cells from 0, cell) of the code cells that are executed: neither empty nor tagged to be skipped."""
    return [
        (index, cell)
        for index, cell in code_cells(notebook)
        if cell["source"].strip() and SKIP_TAG not in cell["metadata"].get("tags", [])
    ]


class _Search:
    """Follows imports from source to source, as the interpreter would.

    Args:
        reader: of the bundle.
        folder: that is imported from.
    """

    def __init__(self, reader: Reader, folder: PurePosixPath) -> None:
        self._reader, self._folder = reader, folder
        prefix = "" if str(folder) == "." else f"{folder}/"
        modules = (name.removeprefix(prefix) for name in reader.names() if name.startswith(prefix))
        self._files = {name for name in modules if name.endswith(".py")}
        self._tops = {PurePosixPath(name).parts[0].removesuffix(".py") for name in self._files}
        self._packages = {str(parent) for name in self._files for parent in PurePosixPath(name).parents} - {"."}
        self._found: dict[str, bool] = {}  # path below the folder -> imported late only
        self._modules: dict[str, bool] = {}
        self._attributes: set[str] = set()
        self._variables: set[str] = set()
        self._opaque, self._climbs, self._is_anchored = "", "", False

    def reach(self) -> Reach:
        """What was found."""
        return Reach(
            helpers=tuple(sorted(str(self._folder / name) for name in self._found)),
            modules=tuple(name for name, is_late in self._modules.items() if not is_late),
            late_modules=tuple(name for name, is_late in self._modules.items() if is_late),
            attributes=frozenset(self._attributes),
            variables=frozenset(self._variables),
            opaque=self._opaque or (self._climbs if self._is_anchored else ""),
        )

    def add(self, facts: Facts, where: str, package: str, *, is_late: bool) -> None:
        """Take up what one source says, then what it imports.

        Args:
            facts: of it.
            where: its name, for sentences.
            package: dotted name of the package that it lies in.
            is_late: it is itself imported late.
        """
        self._attributes |= facts.attributes
        self._variables |= facts.variables
        self._is_anchored = self._is_anchored or facts.is_anchored
        if facts.opaque and not self._opaque:
            self._opaque = f"{where} {facts.opaque}"
        if facts.climbs and not self._climbs:
            self._climbs = f"{where} goes up from a folder"
        for each in facts.imports:
            self._follow(each, package, is_late=is_late or each.is_late)
        if facts.unpickles:
            self._add_files(self._files, is_late=True)

    def add_shadows(self) -> None:
        """Take up the modules that stand before an installed one of the same name: other libraries may import them."""
        for name in sorted(self._tops):
            if name in sys.stdlib_module_names or _find_installed(name):
                self._add_module(name, is_late=True)
                self._add_name(name, "*", is_late=True)

    def _follow(self, each: Import, package: str, *, is_late: bool) -> None:
        module = _resolve(each, package)
        if module.split(".")[0] in self._tops:
            self._add_module(module, is_late=is_late)
            for name in each.names:
                self._add_name(module, name, is_late=is_late)
        elif not each.level:
            for name in _list_third_party(module, each.names):
                self._modules[name] = self._modules.get(name, True) and is_late

    def _add_name(self, module: str, name: str, *, is_late: bool) -> None:
        folder = module.replace(".", "/")
        if name == "*":
            self._add_files({file for file in self._files if file.startswith(f"{folder}/")}, is_late=is_late)
        elif f"{folder}/{name}.py" in self._files or f"{folder}/{name}" in self._packages:
            self._add_module(f"{module}.{name}", is_late=is_late)

    def _add_module(self, module: str, *, is_late: bool) -> None:
        """A module of the bundle and the packages above it."""
        parts = module.split(".")
        for n in range(1, len(parts) + 1):
            stem = "/".join(parts[:n])
            self._add_files({f"{stem}/__init__.py", f"{stem}.py"} & self._files, is_late=is_late)

    def _add_files(self, files: Iterable[str], *, is_late: bool) -> None:
        for name in sorted(files):
            if name in self._found and (is_late or not self._found[name]):
                continue
            self._found[name] = is_late
            package = ".".join(PurePosixPath(name).parent.parts)
            facts = read_module(self._reader.read(str(self._folder / name)))
            self.add(facts, str(self._folder / name), package, is_late=is_late)


def _resolve(each: Import, package: str) -> str:
    """The dotted name that is meant; empty for a relative import that leads out of its package."""
    if not each.level:
        return each.module
    parts = package.split(".") if package else []
    if each.level - 1 > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - each.level + 1], *filter(None, [each.module])])


def _list_third_party(module: str, names: Iterable[str]) -> Iterator[str]:
    """A module that is neither kit's nor of the standard library, and those of the imported names that are modules."""
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in _OWN or not top:
        return
    yield module
    for name in names:
        if _is_submodule(module, name):
            yield f"{module}.{name}"


@lru_cache(maxsize=1024)
def _is_submodule(module: str, name: str) -> bool:
    """True if a file or folder of an installed package is called so; nothing is imported."""
    top, *rest = module.split(".")
    spec = _find_installed(top)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location, *rest)
        if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file():
            return True
    return False


@lru_cache(maxsize=256)
def _find_installed(name: str) -> Any:
    """Where the interpreter's own packages have a module; what the working folder holds does not matter."""
    return PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
