"""`kit status`: what is up to date, and why the rest is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kit.cli.console import (
    ExampleCommand,
    echo,
    env_option,
    format_when,
    had_nothing_to_do,
    json_option,
    open_workbench,
    print_json,
    print_table,
)
from kit.cli.terminal import paint, printable, wants_colour

if TYPE_CHECKING:
    from kit.status import Reason, StageStatus

_COLOURS = {"+": "green", "-": "red"}
MAX_REASONS = 12  # of a stage; --json has them all
MAX_LINES = 8  # of the difference of a cell or file


@click.command(cls=ExampleCommand, name="status", example="kit status --env dev")
@env_option
@json_option
def status_command(environment: str, as_json: bool) -> None:
    """What `kit all` would execute in an environment, and why."""
    from kit.status import read_overview

    workbench = open_workbench()
    overview = read_overview(workbench, environment)
    if overview.is_up_to_date and not any(each.latest for each in overview.stages):
        had_nothing_to_do(workbench)
    if as_json:
        print_json(overview)
        return
    rows = [[each.stage, each.state.value, each.record, format_when(each.when)] for each in overview.stages]
    print_table(["stage", "state", "record", "ended (UTC)"], rows)
    for each in overview.stages:
        for line in _describe(each, in_colour=wants_colour()):
            echo(line)


def _describe(status: StageStatus, *, in_colour: bool) -> Iterator[str]:
    """Why a stage is not up to date; nothing if it is."""
    from kit.status import describe_state

    if not status.reasons and not status.latest:
        return
    yield ""
    yield f"{describe_state(status.stage, status.state)}:"
    if status.latest:
        yield f"  {_describe_latest(status)}"
    for reason in status.reasons[:MAX_REASONS]:
        yield f"  {printable(str(reason), None)}"
        yield from (f"      {line}" for line in _draw_lines(reason, in_colour=in_colour))
    if len(status.reasons) > MAX_REASONS:
        yield f"  and {len(status.reasons) - MAX_REASONS} more, see --json"


def _describe_latest(status: StageStatus) -> str:
    failure = status.failure
    if failure is None:
        return f"{status.latest} has not succeeded; see it with: kit show {status.latest}"
    cell = f"cell {failure.cell + 1} of executed.ipynb: " if failure.cell is not None else ""
    return printable(f"{status.latest}: {cell}{failure.kind}: {failure.message}")


def _draw_lines(reason: Reason, *, in_colour: bool) -> Iterator[str]:
    for line in reason.lines[:MAX_LINES]:
        yield paint(printable(line), _COLOURS.get(line[:1], ""), in_colour=in_colour and line[:1] in _COLOURS)
    if len(reason.lines) > MAX_LINES:
        yield f"… {len(reason.lines) - MAX_LINES} more lines"
