"""The key of an execution: everything that decides what it gives, part by part, so that a change can be named.

Two executions with the same key would give the same, as far as code that is read and not run can tell: what a notebook fetches
from the network, or reads from an absolute path, no key knows. Such things belong into `[data]`.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from kit.bundle import Bundle
from kit.environment import Environment
from kit.execute.loose import digest_loose
from kit.execute.surroundings import Surroundings, choose_packages
from kit.files import canonical_json, sha256_bytes
from kit.graph import BUILD, Stage
from kit.notebook import read_notebook
from kit.notebook.cells import is_parameters_cell, parse_python
from kit.notebook.imports import Reach, executed_cells, find_reach
from kit.parameter import ResolvedParameter, Source

FORMAT = 1
SUITES = "notebooks/expectations"
_NO_DATA = (".ipynb", ".md")  # beside the notebook; in folders below it they are texts like any other
_LIST_PACKAGES = "list_packages"


class StageKey(msgspec.Struct, frozen=True, kw_only=True):
    """What decides what an execution gives.

    Attributes:
        stage: its name.
        environment: its name.
        cells: digest of the executed code cells; of the one of parameters, whose values count instead, the imports.
        helpers: digests by path of the modules that the cells can import.
        files: digests by path of the other files beside the notebook that the code could read.
        bundle: digest of all sources, where the code can read any of them, and of a build; else empty.
        origin: of a build the commit, and whether the sources are exactly that.
        parameters: value by name; a mapping from the notebook as text, because it is executed in that order.
        inputs: digest by name.
        lock: digest of the lock; None without one.
        packages: digest of the installed versions of those that the lock names or that are imported, see `choose_packages`;
            of all where the code asks for the list.
        loose: digests of imported sources that neither bundle nor version pins, see `digest_loose`.
        python: implementation and version.
        kit: version and digest of the sources.
        variables: those that choose other arithmetic.
        environ: digests of the values of those that the code reads by name, where they are set.
        settings: the environment's, where the code asks for them.
        secrets: references, never values, where the code asks for a secret.
        subject: of a run its release, of a release its training, each with the configuration.
        drift: what may differ from the release that is run.
    """

    stage: str
    environment: str
    cells: str
    helpers: dict[str, str]
    files: dict[str, str]
    bundle: str
    origin: dict[str, Any]
    parameters: dict[str, Any]
    inputs: dict[str, str]
    lock: str | None
    packages: str
    loose: dict[str, str]
    python: str
    kit: dict[str, str]
    variables: dict[str, str]
    environ: dict[str, str]
    settings: dict[str, Any] | None
    secrets: dict[str, Any] | None
    subject: dict[str, str]
    drift: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The key as one digest."""
        return sha256_bytes(canonical_json({"format": FORMAT, **msgspec.to_builtins(self)}))


def make_key(
    stage: Stage,
    environment: Environment,
    bundle: Bundle,
    parameters: Iterable[ResolvedParameter],
    inputs: Mapping[str, str],
    surroundings: Surroundings,
    lock_name: str,
    subject: Mapping[str, str] | None = None,
    drift: tuple[str, ...] = (),
) -> tuple[StageKey, Reach]:
    """The key of an execution, and what its code can reach.

    Args:
        stage: of the bundle.
        environment: its effective configuration.
        bundle: the sources.
        parameters: resolved.
        inputs: digest by name.
        surroundings: what is installed and set.
        lock_name: path of the lock in the bundle; it may be missing.
        subject: see `StageKey`.
        drift: see `StageKey`.
    """
    notebook = read_notebook(bundle.read(stage.notebook), stage.notebook)
    reach = find_reach(bundle, stage.notebook, notebook)
    names, lock = bundle.names(), read_lock(bundle, lock_name)
    reads_all = reach.reads_all or stage.name == BUILD
    files = [] if reads_all else list_files(stage, names)
    key = StageKey(
        stage=stage.name,
        environment=environment.name,
        cells=sha256_bytes(canonical_json([source for _, source in list_code(notebook)])),
        helpers=digest_sources(bundle, () if reads_all else reach.helpers),
        files=digest_sources(bundle, files),
        bundle=bundle.sha256 if reads_all else "",
        origin={"commit": bundle.commit, "is_dirty": bundle.is_dirty} if stage.name == BUILD else {},
        parameters=describe_parameters(parameters),
        inputs=dict(inputs),
        lock=sha256_bytes(lock) if lock is not None else None,
        packages=sha256_bytes(canonical_json(choose_reached(lock, surroundings.packages, reach))),
        loose=digest_loose([*reach.modules, *reach.late_modules]),
        python=surroundings.python,
        kit=surroundings.kit,
        variables=surroundings.variables,
        environ=_digest_variables(reach.variables, surroundings.environ),
        settings=environment.settings if _uses(reach, "config") else None,
        secrets=msgspec.to_builtins(environment.secrets) if _uses(reach, "secret") else None,
        subject=dict(subject or {}),
        drift=drift,
    )
    return key, reach


def describe_parameters(parameters: Iterable[ResolvedParameter]) -> dict[str, Any]:
    """Values as they are part of a key: equal only if a kernel cannot tell them apart."""
    return {each.name: _describe_value(each) for each in parameters}


def _describe_value(parameter: ResolvedParameter) -> Any:
    """A mapping from the notebook keeps its order there; one from outside is sorted on its way into the kernel."""
    is_ordered = parameter.source is Source.NOTEBOOK and _holds_mapping(parameter.value)
    return {"in this order": json.dumps(parameter.value)} if is_ordered else parameter.value


def _holds_mapping(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_mapping, value)))


def choose_reached(lock: bytes | None, packages: Mapping[str, str], reach: Reach) -> dict[str, str]:
    """Versions of the packages that count for a stage; see `choose_packages`."""
    if _LIST_PACKAGES in reach.attributes:
        return dict(packages)
    return choose_packages(lock, packages, [*reach.modules, *reach.late_modules])


def _digest_variables(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Digests, because a value may be a secret."""
    return {name: sha256_bytes(os.fsencode(environ[name])) for name in sorted(names) if name in environ}


def read_lock(bundle: Bundle, name: str) -> bytes | None:
    """The lock in a bundle; None if it has none."""
    return bundle.read(name) if name in bundle.names() else None


def list_code(notebook: dict[str, Any]) -> list[tuple[int, str]]:
    """(index among all cells from 0, source) of the executed cells; of the one of parameters the imports, if it has any."""
    sources = (
        (index, list_imports(cell["source"]) if is_parameters_cell(cell) else cell["source"])
        for index, cell in executed_cells(notebook)
    )
    return [(index, source) for index, source in sources if source]


def list_imports(source: str) -> str:
    """The statements of a cell that import something, a line each; all of a cell that is no Python."""
    try:
        statements = parse_python(source).body
    except SyntaxError:
        return source
    return "\n".join(ast.unparse(each) for each in statements if isinstance(each, ast.Import | ast.ImportFrom))


def list_files(stage: Stage, names: Iterable[str]) -> list[str]:
    """Paths beneath the notebook's folder that its code could read as data.

    Modules, and notebooks and texts beside it, are none; of the expectation suites only those of what the stage reads and
    writes.
    """
    folder = f"{stage.notebook.rpartition('/')[0]}/"
    stems = {PurePosixPath(name).stem for name in (*stage.inputs, *stage.outputs)}
    beneath = (name for name in names if name.startswith(folder) and not name.endswith(".py"))
    data = (name for name in beneath if "/" in name.removeprefix(folder) or not name.endswith(_NO_DATA))
    return [name for name in data if _is_its_own(name, stems)]


def _is_its_own(name: str, stems: set[str]) -> bool:
    """False for the expectation suite of an artifact with another stem."""
    folder, _, file = name.rpartition("/")
    is_suite = folder == SUITES and file.endswith(".json")
    return not is_suite or file.removesuffix(".json") in stems


def digest_sources(bundle: Bundle, names: Iterable[str]) -> dict[str, str]:
    """Digests of some files of a bundle."""
    return {name: sha256_bytes(bundle.read(name)) for name in names}


def _uses(reach: Reach, attribute: str) -> bool:
    """True if the code asks for it, or nobody can tell."""
    return reach.reads_all or attribute in reach.attributes
