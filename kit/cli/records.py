"""Looking at what is in the archive: `records`, `show`, `open`, `report`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kit.cli.console import (
    ExampleCommand,
    format_when,
    json_option,
    open_workbench,
    print_json,
    print_progress,
    print_table,
)
from kit.cli.query import describe_page, make_query, query_options, search
from kit.errors import KitError

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.execute import Workbench
    from kit.index import Row
    from kit.lineage import Again
    from kit.record import Record

MAIN_METRIC = "auc"


@click.command(cls=ExampleCommand, name="records", example="kit records --stage train --where 'auc>=0.7' --sort auc")
@query_options
@json_option
def records_command(as_json: bool, **values: Any) -> None:
    """List executions."""
    workbench = open_workbench()
    archive = workbench.archive
    query = make_query(archive, workbench.clock(), values)
    page = search(workbench, query, is_best=bool(values["best"]))
    _warn_unreadable(archive)
    if as_json:
        print_json([archive.read_record(row.id) for row in page.rows])
        return
    rows = [
        [
            r.id,
            _stage_of(r),
            r.environment,
            r.status.value,
            format_when(r.started),
            r.wall_s,
            _tell_value(r, query.sort),
        ]
        for r in page.rows
    ]
    print_table(["record", "stage", "environment", "status", "started (UTC)", "seconds", "metric"], rows)
    if sentence := describe_page(query, archive.count(query), len(page.rows)):
        click.echo(sentence)
    _tell_coverage(archive)


def _tell_value(row: Row, sort: str) -> str:
    """The metric or parameter that the list is sorted by, else the main metric."""
    values = {**row.parameters, **row.metrics}
    name = next((each for each in (sort, MAIN_METRIC, *row.metrics) if each in values), "")
    value = values.get(name)
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" if name else ""


def _stage_of(record: Record | Row) -> str:
    """`train`, or `train (again)` of one that did another again."""
    return f"{record.stage} (again)" if record.reproduces else record.stage


@click.command(cls=ExampleCommand, name="show", example="kit show 4f09c1")
@click.argument("name", metavar="RECORD|RELEASE")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Everything about one record (any unique beginning or end of its id) or release, on one screen."""
    from kit.cli.show import describe_record, describe_release
    from kit.execute import complete_record, describe_signature, read_attempts, read_notebook_of
    from kit.release.life import read_release_life

    workbench = open_workbench()
    archive = workbench.archive

    def sign(record_id: str) -> str:
        return describe_signature(archive, record_id, workbench.trusted_keys)

    release = archive.find_release(name)
    if release:
        manifest = archive.read_manifest(release)
        life = read_release_life(archive, release, manifest, workbench.clock(), workbench.trusted_keys)
        if as_json:
            print_json({"release": release, "manifest": manifest, "life": life})
        else:
            click.echo(describe_release(release, manifest, sign(release.record), life))
        return
    record = complete_record(archive.find_record(name), archive)
    reproductions = _list_reproductions(workbench, record)
    if as_json:
        again = [each for each in reproductions if each.record == record.id]
        compared = next((each for each in reproductions if each.again == record.id), None)
        plain = msgspec.to_builtins(record, builtin_types=(datetime,))
        print_json({**plain, "done_again": again, "compared": compared})
    else:
        notebook = None if record.ended else read_notebook_of(record, archive)
        folder = archive.record_folder(record.id)
        attempts = read_attempts(archive, record)
        click.echo(describe_record(record, folder, notebook, sign(record.id), reproductions, attempts))


def _list_reproductions(workbench: Workbench, record: Record) -> Sequence[Again]:
    """What the ledger tells of doing a record again; a ledger that cannot be read is said, and hides nothing else."""
    from kit.lineage import list_reproductions

    try:
        return list_reproductions(workbench.archive, workbench.trusted_keys, record.id)
    except KitError as error:
        click.echo(f"kit: what did it again cannot be told: {error}", err=True)
        return ()


@click.command(cls=ExampleCommand, name="open", example="kit open 4f09c1")
@click.argument("name", metavar="RECORD")
@click.option("--no-browser", is_flag=True, help="Only print the page's path.")
@json_option
def open_command(name: str, no_browser: bool, as_json: bool) -> None:
    """Make a record's page and open it in the browser."""
    from kit.report import make_page

    workbench = open_workbench()
    record = workbench.archive.find_record(name)
    page = make_page(workbench.project, workbench.archive, record)
    if as_json:
        print_json({"record": record.id, "page": str(page)})
    else:
        click.echo(page)
    if not no_browser and not as_json:
        import webbrowser

        webbrowser.open(page.as_uri())


@click.command(cls=ExampleCommand, name="report", example="kit report")
@click.option("--all", "all_pages", is_flag=True, help="A page for every record.")
@json_option
def report_command(all_pages: bool, as_json: bool) -> None:
    """Make the HTML pages.

    Of the newest 1,000 records and of all that others link to, and the index of all records.
    """
    from kit.report import make_reports

    workbench = open_workbench()
    index = make_reports(workbench.project, workbench.archive, all_pages=all_pages, notify=print_progress)
    _warn_unreadable(workbench.archive)
    if as_json:
        print_json({"report": str(index)})
    else:
        click.echo(index)


def _tell_coverage(archive: Archive) -> None:
    """What vouches for the list that was just printed, on stderr."""
    from kit.archive import describe_coverage

    click.echo(describe_coverage(archive), err=True)


def _warn_unreadable(archive: Archive) -> None:
    for sentence in archive.unreadable:
        click.echo(f"kit: not listed: {sentence}", err=True)
