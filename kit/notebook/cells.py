"""A notebook's cells: reading them strictly, stripping them to what is source."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from kit.errors import NotebookError
from kit.files import sha256_bytes

_KEPT_CELL_METADATA = ("tags", "jupyter", "slideshow")
_PYTHON_CELL_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
_MAGIC = re.compile(r"(\s*)([%!?].*|[\w.*%]+\?{1,2}\s*|[\w.,\s*]+=\s*[%!].*)")


def read_notebook(data: bytes, where: str) -> dict[str, Any]:
    """Parse notebook bytes; every cell's source becomes one string.

    Raises:
        NotebookError: it is no notebook of format 4.
    """
    try:
        notebook = json.loads(data)
    except ValueError as error:
        raise NotebookError(f"{where} is not a notebook: {error}") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise NotebookError(f"{where} is not a notebook: expected an object with a list of cells")
    if notebook.get("nbformat") != 4:
        raise NotebookError(
            f"{where} has notebook format {notebook.get('nbformat')!r}, kit reads format 4; save it with a current Jupyter"
        )
    for index, cell in enumerate(notebook["cells"]):
        _normalise_cell(cell, f"{where}, cell {index + 1}")
    if not isinstance(notebook.setdefault("metadata", {}), dict):
        raise NotebookError(f"{where} is not a notebook: expected its metadata to be an object")
    return notebook


def _normalise_cell(cell: Any, where: str) -> None:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        raise NotebookError(f"{where}: expected a code, markdown or raw cell")
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise NotebookError(f"{where}: expected its source to be text or a list of lines")
    cell["source"] = "".join(lines)
    metadata = cell.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("tags", []), list):
        raise NotebookError(f"{where}: expected metadata to be an object, and its tags a list")


def strip_notebook(data: bytes, where: str) -> bytes:
    """The notebook without outputs, counts and editors' metadata; the same cells always give the same bytes.

    Cells keep their ids; a cell of an older notebook gets one from its position and source.
    """
    notebook = read_notebook(data, where)
    metadata = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "language_info")}
    if isinstance(metadata.get("language_info"), dict):
        metadata["language_info"].pop("version", None)  # of the kernel that ran last
    stripped = {
        "cells": [_strip_cell(cell, index) for index, cell in enumerate(notebook["cells"])],
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    try:
        return (json.dumps(stripped, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError as error:
        raise NotebookError(f"{where} holds text that is no Unicode: {error}") from error


def _strip_cell(cell: dict[str, Any], index: int) -> dict[str, Any]:
    kept = {k: v for k, v in cell["metadata"].items() if k in _KEPT_CELL_METADATA}
    identity = cell.get("id") or f"c{index:03d}-{sha256_bytes(cell['source'].encode(errors='replace'))[:8]}"
    stripped = {"cell_type": cell["cell_type"], "id": identity, "metadata": kept, "source": cell["source"]}
    if cell["cell_type"] == "code":
        stripped |= {"execution_count": None, "outputs": []}
    elif cell.get("attachments"):
        stripped["attachments"] = cell["attachments"]
    return stripped


def code_cells(notebook: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """(index among all cells from 0, cell) of the code cells."""
    return [(index, cell) for index, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]


def is_parameters_cell(cell: dict[str, Any]) -> bool:
    """True for the code cell tagged `parameters`."""
    return "parameters" in cell["metadata"].get("tags", [])


def parse_cell(source: str) -> ast.Module:
    """The syntax tree of a code cell, with IPython's line and cell magics read as `pass`.

    Raises:
        SyntaxError: it is neither Python nor a magic.
    """
    lines = source.splitlines()
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].startswith("%%"):
        if lines[first].split()[0] not in _PYTHON_CELL_MAGICS:
            return ast.Module([ast.Pass()], [])
        lines[first] = "pass"
    while True:
        try:
            return parse_python("\n".join(lines))
        except SyntaxError as error:
            # Only where Python fails is a line a magic: `%` and `?` also stand in strings, comments and operations.
            row = (error.lineno or 0) - 1
            if not 0 <= row < len(lines) or not (magic := _MAGIC.fullmatch(lines[row])):
                raise
            lines[row] = f"{magic[1]}pass"


def parse_python(source: str) -> ast.Module:
    """The syntax tree of a source, without warnings on it.

    Raises:
        SyntaxError: it is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except ValueError as error:  # a null byte, before Python 3.12
            raise SyntaxError(str(error)) from error


def first_heading(notebook: dict[str, Any]) -> str:
    """Text of the first markdown heading, or an empty string."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("#"):
                    return str(line.lstrip("#").strip())
    return ""
