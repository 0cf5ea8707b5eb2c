"""`kit diff`: two records or releases beside each other; `kit why`: where something came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, json_option, open_workbench, print_json

if TYPE_CHECKING:
    from kit.lineage import Node


@click.command(cls=ExampleCommand, name="diff", example="kit diff 4f09c1 a7730e --html")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--html", "with_page", is_flag=True, help="Also make a page in reports/diffs/ and print its path.")
@click.option("--exit-code", "by_code", is_flag=True, help="Exit with 1 if the two differ, as git does.")
@json_option
def diff_command(before: str, after: str, with_page: bool, by_code: bool, as_json: bool) -> int:
    """Two records or two releases beside each other, named by any unique beginning or end of their ids."""
    from kit.cli.difference import describe_record_diff, describe_release_diff
    from kit.cli.terminal import wants_colour
    from kit.diff import RecordDiff, as_json_value, diff_named

    workbench = open_workbench()
    difference = diff_named(workbench.archive, before, after)
    page = ""
    if with_page:
        from kit.report.difference import make_difference_page

        page = str(make_difference_page(workbench.project, difference))
    if as_json:
        print_json(as_json_value(difference) | ({"page": page} if page else {}))
    else:
        in_colour = wants_colour()
        if isinstance(difference, RecordDiff):
            click.echo(describe_record_diff(difference, in_colour=in_colour))
        else:
            click.echo(describe_release_diff(difference, in_colour=in_colour))
        if page:
            click.echo(f"\npage: {page}")
    return int(by_code and difference.differs)


@click.command(cls=ExampleCommand, name="why", example="kit why saved_model")
@click.argument("target", metavar="ARTIFACT|RECORD|RELEASE")
@json_option
def why_command(target: str, as_json: bool) -> int:
    """Where something came from: its records back to raw data, code and environment, as a tree.

    The target is a record or release (any unique beginning or end of its id), an artifact's name (the newest record
    that wrote it), RECORD/ARTIFACT, RECORD#METRIC, at least 8 digits of a sha256, or a path to a file or folder, whose
    bytes are looked for.

    Exit codes: 0 traced, 1 a record did not write what was read from it, 3 a producer is missing or unreadable.
    """
    from kit.cli.terminal import wants_colour
    from kit.cli.tree import draw_tree
    from kit.lineage import explain_origin

    archive = open_workbench().archive
    node = explain_origin(archive, target)
    for sentence in archive.unreadable:
        click.echo(f"kit: not looked at: {sentence}", err=True)
    if as_json:
        print_json(node)
    else:
        click.echo(draw_tree(node, in_colour=wants_colour()))
    return _exit_code_of(node)


def _exit_code_of(node: Node) -> int:
    from kit.lineage import Finding

    return {Finding.HOLDS: 0, Finding.CONTRADICTS: 1, Finding.UNDECIDED: 3}[node.worst]
