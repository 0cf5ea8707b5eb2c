"""Stages as commands: their parameters are typed options, with help from the notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kit.cli.console import (
    ExampleCommand,
    env_option,
    exit_code_of,
    json_option,
    main_metric,
    open_workbench,
    print_json,
    print_progress,
    print_table,
)
from kit.errors import KitError, UsageError
from kit.graph import RUN, Stage
from kit.parameter import Parameter
from kit.pipeline import Step, execute_all, execute_stage

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
    return _command_of(stage) if stage else None


def _command_of(stage: Stage) -> click.Command:
    options: list[click.Parameter] = [
        click.Option(["--env", "environment"], default="dev", show_default=True, help="The environment."),
        click.Option(
            ["--input", "inputs"], multiple=True, metavar="NAME=RECORD|PATH", help="Read this instead of the newest."
        ),
        click.Option(["--timeout", "timeout_s"], type=float, metavar="SECONDS", help="Instead of the environment's."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the record as JSON."),
    ]
    if stage.name == RUN:
        options.append(click.Option(["--release", "release_id"], default="", help="Instead of the live release."))
    options += [_option_of(parameter) for parameter in stage.parameters]
    first = stage.parameters[0] if stage.parameters else None
    example = f"kit {stage.name} --env dev" + (f" {_option_names(first)[0]} {_as_text(first.default)}" if first else "")
    help_text = f"{stage.title or stage.name}.\n\nReads {', '.join(stage.inputs) or 'nothing'}; "
    help_text += f"writes {', '.join(stage.outputs) or 'nothing'}."
    return ExampleCommand(
        name=stage.name,
        params=options,
        callback=lambda **values: _execute(stage, values),
        help=help_text,
        short_help=stage.title,
        example=example,
    )


def _option_of(parameter: Parameter) -> click.Option:
    help_text = f"{parameter.help}  [default: {_as_text(parameter.default) or 'empty'}]".strip()
    names = [*_option_names(parameter), f"parameter_{parameter.name}"]
    return click.Option(names, metavar=str(parameter.type), help=help_text)


def _option_names(parameter: Parameter) -> list[str]:
    """`--learning-rate` and `--learning_rate`."""
    return list(dict.fromkeys([f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"]))


def _as_text(value: Any) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _execute(stage: Stage, values: dict[str, Any]) -> None:
    from kit.execute import Order

    texts = {key.removeprefix("parameter_"): value for key, value in values.items() if key.startswith("parameter_")}
    order = Order(
        stage=stage.name,
        environment=values["environment"],
        parameters={name: text for name, text in texts.items() if text is not None},
        inputs=dict(_split_input(text) for text in values["inputs"]),
        timeout_s=values["timeout_s"],
    )
    step = execute_stage(open_workbench(appends=True), order, values.get("release_id", ""))
    if values["as_json"]:
        print_json({"record": step.record, "release": step.release, "reasons": step.reasons})
    else:
        _print_steps([step], PREFERRED)
    raise click.exceptions.Exit(exit_code_of([step.record]))


def _split_input(text: str) -> tuple[str, str]:
    name, equals, location = text.partition("=")
    if not equals or not name or not location:
        raise UsageError(f"--input must be NAME=RECORD or NAME=PATH, found {text!r}")
    return name, location


@click.command(cls=ExampleCommand, name="all", example="kit all --env dev")
@env_option
@json_option
def all_command(environment: str, as_json: bool) -> None:
    """Execute every stage that the environment needs, then make the reports."""
    workbench = open_workbench(appends=True)
    gated = tuple(workbench.project.read_environment(environment).gates.metrics)
    steps: list[Step] = []
    try:
        for step in execute_all(workbench, environment):
            steps.append(step)
            print_progress(f"{step.record.stage}: {step.record.status}, {step.record.wall_s:.1f} s")
    except KitError:
        if steps and not as_json:
            _print_steps(steps, gated)
        raise
    index = _make_reports(workbench)
    if as_json:
        print_json({"records": [step.record for step in steps], "report": str(index)})
    else:
        _print_steps(steps, gated)
        click.echo(f"\nreport: {index}")
    raise click.exceptions.Exit(exit_code_of([step.record for step in steps]))


def _make_reports(workbench: Any) -> Path:
    from kit.report import make_reports

    return make_reports(workbench.project, workbench.archive)


def _print_steps(steps: list[Step], gated: tuple[str, ...]) -> None:
    rows = [
        [
            step.record.stage,
            step.record.status.value,
            step.record.wall_s,
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
        click.echo(f"released {step.release.id}")
    for reason in step.reasons:
        click.echo(f"refused: {reason}", err=True)
    if record.failure and not step.reasons:
        cell = f", cell {record.failure.cell + 1} of executed.ipynb" if record.failure.cell is not None else ""
        click.echo(f"kit: {record.code.notebook}{cell}: {record.failure.kind}: {record.failure.message}", err=True)
    if not record.succeeded:
        click.echo(f"see it with: kit show {record.id}", err=True)
