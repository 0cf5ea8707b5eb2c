"""`kit run FILE`: a release file, executed where there is no project."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import UNSIGNED, ExampleCommand, LateEngine, ProgressLine, print_progress
from kit.cli.outputs import copy_outputs, output_option, require_free
from kit.errors import KitError
from kit.files import utc_now
from kit.graph import RELEASE, RUN

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.graph import Stage
    from kit.pipeline import Step
    from kit.release.file import ReleasedFile
    from kit.signing import PublicKey

SUFFIX = ".kit"
_FLAGS = ("--allow-drift", "--json", "--help", "-h", "--")  # what has no value behind it


def find_command(arguments: Sequence[str]) -> click.Command | None:
    """The command for a release file, or for `kit release export` in a project without a release stage; None for others.

    Args:
        arguments: the command's name and what follows.
    """
    name, rest = arguments[0], arguments[1:]
    if name == RUN and (file := find_release_file(rest)):
        from kit.release.outside import read_run_stage

        return _command_of(file, read_run_stage(file))
    if name == RELEASE and list(rest[:1]) == ["export"] and not _has_stage(RELEASE):
        from kit.cli.release_group import make_release_group

        return make_release_group(None)
    return run_file_command if name == RUN and not _has_stage(RUN) else None


def find_release_file(arguments: Sequence[str]) -> Path | None:
    """The first argument that is no option and no option's value, if it ends in .kit or is a file."""
    for before, text in pairwise(["", *arguments]):
        takes_value = before.startswith("-") and before not in _FLAGS and "=" not in before
        if not takes_value and not text.startswith("-"):
            return Path(text) if text.endswith(SUFFIX) or Path(text).is_file() else None
    return None


def _has_stage(name: str) -> bool:
    from kit.project import find_project

    try:
        return any(stage.name == name for stage in find_project(Path.cwd()).read_graph().stages)
    except KitError as error:
        return "lies in no kit project" not in str(error)  # a project that cannot be read says so itself


@click.command(cls=ExampleCommand, name=RUN, example="kit run staging-3.kit --input batch.parquet=batch.parquet")
@click.argument("file", metavar="FILE")
def run_file_command(file: str) -> None:
    """Run a release file, as `kit release export` makes it. `kit run FILE --help` shows its parameters."""
    raise click.UsageError(f"there is no file {file!r}; in a project use `kit run --env ENV`")


def _command_of(file: Path, stage: Stage) -> click.Command:
    from kit.cli.options import drift_option, example_of, make_parameter_options, make_timeout_option

    folder = click.Path(path_type=Path, file_okay=False)
    keys_file = click.Path(path_type=Path, exists=True, dir_okay=False)
    own: list[click.Parameter] = [
        click.Argument(["file"], metavar="FILE"),
        click.Option(
            ["--input", "inputs"],
            multiple=True,
            metavar="NAME=PATH",
            help="Read this instead of what the frozen configuration names, which is relative to the current folder.",
        ),
        click.Option(
            ["--archive"], type=folder, default="archive", show_default=True, help="Where the record is sealed."
        ),
        click.Option(["--report"], type=folder, help="Also make the HTML pages of that archive here."),
        click.Option(
            ["--keys", "keys_file"], type=keys_file, help="Public keys to trust, as `kit key show` prints them."
        ),
        drift_option(),
        output_option(),
        make_timeout_option(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the record as JSON."),
    ]
    return ExampleCommand(
        name=RUN,
        params=[*own, *make_parameter_options(stage, own)],
        callback=lambda **values: _run(file, values),
        help=f"{stage.title or stage.name}, from {file.name}.\n\nReads {', '.join(stage.inputs) or 'nothing'}; writes "
        f"{', '.join(stage.outputs) or 'nothing'}.",
        example=f"kit run {file.name}{example_of(stage, own)}",
    )


def _run(file: Path, values: dict[str, Any]) -> None:
    from kit.cli.stages import show_step
    from kit.release.file import open_release_file
    from kit.signing import read_public_keys

    require_free(values["output"])
    keys = read_public_keys(values["keys_file"]) if values["keys_file"] else []
    with _private_folder() as private:
        released = open_release_file(file, private / "release", keys)
        step = _execute(released, keys, private, values)
    show_step(step, as_json=values["as_json"])


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for what is unpacked; gone at the end, or, where this process is killed, when the next one begins."""
    from kit.files import remove_tree
    from kit.release.private import folder_of_user, private_folder
    from kit.workspace import remove_abandoned

    base = folder_of_user("run")
    remove_abandoned(base)
    with private_folder(base) as folder:
        yield folder
    remove_tree(folder)


def _execute(released: ReleasedFile, keys: Sequence[PublicKey], private: Path, values: dict[str, Any]) -> Step:
    from kit.archive import open_archive
    from kit.cli.options import given_parameters, split_inputs
    from kit.execute import Order, Workbench, execute_with_retries
    from kit.pipeline import Step
    from kit.release.outside import open_outside_project, plan_run_of_file, require_runnable
    from kit.signing import find_signing_key

    allow_drift, reports = values["allow_drift"], values["report"]
    drift = require_runnable(released, utc_now(), print_progress, allow_drift=allow_drift)
    here, folder, pages = (each.resolve() for each in (Path.cwd(), values["archive"], reports or private / "reports"))
    project = open_outside_project(released, here, folder, pages, keys, private)
    archive = open_archive(project.archive, project.name, find_signing_key())
    order = Order(
        stage=RUN,
        environment=released.release.environment,
        parameters=given_parameters(values),
        inputs=split_inputs(values["inputs"]),
        timeout_s=values["timeout_s"],
        allow_drift=allow_drift,
    )
    workbench = Workbench(project, archive, LateEngine(), notify=print_progress, on_progress=ProgressLine())
    try:
        step = Step(execute_with_retries(workbench, plan_run_of_file(workbench, released, order, drift)))
        copy_outputs(archive, step.record, values["output"])
        if reports:
            _make_reports(workbench)
    finally:
        _announce_checkpoint(archive)
    return step


def _make_reports(workbench: Any) -> None:
    from kit.report import make_reports

    print_progress(f"report: {make_reports(workbench.project, workbench.archive)}")


def _announce_checkpoint(archive: Archive) -> None:
    from kit.archive import make_checkpoint

    if checkpoint := make_checkpoint(archive):
        print_progress(checkpoint.line)
        if archive.key is None:
            print_progress(UNSIGNED)
