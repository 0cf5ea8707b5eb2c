"""Stages as commands: their parameters are typed options, with help from the notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import (
    ExampleCommand,
    echo,
    env_option,
    exit_code_of,
    had_nothing_to_do,
    json_option,
    main_metric,
    open_workbench,
    print_json,
    print_progress,
    print_table,
)
from kit.cli.options import (
    COLD,
    WARM,
    choose_start,
    drift_option,
    example_of,
    force_option,
    given_parameters,
    make_parameter_options,
    make_timeout_option,
    split_inputs,
    start_options,
)
from kit.cli.outputs import copy_outputs, output_option, require_free
from kit.cli.release_group import make_release_group
from kit.cli.terminal import printable
from kit.errors import KitError
from kit.files import tell_look
from kit.graph import RELEASE, RUN, Stage
from kit.pipeline import Step, execute_all, execute_stage

if TYPE_CHECKING:
    from kit.execute import Workbench

UP_TO_DATE = "up to date"
INDEX = "index.html"  # of the reports
PREFERRED = ("auc", "accuracy")  # what a single stage shows first; `kit all` asks the environment's gates


def make_stage_command(name: str) -> click.Command | None:
    """The command of a stage of the project here; None if there is no such stage.

    Raises:
        KitError: the project's notebooks cannot be read; a wrong notebook must not look like a missing stage.
    """
    from kit.errors import ProjectError
    from kit.project import find_project

    try:
        project = find_project(Path.cwd())
    except ProjectError:
        return None
    stage = next((stage for stage in project.read_graph().stages if stage.name == name), None)
    if stage is None:
        return None
    return make_release_group(_command_of(stage)) if name == RELEASE else _command_of(stage)


def _command_of(stage: Stage) -> ExampleCommand:
    options: list[click.Parameter] = [
        click.Option(["--env", "environment"], default="dev", show_default=True, help="The environment."),
        click.Option(
            ["--input", "inputs"], multiple=True, metavar="NAME=RECORD|PATH", help="Read this instead of the newest."
        ),
        make_timeout_option(),
        *start_options(),
        *([] if stage.name in (RELEASE, RUN) else [force_option()]),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the record as JSON."),
    ]
    if stage.name == RELEASE:
        help_from = "The training to release, instead of the newest of the environment that [release] names."
        options.append(click.Option(["--from", "training"], default="", metavar="RECORD", help=help_from))
    if stage.name == RUN:
        options.append(click.Option(["--release", "release_id"], default="", help="Instead of the live release."))
        options += [drift_option(), output_option()]
    example = f"kit {stage.name} --env dev{example_of(stage, options)}"
    options += make_parameter_options(stage, options)
    help_text = f"{describe_title(stage)}\n\nReads {', '.join(stage.inputs) or 'nothing'}; "
    help_text += f"writes {', '.join(stage.outputs) or 'nothing'}."
    if stage.name == RUN:
        help_text += "\n\n`kit run FILE.kit` runs a release from a file, also outside of a project."
    return ExampleCommand(
        name=stage.name,
        params=options,
        callback=lambda **values: _execute(stage, values),
        help=help_text,
        short_help=stage.title,
        example=example,
    )


def describe_title(stage: Stage) -> str:
    """A stage's title as a sentence."""
    title = stage.title or stage.name
    return title if title.endswith((".", "?", "!")) else f"{title}."


def _execute(stage: Stage, values: dict[str, Any]) -> None:
    from kit.execute import Order

    order = Order(
        stage=stage.name,
        environment=values["environment"],
        parameters=given_parameters(values),
        inputs=split_inputs(values["inputs"]) | _name_training(values),
        timeout_s=values["timeout_s"],
        allow_drift=values.get("allow_drift", False),
        reuse=not values.get("force", False),
        start=choose_start(warm=values["warm"], cold=values["cold"]),
    )
    require_free(values.get("output"))
    workbench = open_workbench(appends=True)
    step = execute_stage(workbench, order, values.get("release_id", ""))
    copy_outputs(workbench.archive, step.record, values.get("output"))
    show_step(step, as_json=values["as_json"])


def show_step(step: Step, *, as_json: bool) -> None:
    """Print what one stage left, and end the command with its exit code."""
    if as_json:
        facts = {"record": step.record, "release": step.release, "reasons": step.reasons, "waivers": step.waivers}
        print_json({**facts, "reused": step.reused})
    else:
        _print_steps([step], PREFERRED)
    raise click.exceptions.Exit(exit_code_of([step.record]))


def _name_training(values: dict[str, Any]) -> dict[str, str]:
    """`--from` as an input: whatever it is called, a release takes its training from it."""
    return {"--from": values["training"]} if values.get("training") else {}


@click.command(cls=ExampleCommand, name="all", example="kit all --env dev")
@env_option
@click.option("--force", is_flag=True, help="Execute also what is up to date.")
@click.option("--warm", is_flag=True, help=WARM)
@click.option("--cold", is_flag=True, help=COLD)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Stages at a time.  [default: cores]")
@json_option
def all_command(environment: str, force: bool, warm: bool, cold: bool, workers: int | None, as_json: bool) -> None:
    """Execute what is not up to date, then make the reports."""
    start = choose_start(warm=warm, cold=cold)
    workbench = open_workbench(appends=True)
    gated = tuple(workbench.project.read_environment(environment).gates.metrics)
    steps: list[Step] = []
    try:
        for step in execute_all(workbench, environment, reuse=not force, start=start, n_workers=workers):
            steps.append(step)
            print_progress(_describe_step(step))
    except KitError:
        if steps and not as_json:
            _print_steps(steps, gated)
        raise
    if all(step.reused for step in steps) and _has_reports(workbench):
        had_nothing_to_do(workbench)
    else:
        _make_reports(workbench)
    index = workbench.project.reports / INDEX
    if as_json:
        reused = [step.record.id for step in steps if step.reused]
        print_json({"records": [step.record for step in steps], "reused": reused, "report": str(index)})
    else:
        _print_steps(steps, gated)
        echo(f"\nreport: {index}")
    raise click.exceptions.Exit(exit_code_of([step.record for step in steps]))


def _describe_step(step: Step) -> str:
    record = step.record
    if step.reused:
        return f"{record.stage}: {UP_TO_DATE}: {record.id}"
    return f"{record.stage}: {record.status}, {record.wall_s:.1f} s"


def _has_reports(workbench: Workbench) -> bool:
    """True if the reports are newer than the ledger."""
    index, ledger = workbench.project.reports / INDEX, workbench.archive.ledger
    last = ledger.path(ledger.size())
    for path in (index, last):
        tell_look(str(path))
    return index.is_file() and last.is_file() and last.stat().st_mtime_ns < index.stat().st_mtime_ns


def _make_reports(workbench: Workbench) -> None:
    from kit.report import make_reports

    make_reports(workbench.project, workbench.archive)


def _print_steps(steps: list[Step], gated: tuple[str, ...]) -> None:
    rows = [
        [
            step.record.stage,
            UP_TO_DATE if step.reused else step.record.status.value,
            None if step.reused else step.record.wall_s,
            step.record.id,
            main_metric(step.record, gated),
        ]
        for step in steps
    ]
    print_table(["stage", "status", "seconds", "record", "metric"], rows)
    for step in steps:
        _print_outcome(step)


def _print_outcome(step: Step) -> None:
    record = step.record
    if step.release:
        echo(f"{step.release.id} is live" if step.reused else f"released {step.release.id}")
        for waiver in step.waivers:
            sentence = f"waived: {waiver.evidence} until {waiver.until} by {waiver.who}: {waiver.reason}"
            echo(printable(sentence, None))
    for reason in step.reasons:
        echo(f"refused: {reason}", err=True)
    if record.failure and not step.reasons:
        cell = f", cell {record.failure.cell + 1} of executed.ipynb" if record.failure.cell is not None else ""
        echo(f"kit: {record.code.notebook}{cell}: {record.failure.kind}: {record.failure.message}", err=True)
    if not record.succeeded:
        echo(f"see it with: kit show {record.id}", err=True)
