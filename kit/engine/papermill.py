"""The adapter to papermill: it injects the parameters and calls us back as its engine; the outcome is ours alone."""

from __future__ import annotations

import contextlib
import json
import keyword
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kit import standins
from kit.engine.execution import Execution
from kit.engine.interpreter import Interpreter
from kit.engine.journal import Open, open_new
from kit.engine.signals import Interruption
from kit.engine.start import Fork, make_variables
from kit.engine.values import Job, Outcome, Progress, Start
from kit.errors import NotebookError, ParameterError

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
            execution = Execution(job, progress, interruption, self._open_file)
            with execution.start_kernel(waiting, self._fork):
                _call_papermill(job, execution)
            return execution.outcome()


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


def _call_papermill(job: Job, execution: Execution) -> None:
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
        def execute_managed_notebook(cls, manager: Any, kernel_name: str, *, execution: Execution, **_: Any) -> None:
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
