"""What an engine is asked for and what it answers."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Literal

import msgspec

from kit.record import CellOutcome, Failure, Status

OUTPUT_BUDGET_BYTES = 10_000_000


class Start(enum.StrEnum):
    """How a kernel comes to be."""

    COLD = "cold"  # a new interpreter
    READY = "ready"  # forked from a process that has imported ipykernel, and nothing that notebooks import
    WARM = "warm"  # forked from a process that has also imported the libraries that the notebook will


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One notebook to execute.

    Attributes:
        notebook: nbformat 4 JSON, stripped.
        parameters: JSON values by name, to be injected; already validated against the notebook.
        folder: working directory of the kernel.
        variables: environment variables added for the kernel.
        journal: an existing folder that gets journal.jsonl and log.txt.
        secrets: name -> value, replaced in everything that is written.
        timeout_s: for the whole of it, kernel start included; None for no limit.
        output_budget_bytes: of output kept per cell.
        start: how the kernel shall come to be; where it cannot, it is a cold one.
        preload: for a warm start: dotted names of the modules to have imported, in the order of the notebook's imports.
    """

    notebook: dict[str, Any]
    folder: Path
    journal: Path
    parameters: dict[str, Any] = {}
    variables: dict[str, str] = {}
    secrets: dict[str, str] = {}
    timeout_s: float | None = None
    output_budget_bytes: int = OUTPUT_BUDGET_BYTES
    start: Start = Start.COLD
    preload: tuple[str, ...] = ()


class Event(enum.StrEnum):
    """What has just happened."""

    KERNEL_READY = "kernel-ready"
    CELL_STARTED = "cell-started"
    CELL_FINISHED = "cell-finished"


class Progress(msgspec.Struct, frozen=True):
    """Where an execution stands.

    Attributes:
        event: what has just happened.
        n_done: code cells that have ended.
        n_cells: code cells in all (empty ones do not count).
        elapsed_s: since the execution began.
        cell: index among all cells of the executed notebook; None for the kernel.
    """

    event: Event
    n_done: int
    n_cells: int
    elapsed_s: float
    cell: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended. `SUCCEEDED` only if the kernel itself said so for every cell.

    Attributes:
        status: SUCCEEDED, FAILED, TIMED_OUT, KERNEL_DIED or INTERRUPTED.
        notebook: as executed, with what was put out; without secrets.
        cells: one for each code cell that is not empty, in order.
        failure: why, unless it succeeded.
        kernel_cpu_s: user and system time of the kernel and its ended children; None where the system does not tell.
        peak_memory_bytes: the kernel's largest resident set; None where the system does not tell.
        start: `cold` for a new interpreter, `warm` for a forked one; empty if no kernel was started.
        preloaded: modules that were imported before the kernel was forked, by top-level name, sorted; the standard library
            and what they import in turn not among them.
        start_note: why a warm start that was asked for was not possible, a sentence; else empty.
    """

    status: Status
    notebook: dict[str, Any]
    cells: tuple[CellOutcome, ...]
    failure: Failure | None = None
    kernel_cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    start: Literal["", "cold", "warm"] = ""
    preloaded: tuple[str, ...] = ()
    start_note: str = ""
