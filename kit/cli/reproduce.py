"""`kit reproduce`: does doing it again give the same?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, json_option, open_workbench, print_json, print_table
from kit.cli.terminal import printable
from kit.errors import UsageError

if TYPE_CHECKING:
    from kit.compare import Comparison
    from kit.reproduce import Report, Reproduction

_EXAMPLE = "kit reproduce 4f09c1\n         kit reproduce release:staging-1"


@click.command(cls=ExampleCommand, name="reproduce", example=_EXAMPLE)
@click.argument("subject", metavar="RECORD|release:RELEASE")
@click.option(
    "--env",
    "packages",
    type=click.Choice(["recorded", "current"]),
    default="recorded",
    show_default=True,
    help="With the packages of then, rebuilt by uv if others are installed; or with those installed now.",
)
@click.option("--with", "pairs", multiple=True, metavar="RECORD=RECORD", hidden=True)
@json_option
def reproduce_command(subject: str, packages: str, pairs: tuple[str, ...], as_json: bool) -> int:
    """Do a record again from what the archive holds, or everything from raw data to a release, and compare.

    Exit code 0: doing it again gives the same, 1: it does not, 3: cannot be decided here.
    """
    from kit.reproduce import reproduce

    again = dict(_split_pair(pair) for pair in pairs)
    report = reproduce(open_workbench(), subject, with_recorded_packages=packages == "recorded", again=again)
    if as_json:
        facts = {"verdict": report.verdict, "level": report.level, "independently": report.independently}
        print_json({"exit_code": report.exit_code, **facts, "stages": report.stages, "missing": report.missing})
    else:
        _print_report(report)
    return report.exit_code


def _split_pair(text: str) -> tuple[str, str]:
    before, equals, after = text.partition("=")
    if not (before and equals and after):
        raise UsageError(f"--with must be RECORD=RECORD, found {text!r}")
    return before, after


def _print_report(report: Report) -> None:
    for stage in report.stages:
        _print_stage(stage)
    for record_id in report.missing:
        click.echo(f"{record_id}: not done again, as what it reads was not")
    if len(report.stages) > 1:
        click.echo(f"{report.subject}: {len(report.stages)} stages, lowest level {report.level}")
    click.echo(f"the claim {report.verdict}")


def _print_stage(stage: Reproduction) -> None:
    again = f", done again as {stage.again}" if stage.again else ""
    click.echo(printable(f"{stage.stage}: {stage.record}{again}", None))
    rows = [[printable(each.subject), printable(each.comparator), each.agreement.value] for each in stage.outputs]
    rows += [[f"{len(each)} {name}", "", _count(each)] for name, each in _groups(stage) if each]
    if rows:
        print_table(["what", "compared by", "agreement"], rows)
    lines = [str(finding) for finding in stage.findings]
    lines += [f"differs around it: {cause}" for cause in stage.causes] if stage.findings else []
    lines += [f"note: {note}" for note in (*stage.notes, stage.independence) if note]
    for line in lines:
        click.echo(printable(line, None))
    click.echo(f"level {stage.level}: {stage.level.sentence}\n")


def _groups(stage: Reproduction) -> tuple[tuple[str, tuple[Comparison, ...]], ...]:
    return ("metrics", stage.metrics), ("cells", stage.cells)


def _count(comparisons: Iterable[Comparison]) -> str:
    """`9 identical, 3 equal`."""
    counts = Counter(each.agreement.value for each in comparisons)
    return ", ".join(f"{n} {agreement}" for agreement, n in counts.most_common())
