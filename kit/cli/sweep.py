"""`kit sweep STAGE`: many combinations of a stage's parameters, a record for each, a table and a page of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import (
    INTERRUPTED,
    ExampleCommand,
    open_workbench,
    print_json,
    print_progress,
    print_table,
)
from kit.cli.live import LiveSweep
from kit.cli.options import (
    choose_start,
    given_parameters,
    make_parameter_options,
    make_timeout_option,
    split_inputs,
    start_options,
)
from kit.cli.release_group import ExampleGroup
from kit.cli.stages import describe_title
from kit.errors import UsageError, suggest
from kit.graph import BUILD, RELEASE, RUN, Stage

if TYPE_CHECKING:
    from kit.execute import Order, Workbench
    from kit.report.sweep import SweepView
    from kit.sweep import PlannedSweep, Sweep

EXAMPLE = "kit sweep train --grid learning_rate=1e-3,3e-3 --grid units=32,64"


class SweepGroup(ExampleGroup):
    """A command for each stage that can be swept, with the stage's own parameters as options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In execution order."""
        return [stage.name for stage in _read_stages()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that stage; None if there is none."""
        return next((make_sweep_command(stage) for stage in _read_stages() if stage.name == cmd_name), None)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click, with the nearest stage for one that does not exist."""
        names = self.list_commands(ctx)
        if args[0] in (BUILD, RELEASE, RUN):
            raise UsageError(f"stage {args[0]!r} cannot be swept; there is {', '.join(map(repr, names)) or 'none'}")
        if args[0] not in names:
            raise UsageError(f"stage {args[0]!r}{suggest(args[0], names)}")
        return super().resolve_command(ctx, args)


def _read_stages() -> list[Stage]:
    from kit.project import find_project

    stages = find_project(Path.cwd()).read_graph().stages
    return [stage for stage in stages if stage.name not in (BUILD, RELEASE, RUN)]


sweep_command = SweepGroup(
    name="sweep",
    help="Execute a stage for many values of its parameters.",
    example=EXAMPLE,
    subcommand_metavar="STAGE [OPTIONS]",
)


def make_sweep_command(stage: Stage) -> ExampleCommand:
    """`kit sweep <stage>`."""
    own: list[click.Parameter] = [
        click.Option(["--env", "environment"], default="dev", show_default=True, help="The environment."),
        click.Option(
            ["--grid"],
            multiple=True,
            metavar="NAME=A,B",
            help="A parameter and its values, or a JSON list of them; for --random also a range: 1..8 or log:1e-4..1e-1.",
        ),
        click.Option(
            ["--random", "n_random"],
            type=click.IntRange(min=1),
            metavar="N",
            help="Draw N different points of the grid.",
        ),
        click.Option(["--seed"], type=int, metavar="S", help="Of the draw.  [default: 0]"),
        click.Option(["--workers"], type=click.IntRange(min=1), metavar="N", help="At a time.  [default: cores]"),
        click.Option(["--metric"], default="", help="To compare by.  [default: the first that a gate limits]"),
        click.Option(["--lowest"], is_flag=True, help="The lowest metric is the best."),
        click.Option(["--best"], is_flag=True, help="Print nothing but the id of the best point's record."),
        click.Option(["--input", "inputs"], multiple=True, metavar="NAME=RECORD|PATH", help="Instead of the newest."),
        make_timeout_option(),
        *start_options(),
        click.Option(["--force"], is_flag=True, help="Execute the points that have a result too."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON value with stable keys."),
    ]
    return ExampleCommand(
        name=stage.name,
        params=[*own, *make_parameter_options(stage, own)],
        callback=lambda **values: _sweep(stage, values),
        help=f"Execute {stage.notebook} once for each combination: {describe_title(stage)}\n\n"
        "The same command goes on where an earlier one stopped. Parameters that do not vary are options.",
        short_help=stage.title,
        example=_example_of(stage),
    )


def _example_of(stage: Stage) -> str:
    names = [p.name for p in stage.parameters if p.type.name in ("int", "float")]
    return f"kit sweep {stage.name} --grid {names[0]}=1,2" if names else f"kit sweep {stage.name} --grid NAME=A,B"


def _sweep(stage: Stage, values: dict[str, Any]) -> None:
    from kit.report.sweep import write_sweep_page
    from kit.sweep import plan_sweep

    if not values["grid"]:
        raise UsageError(f"--grid is missing, such as `{_example_of(stage)}`")
    if values["seed"] is not None and values["n_random"] is None:
        own = " (the stage's own parameter is --parameter-seed)" if _declares(stage, "seed") else ""
        raise UsageError(f"--seed is of a draw: give --random N too{own}")
    workbench = open_workbench(appends=True)
    planned = plan_sweep(workbench, _order_of(stage, values), values["grid"], values["n_random"], values["seed"] or 0)
    sweep = _execute(workbench, planned, values)
    gated = tuple(planned.plans[0].environment.gates.metrics)
    view = _compare(sweep, values["metric"], gated, lowest=values["lowest"])
    page = write_sweep_page(view, workbench.project.reports)
    if values["as_json"]:
        print_json({"sweep": view, "best": view.best and view.best.record, "page": str(page)})
    elif values["best"]:
        click.echo(view.best.record if view.best else "", nl=view.best is not None)
    else:
        _print_view(view)
        click.echo(f"\nsweep: {view.id}\npage: {page}")
    raise click.exceptions.Exit(exit_code_of(view, needs_best=values["best"]))


def _declares(stage: Stage, name: str) -> bool:
    return any(parameter.name == name for parameter in stage.parameters)


def _order_of(stage: Stage, values: dict[str, Any]) -> Order:
    from kit.execute import Order

    return Order(
        stage=stage.name,
        environment=values["environment"],
        parameters=given_parameters(values),
        inputs=split_inputs(values["inputs"]),
        timeout_s=values["timeout_s"],
        reuse=not values["force"],
        start=choose_start(warm=values["warm"], cold=values["cold"]),
    )


def _execute(workbench: Workbench, planned: PlannedSweep, values: dict[str, Any]) -> Sweep:
    from kit.execute.events import PlanEnded
    from kit.report.axes import tell
    from kit.sweep.execute import collect_results, execute_sweep

    definition = planned.definition
    points = map(definition.values, range(len(definition.points)))
    labels = [" ".join(f"{name}={tell(value)}" for name, value in point.items()) for point in points]
    live = LiveSweep(f"{definition.id}, {definition.stage} in {definition.environment}", labels)
    ended: dict[str, PlanEnded] = {}
    telling = dataclasses.replace(workbench, notify=live.say)
    for event in execute_sweep(telling, planned, values["workers"], reuse=not values["force"]):
        live.show(event)
        if isinstance(event, PlanEnded):
            ended[event.name] = event
    live.close()
    return collect_results(planned, ended)


def _compare(sweep: Sweep, metric: str, gated: Sequence[str], *, lowest: bool) -> SweepView:
    """What the points are compared by is known only now; a name that no point has takes nothing from what they gave."""
    from kit.sweep import choose_metric, make_view

    if metric and sweep.metric_names and metric not in sweep.metric_names:
        print_progress(f"kit: metric {metric!r}{suggest(metric, sweep.metric_names)}")
    return make_view(sweep, metric or choose_metric(sweep, gated), lowest=lowest)


def _print_view(view: SweepView) -> None:
    from kit.report.axes import tell

    header = [*view.axes, view.metric or "metric", "status", "seconds", "record"]
    rows = [
        [
            *(tell(point.values[name]) for name in view.axes),
            "" if point.metric is None else f"{point.metric:.4g}",
            f"{point.status} (reused)" if point.reused else point.status,
            point.seconds,
            point.record,
        ]
        for point in view.ranked
    ]
    print_table(header, rows)


def exit_code_of(view: SweepView, *, needs_best: bool = False) -> int:
    """0 if all points succeeded, 130 if it was interrupted, else 1; also 1 where the best is asked for and there is none."""
    statuses = {point.status for point in view.points}
    has_given_up = any(point.status == "failed" and not point.record for point in view.points)
    if "interrupted" in statuses or ("waiting" in statuses and not has_given_up):
        return INTERRUPTED
    return int(statuses != {"succeeded"} or (needs_best and view.best is None))
