"""A project: a folder with `[tool.kit]` in its pyproject.toml, `notebooks/` and `environments/`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from kit.database import database_path
from kit.environment import Environment, read_environment, require_known_parameters
from kit.errors import ProjectError, SuiteError, suggest
from kit.graph import Graph, Stage, make_graph
from kit.notebook import Problem, lint_notebook, read_notebook, read_stage
from kit.suite import load_suite

NOTEBOOKS = "notebooks"
ENVIRONMENTS = "environments"
RESERVED_NAMES = (  # kit's own commands
    "all", "audit", "checkpoint", "diff", "export", "history", "import", "kernels", "key", "lab", "open", "promote", "records",
    "releases", "report", "reproduce", "rollback", "serve", "show", "status", "sweep", "verify", "waive", "why",
)  # fmt: skip


class Project(msgspec.Struct, frozen=True):
    """Where a project's things are.

    Attributes:
        root: absolute path of the folder that holds pyproject.toml.
        name: as `[tool.kit] name`, else the folder's.
        archive: absolute path of the archive.
        reports: absolute path of the reports.
        lock: the lock file, relative to the root; may be missing.
        exclude: patterns of files that are no source.
        trusted_keys: public keys whose signatures count, as `kit key show` prints them.
        compare: comparators by name of an output, metric or cell, see `kit.compare`.
    """

    root: Path
    name: str
    archive: Path
    reports: Path
    lock: str
    exclude: tuple[str, ...]
    trusted_keys: tuple[str, ...] = ()
    compare: dict[str, Any] = {}

    @property
    def scratch(self) -> Path:
        """`.kit/`: workspaces, caches; can be deleted whenever nothing executes."""
        return self.root / ".kit"

    @property
    def index(self) -> Path:
        """What the archive's records say, see `kit.index`."""
        return database_path(self.scratch, "index")

    @property
    def digests(self) -> Path:
        """What is known of files that have not changed, see `kit.digests`."""
        return database_path(self.scratch, "digests")

    @property
    def pages(self) -> Path:
        """Which pages of the reports are up to date, see `kit.report`."""
        return database_path(self.scratch, "reports")

    @property
    def environments(self) -> Path:
        """The folder of environment files."""
        return self.root / ENVIRONMENTS

    def read_environment(self, name: str) -> Environment:
        """The environment of that name, its parameters checked against the stages of the working tree."""
        environment = read_environment(self.environments, name)
        require_known_parameters(environment, self.read_graph())
        return environment

    def read_graph(self) -> Graph:
        """The stages of the working tree."""
        return stage_graph(self.root)


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    archive: str = "archive"
    reports: str = "reports"
    lock: str = "requirements.lock"
    exclude: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()
    compare: dict[str, Any] = {}


def find_project(start: Path) -> Project:
    """The project that a folder lies in.

    Raises:
        ProjectError: no folder above has a pyproject.toml with `[tool.kit]`, or its settings are wrong.
    """
    for folder in [start.resolve(), *start.resolve().parents]:
        file = folder / "pyproject.toml"
        if file.is_file() and (settings := _read_settings(file)) is not None:
            return _make_project(folder, settings)
    raise ProjectError(
        f"{start} lies in no kit project: no pyproject.toml with a [tool.kit] table here or above; "
        f"go to your project, or add the table"
    )


def _read_settings(file: Path) -> dict[str, Any] | None:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} cannot be read as TOML: {error}") from error
    tools = content.get("tool")
    table = tools.get("kit") if isinstance(tools, dict) else None
    return table if isinstance(table, dict) else None


def _make_project(root: Path, table: dict[str, Any]) -> Project:
    known = [field.name for field in msgspec.structs.fields(_Settings)]
    for key in table:
        if key not in known:
            raise ProjectError(f"pyproject.toml, [tool.kit]: key {key!r}{suggest(key, known)}")
    try:
        settings = msgspec.convert(table, _Settings)
    except msgspec.ValidationError as error:
        raise ProjectError(f"pyproject.toml, [tool.kit]: {str(error).replace('$.', '')}") from error
    return Project(
        root=root,
        name=settings.name or root.name,
        archive=(root / settings.archive).resolve(),
        reports=(root / settings.reports).resolve(),
        lock=settings.lock,
        exclude=settings.exclude,
        trusted_keys=settings.trusted_keys,
        compare=settings.compare,
    )


def stage_graph(root: Path) -> Graph:
    """The stages of a source folder: `notebooks/*.ipynb` that open a stage.

    Raises:
        ProjectError: there is no stage.
    """
    paths = sorted((root / NOTEBOOKS).glob("*.ipynb"))
    return graph_of_notebooks((f"{NOTEBOOKS}/{path.name}", path.read_bytes()) for path in paths)


def graph_of_notebooks(notebooks: Iterable[tuple[str, bytes]]) -> Graph:
    """The stages of some notebooks.

    Args:
        notebooks: (path relative to the project, bytes).

    Raises:
        ProjectError: there is no stage, or one has a name that cannot be a command.
    """
    read = (_read_stage(data, path) for path, data in notebooks)
    stages = [stage for stage in read if stage]
    if not stages:
        raise ProjectError(f"no stage found: none of {NOTEBOOKS}/*.ipynb calls kit.open_stage(inputs=[…], outputs=[…])")
    for stage in stages:
        if not stage.name.replace("-", "_").isidentifier():
            raise ProjectError(
                f"{stage.notebook}: a stage's name must be letters, digits, '-' and '_', a letter first: rename the file"
            )
        if stage.name in RESERVED_NAMES:
            raise ProjectError(f"{stage.notebook}: `kit {stage.name}` is a command of kit itself: rename the file")
    return make_graph(stages)


@lru_cache(maxsize=256)
def _read_stage(data: bytes, path: str) -> Stage | None:
    """The stage that a notebook is; one command asks for the same bytes again and again."""
    return read_stage(read_notebook(data, path), path)


def lint_notebooks(root: Path) -> list[Problem]:
    """What is wrong with the notebooks of a source folder and the expectation suites beside them; empty if nothing."""
    paths = sorted((root / NOTEBOOKS).glob("*.ipynb"))
    problems = [problem for path in paths for problem in lint_notebook(path.read_bytes(), f"{NOTEBOOKS}/{path.name}")]
    for path in sorted((root / NOTEBOOKS / "expectations").glob("*.json")):
        try:
            load_suite(path)
        except SuiteError as error:
            problems.append(Problem(f"{NOTEBOOKS}/expectations/{path.name}", None, str(error)))
    return problems
