"""The adapter to papermill: it injects the parameters and calls us back as its engine; the outcome is ours alone."""

from __future__ import annotations

import contextlib
import json
import keyword
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit import standins
from kit.engine.assembly import assemble_notebook, is_executable
from kit.engine.journal import Journal, JournalError, Open, open_new
from kit.engine.signals import Interruption
from kit.engine.values import Job, Outcome, Progress
from kit.errors import NotebookError, ParameterError
from kit.record import CellOutcome, CellStatus, Failure, Status
from kit.redaction import Redactor
from kit.signing import KEY_VARIABLE

ENGINE_NAME = "kit"
INJECTED_ID = "injected-parameters"


class PapermillEngine:
    """Executes notebooks through papermill, each in a kernel of its own.

    Args:
        open_file: makes journal.jsonl and log.txt.
    """

    def __init__(self, open_file: Open = open_new) -> None:
        self._open_file = open_file

    def execute(self, job: Job, progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
        """Execute one notebook; whatever the notebook does, the answer is an Outcome.

        Raises:
            ParameterError: a name that would become code.
            NotebookError: papermill cannot read the notebook.
            Exception: what `progress` raised; the kernel is gone and the journal says so.
        """
        require_names(job.parameters)
        with Interruption() as interruption:
            execution = _Execution(job, progress, interruption, self._open_file)
            _call_papermill(job, execution)
            return execution.outcome()


class _Execution:
    """One execution, from the notebook that papermill hands over to the outcome."""

    def __init__(
        self, job: Job, progress: Callable[[Progress], None], interruption: Interruption, open_file: Open
    ) -> None:
        self._job, self._progress, self._interruption = job, progress, interruption
        self._open_file = open_file
        self._redactor = Redactor(job.secrets)
        self._deadline = time.monotonic() + job.timeout_s if job.timeout_s is not None else float("inf")
        self._notebook: dict[str, Any] = {}
        self._status = Status.FAILED
        self._failure: Failure | None = Failure("NotStarted", "papermill did not start the notebook")
        self._usage: tuple[float | None, int | None] = (None, None)

    def run(self, notebook: dict[str, Any]) -> None:
        """Called by papermill, with the parameters injected."""
        self._notebook = notebook
        try:
            journal = Journal(self._job.journal, self._redactor, self._job.output_budget_bytes, self._open_file)
        except OSError as error:
            self._close(Status.FAILED, _unwritable(error))
            return
        try:
            self._run_journalled(journal)
            journal.write_end(self._status, self._failure)
        except JournalError as error:
            self._close(Status.FAILED, _unwritable(error))
            with contextlib.suppress(OSError):  # there may be room for this line where there was none for an output
                journal.write_end(self._status, self._failure)
        except Exception as error:
            # Not the notebook's doing: the caller's progress callback, or a defect here. The caller gets it as it is.
            self._close(Status.FAILED, Failure(type(error).__name__, f"kit stopped the execution: {error}"))
            with contextlib.suppress(OSError):
                journal.write_end(self._status, self._failure)
            raise
        finally:
            journal.close()

    def outcome(self) -> Outcome:
        """The whole outcome, as the journal tells it."""
        notebook, cells = self._assemble()
        if self._status is Status.SUCCEEDED and not self._has_run_all(notebook, cells):
            self._close(Status.FAILED, Failure("CellsNotRun", "the journal does not show that every cell succeeded"))
        cpu_s, peak_memory_bytes = self._usage
        return Outcome(
            status=self._status,
            notebook=self._redactor.value(notebook),
            cells=cells,
            failure=self._failure,
            kernel_cpu_s=cpu_s,
            peak_memory_bytes=peak_memory_bytes,
        )

    def _run_journalled(self, journal: Journal) -> None:
        from kit.engine.client import SHUTDOWN_GRACE_S, CellRunner, Stop
        from kit.engine.kernel import Kernel

        journal.write_header(self._notebook)
        inherited = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        variables = {**inherited, **self._job.variables, "PYTHONHASHSEED": "0"}
        try:
            kernel = Kernel(self._job.folder, variables, self._interruption.wake_fd, self._job.output_budget_bytes)
        except (OSError, RuntimeError) as error:
            self._close(Status.FAILED, Failure("KernelNotStarted", f"the kernel could not be started: {error}"))
            return
        try:
            cells = self._notebook["cells"]
            CellRunner(cells, kernel, journal, self._deadline, self._interruption, self._progress).run()
            self._close(Status.SUCCEEDED, None)
        except Stop as stop:
            self._close(stop.status, stop.failure)
        finally:
            grace_s = SHUTDOWN_GRACE_S if self._status is Status.SUCCEEDED else 1.0
            kernel.shut_down(grace_s, lambda: self._interruption.is_impatient)
            self._usage = kernel.measure()

    def _close(self, status: Status, failure: Failure | None) -> None:
        self._status, self._failure = status, failure
        if failure is not None:
            message = self._redactor.text(failure.message)[:2000]
            self._failure = msgspec.structs.replace(failure, kind=self._redactor.text(failure.kind), message=message)

    def _assemble(self) -> tuple[dict[str, Any], tuple[CellOutcome, ...]]:
        try:
            notebook, cells = assemble_notebook(self._job.journal)
        except OSError:  # also IntegrityError: not even the header could be written
            notebook = self._notebook
            cells = tuple(
                CellOutcome(index, cell["id"], CellStatus.NOT_RUN)
                for index, cell in enumerate(notebook["cells"])
                if is_executable(cell)
            )
        ended = CellStatus(self._status) if self._status is not Status.SUCCEEDED else CellStatus.FAILED
        # A cell without an end in the journal: the disk was full before it could be written.
        return notebook, tuple(
            msgspec.structs.replace(cell, status=ended) if cell.status is CellStatus.RUNNING else cell for cell in cells
        )

    @staticmethod
    def _has_run_all(notebook: dict[str, Any], cells: tuple[CellOutcome, ...]) -> bool:
        from kit.engine.client import SKIP_TAG

        def is_skipped(cell: CellOutcome) -> bool:
            return SKIP_TAG in notebook["cells"][cell.index]["metadata"].get("tags", [])

        return all(cell.status is CellStatus.SUCCEEDED or is_skipped(cell) for cell in cells)


def require_names(parameters: Mapping[str, Any]) -> None:
    """Refuse what papermill would paste as code.

    Raises:
        ParameterError: a name that is no identifier, or a keyword; a value that is no JSON value.
    """
    for name, value in parameters.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ParameterError(f"parameter {name!r} is no Python identifier; rename it in the parameters cell")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"parameter {name!r} has a value that is no JSON value: {error}") from error


def _call_papermill(job: Job, execution: _Execution) -> None:
    """Let papermill inject the parameters and call our engine."""
    standins.install()
    # Without a handler, Python prints papermill's warnings about what we know better.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    import nbformat
    import papermill
    from papermill.engines import Engine, papermill_engines
    from papermill.exceptions import PapermillException

    class KitEngine(Engine):  # type: ignore[misc]
        """What papermill finds under our name."""

        @classmethod
        def execute_managed_notebook(cls, manager: Any, kernel_name: str, *, execution: _Execution, **_: Any) -> None:
            execution.run(_plain_notebook(manager.nb))

    papermill_engines.register(ENGINE_NAME, KitEngine)
    try:
        papermill.execute_notebook(
            nbformat.from_dict(_with_ids(job.notebook)),
            None,
            parameters=job.parameters,
            engine_name=ENGINE_NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution=execution,
        )
    except (PapermillException, nbformat.ValidationError) as error:
        raise NotebookError(f"papermill cannot prepare the notebook: {error}") from error


def _with_ids(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook in nbformat 4.5, where each cell has an id; papermill would make random ones."""
    cells = [{"id": f"cell-{index}", **cell} for index, cell in enumerate(notebook["cells"])]
    return {**notebook, "nbformat_minor": max(5, notebook.get("nbformat_minor", 5)), "cells": cells}


def _plain_notebook(notebook: Any) -> dict[str, Any]:
    """Plain JSON without papermill's metadata, and with a stable id for the cell that it injected."""
    plain: dict[str, Any] = json.loads(json.dumps(notebook))
    plain["metadata"].pop("papermill", None)
    for cell in plain["cells"]:
        cell["metadata"].pop("papermill", None)
        if not cell["metadata"].get("tags", True):
            del cell["metadata"]["tags"]
        if INJECTED_ID in cell["metadata"].get("tags", []):
            cell["id"] = INJECTED_ID
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return plain


def _unwritable(error: OSError) -> Failure:
    where = Path(error.filename).name if error.filename else "the journal"
    return Failure(type(error).__name__, f"{where} could not be written: {error.strerror or error}")
