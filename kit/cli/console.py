"""What commands share: examples first in the help, exit codes, results on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kit.cli.memo.recall import Question
from kit.cli.terminal import is_redrawn, pad, width_of
from kit.errors import KitError
from kit.files import canonical_json, format_time

if TYPE_CHECKING:
    from datetime import datetime

    from kit.engine.values import Progress
    from kit.execute import Workbench
    from kit.record import Record
    from kit.signing import SigningKey

INTERRUPTED = 130
LEDGER_MEMORY = "ledger.json"
UNSIGNED = (
    "not signed: anyone who can write to the archive could rewrite it; keep the line above, or sign with `kit key new`"
)


class ExampleCommand(click.Command):
    """A command whose help begins with an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        self.example = example
        super().__init__(*args, **kwargs)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, then click's own help."""
        if self.example:
            formatter.write(f"Example: {self.example}\n\n")
        super().format_help(ctx, formatter)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value with stable keys.")


def _require_positive(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """0 would mean the environment's limit, and NaN none at all."""
    if value is not None and not value > 0:
        raise click.BadParameter(f"expected seconds above 0, found {value:g}")
    return value


TIMEOUT: dict[str, Any] = {
    "type": float, "metavar": "SECONDS", "callback": _require_positive, "help": "Instead of the environment's."
}  # fmt: skip
timeout_option = click.option("--timeout", "timeout_s", **TIMEOUT)  # of what executes a stage
env_option = click.option("--env", "environment", default="dev", show_default=True, help="The environment.")


def open_workbench(*, appends: bool = False) -> Workbench:
    """The project here, its archive, papermill, progress on stderr; at the command's end, the ledger's checkpoint.

    Args:
        appends: the command adds to the archive: it makes one where there is none, and needs a key that is meant to be
            used to be usable. Other commands read what is there.
    """
    from kit.archive import Archive, open_archive, read_origin
    from kit.execute import Workbench
    from kit.project import find_project
    from kit.signing import find_signing_key

    project = find_project(Path.cwd())
    memory, index = project.scratch / LEDGER_MEMORY, project.index
    if appends:
        archive = open_archive(project.archive, project.name, find_signing_key(), memory, index)
    elif project.archive.is_dir() and any(project.archive.iterdir()):
        archive = Archive(project.archive, read_origin(project.archive), _find_key_to_trust(), memory, index)
    else:
        archive = Archive(project.archive)
    question = click.get_current_context().find_object(Question)
    now_ns = question.clock if question else time.time_ns
    workbench = Workbench(
        project, archive, LateEngine(), notify=print_progress, on_progress=ProgressLine(), now_ns=now_ns
    )
    if appends:
        size = archive.ledger.size()
        click.get_current_context().call_on_close(lambda: _announce_checkpoint(workbench, size))
    return workbench


def _find_key_to_trust() -> SigningKey | None:
    """One's own key, for a command that signs nothing: that it cannot be read stops no one from looking."""
    from kit.errors import UsageError
    from kit.signing import find_signing_key

    try:
        return find_signing_key()
    except UsageError as error:
        echo(f"kit: {error}", err=True)
        return None


def _announce_checkpoint(workbench: Workbench, size_before: int) -> None:
    """If the command appended to the ledger, print the checkpoint's line, so that whoever keeps this log holds it."""
    from kit.archive import make_checkpoint

    if workbench.archive.ledger.size() > size_before:
        checkpoint = make_checkpoint(workbench.archive)
        print_progress(checkpoint.line if checkpoint else "")
        if not workbench.archive.key:
            print_progress(UNSIGNED)


def demands_signatures(workbench: Workbench, environment: str) -> bool:
    """Whether an environment's file demands signed work; one that the project does not have any more demands nothing."""
    from kit.environment import list_environments, read_environment

    folder = workbench.project.environments
    return environment in list_environments(folder) and read_environment(folder, environment).policy.signed


class LateEngine:
    """papermill's engine, imported when the first notebook is executed."""

    @functools.cached_property
    def _engine(self) -> Any:
        from kit.engine import PapermillEngine

        return PapermillEngine()

    def prepare(self, start: Any, preload: Any) -> None:
        """Begin to start the kernel of the next job."""
        self._engine.prepare(start, preload)

    def execute(self, job: Any, progress: Any) -> Any:
        """Execute a job."""
        return self._engine.execute(job, progress)


class ProgressLine:
    """One line on stderr that is rewritten on a terminal, a plain line for each finished cell elsewhere."""

    def __call__(self, stage: str, progress: Progress) -> None:
        """Show where an execution stands."""
        text = f"{stage}: cell {min(progress.n_done + 1, progress.n_cells)} of {progress.n_cells}, {progress.elapsed_s:.1f} s"
        finished = progress.event.value == "cell-finished"
        with contextlib.suppress(OSError):  # that nobody reads it is no reason to stop
            self._write(text, stage, progress, finished=finished)

    def _write(self, text: str, stage: str, progress: Progress, *, finished: bool) -> None:
        if is_redrawn():
            end = "\n" if finished and progress.n_done == progress.n_cells else ""
            sys.stderr.write(f"\r\033[K{text}{end}")
        elif finished:
            done = f"{stage}: cell {progress.n_done} of {progress.n_cells} done, {progress.elapsed_s:.1f} s"
            sys.stderr.write(f"{done}\n")
        sys.stderr.flush()


def echo(text: str, *, err: bool = False) -> None:
    """Print on stdout or stderr; a command that a memo may answer the next time prints everything in this way."""
    click.echo(text, err=err)
    context = click.get_current_context(silent=True)
    if context and (question := context.find_object(Question)):
        question.said.append((2 if err else 1, text))


def print_progress(text: str) -> None:
    """A sentence on stderr; it takes the place of a line that is being rewritten."""
    with contextlib.suppress(OSError):  # that nobody reads it is no reason to stop
        echo(f"\r\033[K{text}" if is_redrawn() else text, err=True)


def had_nothing_to_do(workbench: Workbench) -> None:
    """Say that everything is up to date: what was printed, with exit code 0, is the answer as long as nothing changes."""
    if question := click.get_current_context().find_object(Question):
        question.grounds = workbench


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    plain = msgspec.to_builtins(value, builtin_types=(__import__("datetime").datetime,))
    click.echo(json.dumps(json.loads(canonical_json(plain)), indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns on stdout; numbers to the right."""
    texts = [[format_cell(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if r else pad(c, w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    echo(line(list(header)))
    echo("  ".join("─" * width for width in widths))
    for row in texts:
        echo(line(row))


def format_cell(cell: Any) -> str:
    """A table's cell: numbers short, nothing as an empty text."""
    if cell is None:
        return ""
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def format_when(time: datetime | None) -> str:
    """UTC to the second, for people."""
    return format_time(time)[:19].replace("T", " ") if time else ""


def main_metric(record: Record, gated: Sequence[str]) -> str:
    """The metric to show first: one that a gate limits, else the first."""
    names = [name for name in gated if name in record.metrics] or sorted(record.metrics)  # as an archive gives them
    if not names:
        return ""
    value = record.metrics[names[0]]
    return f"{names[0]} {value:.4g}" if isinstance(value, float) else f"{names[0]} {value}"


def exit_code_of(records: Sequence[Record]) -> int:
    """0 if all succeeded, 130 if one was interrupted, else 1."""
    statuses = {record.status.value for record in records}
    if statuses <= {"succeeded"}:
        return 0
    return INTERRUPTED if "interrupted" in statuses else 1


def report_error(error: KitError, *, as_json: bool) -> int:
    """Print an error, give its exit code."""
    if as_json:
        print_json({"error": {"kind": type(error).__name__, "message": str(error)}})
    click.echo(f"kit: {error}", err=True)
    return error.exit_code
