"""Options that choose records: from what a person wrote to a query of the index."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kit.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.execute import Workbench
    from kit.index import Page, Query

PAGE = 50
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})([mhdw])")
_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_TIME = "TIME"
_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--stage", default="", help="Only this stage."),
    click.option("--env", "environment", default="", help="Only this environment."),
    click.option(
        "--status",
        default="",
        help="Only this status: succeeded, failed, timed-out, kernel-died, interrupted, lost, started.",
    ),
    click.option("--sweep", default="", metavar="ID", help="Only points of this sweep."),
    click.option("--since", default="", metavar=_TIME, help="Started then or later: 7d, 12h, 2026-03-01, 2026-03-01T09:30."),
    click.option("--until", default="", metavar=_TIME, help="Started before that, or on that day."),
    click.option(
        "--where",
        multiple=True,
        metavar="CONDITION",
        help="On a metric or parameter: auc>=0.7, units=64. Of several all must hold.",
    ),
    click.option(
        "--sort",
        default="started",
        show_default=True,
        metavar="NAME",
        help="started, seconds, or a metric or parameter (newest, longest, largest first); stage, environment, status.",
    ),
    click.option("--best", default="", metavar="METRIC", help="Succeeded ones, the largest first; with --reverse the smallest."),
    click.option("--reverse", is_flag=True, help="The other way round."),
    click.option("--limit", type=click.IntRange(min=1), default=PAGE, show_default=True, help="At most so many."),
    click.option("--page", type=click.IntRange(min=1), default=1, help="Which piece of --limit records, from 1."),
    click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many."),
)  # fmt: skip


def query_options(command: _Command) -> _Command:
    """The options; `make_query` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_query(archive: Archive, now: datetime, values: dict[str, Any]) -> Query:
    """The query that options ask for.

    Args:
        archive: knows the sweeps.
        now: the time.
        values: of `query_options`, by name.

    Raises:
        UsageError: an option's value is none, or contradicts another.
    """
    from kit.index import Query, parse_condition
    from kit.record import Status

    status, best = values["status"], values["best"]
    if status and status not in {each.value for each in Status}:
        raise UnknownNameError("status", status, [each.value for each in Status])
    if best and (values["sort"] != "started" or status not in ("", Status.SUCCEEDED)):
        raise UsageError("--best METRIC sorts succeeded records by that metric: leave out --sort and --status")
    if values["page"] > 1 and values["offset"]:
        raise UsageError("--page and --offset both say what to leave out: give one")
    return Query(
        stage=values["stage"],
        environment=values["environment"],
        status=Status.SUCCEEDED if best else status,
        sweep=_find_sweep(archive, values["sweep"]),
        since=_parse_time(values["since"], now) if values["since"] else None,
        until=_parse_time(values["until"], now, days=1) if values["until"] else None,
        where=tuple(map(parse_condition, values["where"])),
        sort=best or values["sort"],
        reverse=values["reverse"],
        limit=values["limit"],
        offset=values["offset"] or (values["page"] - 1) * values["limit"],
    )


def _find_sweep(archive: Archive, name: str) -> str:
    if not name:
        return ""
    from kit.sweep import find_definition

    return find_definition(archive, name).sha256


def _parse_time(text: str, now: datetime, days: int = 0) -> datetime:
    """A time; of a day its beginning, or that of a later one.

    Args:
        text: as a person wrote it; without a zone UTC.
        now: what `7d` is counted from.
        days: how much later than its beginning a day counts.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return time + timedelta(days=days) if _DAY.fullmatch(text) else time
    except (ValueError, OverflowError):
        raise UsageError(f"expected a time such as 7d, 12h, 2026-03-01 or 2026-03-01T09:30, found {text!r}") from None


def search(workbench: Workbench, query: Query, *, is_best: bool) -> Page:
    """What is found; see `Archive.search`.

    Args:
        workbench: project and archive.
        query: what was asked for.
        is_best: it is sorted by what was given as --best.

    Raises:
        UnknownNameError: no record has the metric or parameter that is asked for, or neither records nor the project know
            the stage or the environment.
    """
    from kit.index import SORTS

    try:
        page = workbench.archive.search(query)
    except UnknownNameError as error:
        if error.name != query.sort:
            raise
        raise UnknownNameError("--best" if is_best else "--sort", query.sort, [*SORTS, *error.known]) from error
    if not page.rows:
        _require_known(workbench, query)
    return page


def _require_known(workbench: Workbench, query: Query) -> None:
    """Refuse a stage or an environment of which nobody has heard."""
    from kit.environment import list_environments
    from kit.index import Query

    project, archive = workbench.project, workbench.archive
    if query.stage and not archive.search(Query(stage=query.stage, limit=1)).rows:
        stages = [stage.name for stage in project.read_graph().stages]
        if query.stage not in stages:
            raise UnknownNameError("stage", query.stage, stages)
    if query.environment and not archive.search(Query(environment=query.environment, limit=1)).rows:
        environments = list_environments(project.environments)
        if query.environment not in environments:
            raise UnknownNameError("environment", query.environment, environments)


def describe_page(query: Query, total: int, n_shown: int) -> str:
    """Where a page stands among all; empty if it is all there is."""
    last, limit = query.offset + n_shown, query.limit
    if n_shown == total:
        return ""
    if not n_shown:
        return f"none: there are {total:,}, and {query.offset:,} were left out"
    here = f"{query.offset + 1:,} to {last:,} of {total:,}"
    if last == total or limit is None:
        return here
    onwards = f"--offset {last}" if query.offset % limit else f"--page {last // limit + 1}"
    return f"{here}: {total - last:,} more; use --limit, or {onwards}"
