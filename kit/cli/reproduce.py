"""`kit reproduce`: does doing it again give the same?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import ExampleCommand, json_option, open_workbench, print_json, print_table
from kit.cli.terminal import count, printable
from kit.errors import InterruptedByUserError, KitError, UsageError
from kit.files import canonical_json

if TYPE_CHECKING:
    from kit.compare import Cause, Comparison
    from kit.execute import Workbench
    from kit.reproduce import Report, Reproduction

_SHOWN = 5  # of one kind
_DIGEST_LENGTH = 64
_SURROUNDINGS = {
    "package": "with other packages",
    "python": "with another Python",
    "platform": "on another platform",
    "processor": "on another processor",
    "threads": "with other threads",
    "input": "with other inputs",
    "parameter": "with other parameters",
    "determinism": "with other settings of determinism",
}
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
@click.option("--inner", is_flag=True, hidden=True)
@json_option
def reproduce_command(subject: str, packages: str, pairs: tuple[str, ...], inner: bool, as_json: bool) -> int:
    """Do a record again from what the archive holds, or everything from raw data to a release, and compare.

    Exit code 0: doing it again gives the same, 1: it does not, 3: cannot be decided here.
    """
    from kit.reproduce import reproduce

    again = dict(_split_pair(pair) for pair in pairs)
    workbench = _open_quietly() if inner else open_workbench(appends=True)
    try:
        report = reproduce(workbench, subject, with_recorded_packages=packages == "recorded", again=again)
    except (KitError, KeyboardInterrupt) as error:
        if not inner:
            raise
        return _hand_back(error)
    if as_json:
        facts = {"verdict": report.verdict, "level": report.level, "independently": report.independently}
        print_json({"exit_code": report.exit_code, **facts, "stages": report.stages, "missing": report.missing})
    else:
        _print_report(report)
    return report.exit_code


def _open_quietly() -> Workbench:
    """The project here; the ledger's checkpoint at the end is left to the kit that started this one."""
    with click.Context(reproduce_command).scope(cleanup=False):
        return open_workbench(appends=True)


def _hand_back(error: KitError | KeyboardInterrupt) -> int:
    """An error for the kit that started this one, which says it to the person."""
    found = error if isinstance(error, KitError) else InterruptedByUserError()
    print_json({"error": {"kind": type(found).__name__, "message": str(found)}})
    return found.exit_code


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
    rows += [[count(len(each), name), "", _count(each)] for name, each in _groups(stage) if each]
    if rows:
        print_table(["what", "compared by", "agreement"], rows)
    lines = [str(finding) for finding in stage.findings]
    lines += [f"differs around it: {cause}" for cause in stage.causes] if stage.findings else []
    surroundings = [] if stage.findings else tell_surroundings(stage.causes)
    lines += [f"note: {note}" for note in (*stage.notes, *surroundings, stage.independence) if note]
    for line in lines:
        click.echo(printable(line, None))
    click.echo(f"level {stage.level}: {stage.level.sentence}\n")


def tell_surroundings(causes: Iterable[Cause]) -> list[str]:
    """What was not the same although the result is, a sentence for each kind: `with other packages: six 1.17.0, here 1.16.0`.

    The kit is left out, as a reproduction has a note of its own on that.
    """
    told: dict[str, list[str]] = {}
    for cause in causes:
        if cause.kind != "kit":
            told.setdefault(_SURROUNDINGS.get(cause.kind, f"with another {cause.kind}"), []).append(_tell_sides(cause))
    return [f"{title}: {'; '.join(each[:_SHOWN])}{_tell_rest(len(each))}" for title, each in told.items()]


def _tell_sides(cause: Cause) -> str:
    """`six 1.17.0, here 1.16.0`; of what has no name of its own (a Python, a processor) only the two sides."""
    name = "" if cause.subject in ("version", "system", "model") else f"{cause.subject} "
    before, after = (_tell_side(value) for value in (cause.before, cause.after))
    return f"{name}{before}, here {after}"


def _tell_side(value: Any) -> str:
    text = "missing" if value is None else value if isinstance(value, str) else canonical_json(value).decode()
    return text[:12] if len(text) == _DIGEST_LENGTH and text.isalnum() else text


def _tell_rest(n: int) -> str:
    return f" and {n - _SHOWN} more" if n > _SHOWN else ""


def _groups(stage: Reproduction) -> tuple[tuple[str, tuple[Comparison, ...]], ...]:
    return ("metric", stage.metrics), ("cell", stage.cells)


def _count(comparisons: Iterable[Comparison]) -> str:
    """`9 identical, 3 equal`."""
    counts = Counter(each.agreement.value for each in comparisons)
    return ", ".join(f"{n} {agreement}" for agreement, n in counts.most_common())
