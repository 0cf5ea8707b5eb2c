"""What an execution left, also one that was killed: its notebook and cells, from the seal or from the journal."""

from __future__ import annotations

from typing import Any

import msgspec

from kit.archive import Archive
from kit.errors import KitError
from kit.notebook import read_notebook
from kit.record import Record

_EMPTY: dict[str, Any] = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}


def read_notebook_of(record: Record, archive: Archive) -> dict[str, Any]:
    """The executed notebook: as sealed; of a record that was never closed, up to the last finished output.

    Without either it is the source, unexecuted; a record that failed before it had even that gives one without cells.

    Raises:
        NotebookError: the sealed notebook cannot be read.
    """
    folder = archive.record_folder(record.id)
    if not (folder / "executed.ipynb").is_file() and (journalled := _assemble(record, archive)):
        assembled: dict[str, Any] = journalled[0]
        return assembled
    for name in ("executed.ipynb", "source.ipynb"):
        if (folder / name).is_file():
            return read_notebook((folder / name).read_bytes(), f"record {record.id}, {name}")
    return dict(_EMPTY)


def complete_record(record: Record, archive: Archive) -> Record:
    """The record with what its journal tells of the cells, if it was never closed."""
    if record.cells or not (journalled := _assemble(record, archive)):
        return record
    return msgspec.structs.replace(record, cells=journalled[1])


def _assemble(record: Record, archive: Archive) -> Any:
    """(notebook, cells) from the journal; None if there is none or it has no whole line."""
    from kit.engine import assemble_notebook

    try:
        return assemble_notebook(archive.record_folder(record.id))
    except (KitError, OSError):
        return None
