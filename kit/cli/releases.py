"""The life of releases: `releases`, `promote`, `rollback`, `history`, `waive`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import (
    ExampleCommand,
    format_when,
    json_option,
    open_workbench,
    print_json,
    print_table,
    timeout_option,
)
from kit.cli.terminal import printable
from kit.errors import KitError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from kit.execute import Workbench
    from kit.ledger import Entry
    from kit.release import GivenWaiver, Interval
    from kit.release.life import UsedWaiver


@click.command(cls=ExampleCommand, name="releases", example="kit releases --env staging")
@click.option("--env", "environment", help="Only this environment.")
@json_option
def releases_command(environment: str | None, as_json: bool) -> None:
    """List releases by environment, newest last: what is live, promoted from what, on which waivers it relies."""
    from kit.archive import describe_coverage
    from kit.ledger import Kind, environment_of
    from kit.release import read_waivers
    from kit.release.live import find_turn

    workbench = open_workbench()
    archive = workbench.archive
    entries = [each for each in archive.tell(Kind.RELEASE) if environment in (None, environment_of(each))]
    entries.sort(key=lambda each: (environment_of(each), each.seq))
    if environment and not entries:
        workbench.project.read_environment(environment)  # one that does not exist is wrong use
    turns = [find_turn(archive, name) for name in dict.fromkeys(map(environment_of, entries))]
    live = {turn.release for turn in turns if turn}
    given = read_waivers(archive, keys=workbench.trusted_keys)
    rows = [_describe_release(workbench, entry, given, live=entry.release in live) for entry in entries]
    if as_json:
        print_json(rows)
        return
    header = ["release", "", "cut (UTC)", "by", "record", "release.json", "promoted from", "waivers"]
    print_table(header, [_row_of(entry, row) for entry, row in zip(entries, rows, strict=True)])
    click.echo(describe_coverage(archive), err=True)


def _describe_release(
    workbench: Workbench, entry: Entry, given: Sequence[GivenWaiver], *, live: bool
) -> dict[str, Any]:
    """A release as its entry and its manifest tell of it; what cannot be read is a problem of this one alone."""
    from kit.release.life import list_used

    name, _, number = entry.release.rpartition("-")
    facts: dict[str, Any] = {
        "id": entry.release, "environment": name, "number": int(number), "time": entry.time, "who": entry.who,
        "record": entry.record, "manifest_sha256": "", "live": live, "promoted_from": "", "waivers": (), "problem": "",
    }  # fmt: skip
    try:
        release = workbench.archive.release_of(entry)
        facts["manifest_sha256"] = release.manifest_sha256
        manifest = workbench.archive.read_manifest(release)
        used = list_used(workbench.archive, manifest, workbench.clock(), workbench.trusted_keys, given)
        return facts | {"promoted_from": manifest.promoted_from, "waivers": used}
    except (KitError, OSError) as error:
        return facts | {"problem": str(error)}


def _row_of(entry: Entry, facts: dict[str, Any]) -> list[str]:
    live = "live" if facts["live"] else ""
    waivers = "; ".join(map(tell_used, facts["waivers"])) or facts["problem"]
    cut = [entry.release, live, format_when(entry.time), entry.who, entry.record, facts["manifest_sha256"][:12]]
    return [*cut, facts["promoted_from"], printable(waivers, None)]


def tell_used(used: UsedWaiver) -> str:
    """`metric:auc until 2026-04-01`, `metric:auc EXPIRED on 2026-02-01`."""
    return f"{used.waiver.evidence} {used.state}"


@click.command(cls=ExampleCommand, name="promote", example="kit promote staging-3 --to production")
@click.argument("release_id", metavar="RELEASE")
@click.option("--to", "environment", required=True, help="The environment whose gate it must pass.")
@timeout_option
@json_option
def promote_command(release_id: str, environment: str, timeout_s: float | None, as_json: bool) -> None:
    """Cut a release of the same bundle and model with another environment's configuration, through that one's gate."""
    from kit.cli.stages import show_step
    from kit.pipeline import promote

    show_step(promote(open_workbench(appends=True), environment, release_id, timeout_s), as_json=as_json)


@click.command(cls=ExampleCommand, name="rollback", example='kit rollback production --reason "answers are too slow"')
@click.argument("environment", metavar="ENV")
@click.option("--to", "release_id", default="", metavar="ID", help="Instead of what was live before.")
@click.option("--reason", required=True, help="Why, for those who read the history.")
@json_option
def rollback_command(environment: str, release_id: str, reason: str, as_json: bool) -> None:
    """Make an earlier release live again, after every byte of it was verified; again, and it goes further back."""
    from kit.release import roll_back

    rolled = roll_back(open_workbench(appends=True), environment, reason, release_id)
    if as_json:
        print_json(rolled)
    else:
        rollback = rolled.rollback
        click.echo(f"{rollback.after} is live in {rollback.environment}; before it was {rollback.before}")


@click.command(cls=ExampleCommand, name="history", example="kit history production")
@click.argument("environment", metavar="ENV")
@json_option
def history_command(environment: str, as_json: bool) -> None:
    """What was live in an environment, from when to when, by whom, why, with which verdict; and waivers given there."""
    from kit.archive import describe_coverage
    from kit.release import read_history, read_waivers

    workbench = open_workbench()
    archive, keys = workbench.archive, workbench.trusted_keys
    intervals = read_history(archive, environment, keys)
    waivers = read_waivers(archive, environment, keys)
    if not intervals and not waivers:
        workbench.project.read_environment(environment)  # one that does not exist is wrong use
    if as_json:
        print_json({"environment": environment, "intervals": intervals, "waivers": waivers})
        return
    if not intervals:
        click.echo(f"nothing was ever live in {environment}")
    _print_intervals(intervals)
    _print_waivers(waivers, workbench.clock())
    click.echo(describe_coverage(archive), err=True)


def _print_intervals(intervals: tuple[Interval, ...]) -> None:
    from kit.release.live import describe_standing

    rows = [
        [
            each.release,
            format_when(each.live_from),
            format_when(each.live_to) or "now",
            each.who,
            printable(f"{each.why}; {each.problem}" if each.problem else each.why, None),
            each.verdict,
            describe_standing(each.standing, each.signer),
        ]
        for each in intervals
    ]
    if rows:
        print_table(["release", "live from (UTC)", "to", "by", "why", "verdict", "signature"], rows)


def _print_waivers(waivers: tuple[GivenWaiver, ...], now: datetime) -> None:
    if waivers:
        click.echo("")
        rows = [_waiver_row(each, waivers, now) for each in waivers]
        print_table(["waiver", "given (UTC)", "state", "by", "reason", "signature"], rows)


def _waiver_row(given: GivenWaiver, waivers: tuple[GivenWaiver, ...], now: datetime) -> list[str]:
    from kit.release.live import describe_standing
    from kit.release.waivers import tell_state

    waiver, standing = given.waiver, describe_standing(given.standing, given.signer)
    if waiver is None:
        return ["?", format_when(given.time), "", given.who, printable(given.problem, None), ""]
    state = tell_state(given, waivers, now)
    return [waiver.evidence, format_when(given.time), state, given.who, printable(waiver.reason, None), standing]


@click.command(
    cls=ExampleCommand,
    name="waive",
    example='kit waive features.parquet --env staging --reason "feed is late, ticket 12" --until 2026-04-01',
)
@click.argument("check", metavar="CHECK")
@click.option("--env", "environment", required=True, help="Whose gate may let it pass.")
@click.option("--reason", required=True, help="Why, for those who read the release.")
@click.option("--until", metavar="YYYY-MM-DD", help="The last day, in UTC, on which it holds; 366 days ahead at most.")
@click.option("--revoke", is_flag=True, help="Take the waiver back that holds now.")
@json_option
def waive_command(check: str, environment: str, reason: str, until: str | None, revoke: bool, as_json: bool) -> None:
    """Let a check (an artifact's name, or KIND:SUBJECT as the gate prints it) pass although it refuses, until a day.

    It is named in every release that relies on it, and such a release cannot run or be served once it has expired.
    """
    from kit.release import give_waiver, revoke_waiver

    if bool(until) is revoke:
        raise UsageError("give either --until YYYY-MM-DD, the last day on which the waiver holds, or --revoke")
    workbench = open_workbench(appends=True)
    if until:
        given = give_waiver(workbench, environment, check, reason, _parse_day(until))
    else:
        given = revoke_waiver(workbench, environment, check, reason)
    if as_json:
        print_json(given)
    elif given.waiver:
        state = "no longer waived" if revoke else f"waived until {given.waiver.until}"
        click.echo(f"{given.waiver.evidence} is {state} in {environment} (ledger entry {given.entry})")


def _parse_day(text: str) -> Any:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until {text!r}: expected a day as YYYY-MM-DD, such as 2026-04-01") from None
