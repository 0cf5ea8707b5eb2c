"""The adapter to papermill: it injects the parameters and calls us back as its engine; the outcome is ours alone."""

from __future__ import annotations

import contextlib
import json
import keyword
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit import standins
from kit.engine.assembly import assemble_notebook, is_executable
from kit.engine.interpreter import Interpreter
from kit.engine.journal import Journal, JournalError, Open, open_new
from kit.engine.signals import Interruption
from kit.engine.start import Fork, Started, make_variables, start_kernel
from kit.engine.values import Job, Outcome, Progress, Start
from kit.errors import NotebookError, ParameterError
from kit.record import CellOutcome, CellStatus, Failure, Status
from kit.redaction import Redactor

ENGINE_NAME = "kit"
INJECTED_ID = "injected-parameters"


class PapermillEngine:
    """Executes notebooks through papermill, each in a kernel of its own.

    Args:
        open_file: makes journal.jsonl and log.txt.
        fork: makes kernels that are not cold; without it `kit.warm.fork_kernel`.
    """

    def __init__(self, open_file: Open = open_new, fork: Fork | None = None) -> None:
        self._open_file, self._fork = open_file, fork or _fork_late
        self._waiting: Interpreter | None = None

    def prepare(self, start: Start, preload: tuple[str, ...]) -> None:
        """Begin to start the kernel of the next job, see `Job`; returns at once."""
        if start is Start.COLD and self._waiting is None:
            with contextlib.suppress(OSError):  # when it is needed, its failure will be told
                self._waiting = Interpreter(make_variables({}))

    def execute(self, job: Job, progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
        """Execute one notebook; whatever the notebook does, the answer is an Outcome.

        Raises:
            ParameterError: a name that would become code.
            NotebookError: papermill cannot read the notebook.
            Exception: what `progress` raised; the kernel is gone and the journal says so.
        """
        require_names(job.parameters)
        waiting, self._waiting = self._waiting, None
        with Interruption() as interruption:
            execution = _Execution(job, progress, interruption, self._open_file)
            with execution.start_kernel(waiting, self._fork):
                _call_papermill(job, execution)
            return execution.outcome()


class _Execution:
    """One execution, from the start of its kernel to the outcome."""

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
        self._started: Started | None = None
        self._start_error: OSError | None = None

    @contextlib.contextmanager
    def start_kernel(self, waiting: Interpreter | None, fork: Fork) -> Iterator[None]:
        """While entered there is a kernel; it comes up while papermill prepares the notebook."""
        with contextlib.ExitStack() as stack:
            try:
                self._started = stack.enter_context(start_kernel(self._job, waiting, self._is_over, fork))
            except OSError as error:
                self._start_error = error
            yield

    def _is_over(self) -> bool:
        return self._interruption.is_requested or time.monotonic() >= self._deadline

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
            start=self._started.start if self._started else "",
            preloaded=self._started.preloaded if self._started else (),
            start_note=self._started.note if self._started else "",
        )

    def _run_journalled(self, journal: Journal) -> None:
        from kit.engine.client import SHUTDOWN_GRACE_S, CellRunner, Stop
        from kit.engine.kernel import Kernel

        journal.write_header(self._notebook)
        if self._started is None:
            sentence = f"the kernel could not be started: {self._start_error}"
            self._close(Status.FAILED, Failure("KernelNotStarted", sentence))
            return
        kernel = Kernel(self._started, self._interruption.wake_fd)
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


def _fork_late(**options: Any) -> Any:
    """`kit.warm.fork_kernel`, imported when it is needed."""
    from kit.warm import fork_kernel

    return fork_kernel(**options)


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


# What papermill and nbformat import for stores, for validation and for their own engine; none of it is used here.
_UNUSED = (
    "rfc3987_syntax", "jsonschema", "requests", "tenacity", "pyarrow", "pyarrow.fs", "gcsfs", "boto3", "boto3.session",
    "azure.identity", "azure.storage.blob", "azure.datalake.store", "github", "papermill.clientwrap",
)  # fmt: skip


def _call_papermill(job: Job, execution: _Execution) -> None:
    """Let papermill inject the parameters and call our engine."""
    # Without a handler, Python prints papermill's warnings about what we know better.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    with standins.importing_late(*_UNUSED):
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
        with _without_validation():
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


class _Valid:
    """A validator that finds nothing."""

    def validate(self, _: Any) -> None:
        """No error."""

    def iter_errors(self, _: Any, __: Any = None) -> list[Any]:
        """No errors."""
        return []


@contextlib.contextmanager
def _without_validation() -> Iterator[None]:
    """While entered, nbformat does not compile its schema (70 ms). It would log what it finds, and papermill go on."""
    from nbformat import validator

    key = (validator.get_current_validator().name, 4, 5, False)
    known = validator.validators.get(key)
    validator.validators[key] = known or _Valid()
    try:
        yield
    finally:
        if known is None:
            del validator.validators[key]


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
