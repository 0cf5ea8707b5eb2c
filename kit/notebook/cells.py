"""A notebook's cells: reading them strictly, stripping them to what is source."""

from __future__ import annotations

import json
import re
from typing import Any

from kit.errors import NotebookError
from kit.files import sha256_bytes

_KEPT_CELL_METADATA = ("tags", "jupyter", "slideshow")
_MAGIC = re.compile(r"^(\s*)[%!?].*$|^(\s*)\S.*\?$", re.MULTILINE)


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
    notebook.setdefault("metadata", {})
    return notebook


def _normalise_cell(cell: Any, where: str) -> None:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        raise NotebookError(f"{where}: expected a code, markdown or raw cell")
    source = cell.get("source", "")
    cell["source"] = "".join(source) if isinstance(source, list) else str(source)
    cell.setdefault("metadata", {})


def strip_notebook(data: bytes, where: str) -> bytes:
    """The notebook without outputs, counts and editors' metadata; the same cells always give the same bytes.

    Cells keep their ids; a cell of an older notebook gets one from its position and source.
    """
    notebook = read_notebook(data, where)
    metadata = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "language_info")}
    metadata.get("language_info", {}).pop("version", None)
    stripped = {
        "cells": [_strip_cell(cell, index) for index, cell in enumerate(notebook["cells"])],
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(stripped, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _strip_cell(cell: dict[str, Any], index: int) -> dict[str, Any]:
    kept = {k: v for k, v in cell["metadata"].items() if k in _KEPT_CELL_METADATA}
    identity = cell.get("id") or f"c{index:03d}-{sha256_bytes(cell['source'].encode())[:8]}"
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


def plain_python(source: str) -> str:
    """The source with IPython's line and cell magics replaced by `pass`, line for line, so that `ast` reads it."""
    if source.lstrip().startswith("%%"):
        return "pass"
    return _MAGIC.sub(lambda match: f"{match.group(1) or match.group(2) or ''}pass", source)


def first_heading(notebook: dict[str, Any]) -> str:
    """Text of the first markdown heading, or an empty string."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("#"):
                    return str(line.lstrip("#").strip())
    return ""
