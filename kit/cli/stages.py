"""Stages as commands: their parameters are typed options, with help from the notebook."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kit.cli.console import (
    TIMEOUT,
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
from kit.cli.outputs import copy_outputs, output_option, require_free
from kit.cli.release_group import make_release_group
from kit.cli.terminal import printable
from kit.errors import KitError, UsageError
from kit.graph import RELEASE, RUN, Stage
from kit.parameter import Parameter
from kit.pipeline import Step, execute_all, execute_stage

if TYPE_CHECKING:
    from kit.execute import Workbench

UP_TO_DATE = "up to date"
WARM = "Fork the kernel from a process that has imported the stage's libraries; the default in dev."
COLD = "Start the kernel in a new interpreter; the default where only a build may execute."
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
    title = stage.title or stage.name
    help_text = (
        f"{title}{'' if title.endswith(('.', '?', '!')) else '.'}\n\nReads {', '.join(stage.inputs) or 'nothing'}; "
    )
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


def drift_option() -> click.Option:
    """`--allow-drift`, of what runs a release."""
    help_text = "Run although packages, Python or the environment's file differ, where the release's policy permits it."
    return click.Option(["--allow-drift", "allow_drift"], is_flag=True, help=help_text)


def start_options() -> list[click.Parameter]:
    """`--warm` and `--cold`, of what executes a stage."""
    return [
        click.Option(["--warm", "start"], flag_value="warm", help=WARM),
        click.Option(["--cold", "start"], flag_value="cold", help=COLD),
    ]


def force_option() -> click.Option:
    """`--force`, of what takes a record that is up to date."""
    return click.Option(["--force", "force"], is_flag=True, help="Execute although a record is up to date.")


def make_timeout_option() -> click.Option:
    """`--timeout`, of what executes a stage."""
    return click.Option(["--timeout", "timeout_s"], **TIMEOUT)


def make_parameter_options(stage: Stage, own: Sequence[click.Parameter]) -> list[click.Parameter]:
    """An option for each parameter of a stage; one that is called like an option of kit itself is `--parameter-<name>`."""
    return [_option_of(parameter, own) for parameter in stage.parameters]


def example_of(stage: Stage, own: Sequence[click.Parameter]) -> str:
    """The first parameter as one would type it; empty without one."""
    if not stage.parameters:
        return ""
    first = stage.parameters[0]
    return f" {_option_names(first, own)[0]} {_as_text(first.default)}"


def _option_of(parameter: Parameter, own: Sequence[click.Parameter]) -> click.Option:
    help_text = f"{parameter.help}  [default: {_as_text(parameter.default) or 'empty'}]".strip()
    names = [*_option_names(parameter, own), f"parameter_{parameter.name}"]
    return click.Option(names, metavar=str(parameter.type), help=help_text)


def _option_names(parameter: Parameter, own: Sequence[click.Parameter]) -> list[str]:
    """`--learning-rate` and `--learning_rate`."""
    taken = {name for option in own for name in option.opts}
    names = list(dict.fromkeys([f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"]))
    return [f"--parameter-{name[2:]}" for name in names] if taken & set(names) else names


def _as_text(value: Any) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


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
        start=values["start"] or "",
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


def given_parameters(values: dict[str, Any]) -> dict[str, str]:
    """Parameters that were given as options, as texts."""
    texts = {key.removeprefix("parameter_"): value for key, value in values.items() if key.startswith("parameter_")}
    return {name: text for name, text in texts.items() if text is not None}


def split_inputs(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=RECORD` or `NAME=PATH`, each as it was given with --input.

    Raises:
        UsageError: one is neither.
    """
    found = {}
    for text in texts:
        name, equals, location = text.partition("=")
        if not equals or not name or not location:
            raise UsageError(f"--input must be NAME=RECORD or NAME=PATH, found {text!r}")
        found[name] = location
    return found


@click.command(cls=ExampleCommand, name="all", example="kit all --env dev")
@env_option
@click.option("--force", is_flag=True, help="Execute also what is up to date.")
@click.option("--warm", "start", flag_value="warm", help=WARM)
@click.option("--cold", "start", flag_value="cold", help=COLD)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Stages at a time.  [default: cores]")
@json_option
def all_command(
    environment: str, force: bool, start: Literal["warm", "cold"] | None, workers: int | None, as_json: bool
) -> None:
    """Execute the stages of an environment that are not up to date, then make the reports."""
    workbench = open_workbench(appends=True)
    gated = tuple(workbench.project.read_environment(environment).gates.metrics)
    steps: list[Step] = []
    try:
        for step in execute_all(workbench, environment, reuse=not force, start=start or "", n_workers=workers):
            steps.append(step)
            print_progress(_describe_step(step))
    except KitError:
        if steps and not as_json:
            _print_steps(steps, gated)
        raise
    index = _make_reports(workbench, steps)
    if as_json:
        reused = [step.record.id for step in steps if step.reused]
        print_json({"records": [step.record for step in steps], "reused": reused, "report": str(index)})
    else:
        _print_steps(steps, gated)
        click.echo(f"\nreport: {index}")
    raise click.exceptions.Exit(exit_code_of([step.record for step in steps]))


def _describe_step(step: Step) -> str:
    record = step.record
    if step.reused:
        return f"{record.stage}: {UP_TO_DATE}: {record.id}"
    return f"{record.stage}: {record.status}, {record.wall_s:.1f} s"


def _make_reports(workbench: Workbench, steps: Sequence[Step]) -> Path:
    """The reports' index; they are made only if something was executed, or the ledger is newer than they are."""
    index, archive = workbench.project.reports / "index.html", workbench.archive
    if all(step.reused for step in steps) and index.is_file():
        last = archive.ledger.path(archive.ledger.size())
        if last.is_file() and last.stat().st_mtime_ns < index.stat().st_mtime_ns:
            return index
    from kit.report import make_reports

    return make_reports(workbench.project, archive)


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
        click.echo(f"{step.release.id} is live" if step.reused else f"released {step.release.id}")
        for waiver in step.waivers:
            sentence = f"waived: {waiver.evidence} until {waiver.until} by {waiver.who}: {waiver.reason}"
            click.echo(printable(sentence, None))
    for reason in step.reasons:
        click.echo(f"refused: {reason}", err=True)
    if record.failure and not step.reasons:
        cell = f", cell {record.failure.cell + 1} of executed.ipynb" if record.failure.cell is not None else ""
        click.echo(f"kit: {record.code.notebook}{cell}: {record.failure.kind}: {record.failure.message}", err=True)
    if not record.succeeded:
        click.echo(f"see it with: kit show {record.id}", err=True)
