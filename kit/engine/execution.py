"""One execution: its kernel, its journal, and the outcome that the journal tells."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from kit.engine.assembly import assemble_notebook, is_executable
from kit.engine.interpreter import Interpreter
from kit.engine.journal import Journal, JournalError, Open
from kit.engine.signals import Interruption
from kit.engine.start import Fork, Started, start_kernel
from kit.engine.values import Job, Outcome, Progress
from kit.record import CellOutcome, CellStatus, Failure, Status
from kit.redaction import Redactor


class Execution:
    """One execution, from the start of its kernel to the outcome.

    Args:
        job: what is executed.
        progress: called at each start and end.
        interruption: entered by the caller.
        open_file: makes journal.jsonl and log.txt.
    """

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


def _unwritable(error: OSError) -> Failure:
    where = Path(error.filename).name if error.filename else "the journal"
    return Failure(type(error).__name__, f"{where} could not be written: {error.strerror or error}")
