"""Lint: what keeps a notebook from being a stage that reads well and runs top to bottom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import msgspec

from kit.errors import KitError
from kit.notebook.cells import code_cells, is_parameters_cell, parse_cell, read_notebook
from kit.notebook.signature import read_stage

MAX_CELL_LINES = 40
MAX_CODE_LINES = 300


class Problem(msgspec.Struct, frozen=True):
    """One thing to mend; `cell` counts from 1, None for the notebook as a whole."""

    notebook: str
    cell: int | None
    message: str

    def __str__(self) -> str:
        """`notebooks/train.ipynb, cell 3: …`."""
        return f"{self.notebook}{f', cell {self.cell}' if self.cell else ''}: {self.message}"


def lint_notebook(data: bytes, path: str) -> list[Problem]:
    """Everything that is wrong with a notebook, an empty list for a good one.

    Args:
        data: the notebook's bytes, stripped or not.
        path: relative to the project.
    """
    try:
        notebook = read_notebook(data, path)
        stage = read_stage(notebook, path)
    except KitError as error:
        return [Problem(path, None, str(error))]
    problems = [Problem(path, index + 1, text) for index, cell in code_cells(notebook) for text in _lint_code(cell)]
    problems += _lint_ids(notebook, path)
    if stage:
        problems += _lint_stage(notebook, path)
        problems += _lint_parameters(notebook, path, {each.name for each in stage.parameters})
    return problems


def _lint_code(cell: dict[str, Any]) -> list[str]:
    source = cell["source"]
    found = []
    if "raises-exception" in cell["metadata"].get("tags", []):
        found.append("tag 'raises-exception' has no effect in kit: an error always fails the stage")
    if source.count("\n") >= MAX_CELL_LINES:
        found.append(f"{source.count(chr(10)) + 1} lines in one cell; move logic to a module beside the notebook")
    try:
        tree = parse_cell(source)
    except SyntaxError as error:
        return [*found, f"line {error.lineno}: {error.msg}"]
    if any(isinstance(node, ast.ClassDef) for node in tree.body):
        found.append("defines a class; move it to a module beside the notebook, where it can be tested")
    return found


def _lint_ids(notebook: dict[str, Any], path: str) -> list[Problem]:
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids:
        return [Problem(path, None, "cells have no ids; save it with a current Jupyter (format 4.5)")]
    double = sorted({identity for identity in ids if ids.count(identity) > 1})
    return [Problem(path, None, f"cell id {identity!r} stands twice") for identity in double]


def _lint_stage(notebook: dict[str, Any], path: str) -> list[Problem]:
    problems = []
    cells = code_cells(notebook)
    if notebook["cells"][0]["cell_type"] != "markdown":
        problems.append(Problem(path, 1, "a stage begins with a title and its purpose in a markdown cell"))
    if cells and not is_parameters_cell(cells[0][1]):
        problems.append(Problem(path, cells[0][0] + 1, "the parameters cell must be the first code cell"))
    n_lines = sum(len(cell["source"].splitlines()) for _, cell in cells)
    if n_lines > MAX_CODE_LINES:
        problems.append(Problem(path, None, f"{n_lines} lines of code; move logic to modules beside the notebook"))
    return problems


def _lint_parameters(notebook: dict[str, Any], path: str, names: set[str]) -> Iterator[Problem]:
    """Cells that set a parameter to a literal, after which no value from outside counts, whatever the record says."""
    for index, cell in code_cells(notebook):
        if is_parameters_cell(cell):
            continue
        try:
            body = parse_cell(cell["source"]).body
        except SyntaxError:
            continue  # said already
        for name in [target.id for node in body for target in _list_literal_targets(node) if target.id in names]:
            text = (
                f"sets parameter {name!r} to a literal, so that no other value has an effect: remove it, or rename it"
            )
            yield Problem(path, index + 1, text)


def _list_literal_targets(node: ast.stmt) -> list[ast.Name]:
    """Names that a statement sets to a literal."""
    match node:
        case ast.Assign(targets=list() as targets, value=value):
            pass
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            targets = [target]
        case _:
            return []
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError):
        return []
    return [target for target in targets if isinstance(target, ast.Name)]
