"""The life of releases: `releases`, `promote`, `rollback`, `history`, `waive`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kit.cli.console import ExampleCommand, format_when, json_option, open_workbench, print_json, print_table
from kit.cli.terminal import printable
from kit.errors import KitError, UsageError

if TYPE_CHECKING:
    from kit.execute import Workbench
    from kit.gate import Release
    from kit.release import GivenWaiver, Interval
    from kit.release.life import UsedWaiver


@click.command(cls=ExampleCommand, name="releases", example="kit releases --env staging")
@click.option("--env", "environment", help="Only this environment.")
@json_option
def releases_command(environment: str | None, as_json: bool) -> None:
    """List releases, newest last, with what is live, what they were promoted from, and the waivers that they rely on."""
    from kit.archive import describe_coverage
    from kit.release import read_waivers
    from kit.release.live import find_turn

    workbench = open_workbench()
    archive = workbench.archive
    releases = archive.list_releases(environment)
    if environment and not releases:
        workbench.project.read_environment(environment)  # one that does not exist is wrong use
    turns = [find_turn(archive, name) for name in dict.fromkeys(release.environment for release in releases)]
    live = {turn.release for turn in turns if turn}
    given = read_waivers(archive)
    rows = [_describe_release(workbench, release, given, live=release.id in live) for release in releases]
    if as_json:
        print_json(rows)
        return
    header = ["release", "", "cut (UTC)", "by", "record", "release.json", "promoted from", "waivers"]
    print_table(header, [_row_of(release, row) for release, row in zip(releases, rows, strict=True)])
    click.echo(describe_coverage(archive), err=True)


def _describe_release(
    workbench: Workbench, release: Release, given: Sequence[GivenWaiver], *, live: bool
) -> dict[str, Any]:
    from kit.release.life import list_used

    facts: dict[str, Any] = {"live": live, "promoted_from": "", "waivers": (), "problem": ""}
    try:
        manifest = workbench.archive.read_manifest(release)
        used = list_used(workbench.archive, manifest, workbench.clock(), given)
        facts |= {"promoted_from": manifest.promoted_from, "waivers": used}
    except (KitError, OSError) as error:
        facts["problem"] = str(error)
    return {**msgspec.to_builtins(release, builtin_types=(datetime,)), **facts}


def _row_of(release: Release, facts: dict[str, Any]) -> list[str]:
    live = "live" if facts["live"] else ""
    waivers = "; ".join(map(tell_used, facts["waivers"])) or facts["problem"]
    cut = [release.id, live, format_when(release.time), release.who, release.record, release.manifest_sha256[:12]]
    return [*cut, facts["promoted_from"], printable(waivers, None)]


def tell_used(used: UsedWaiver) -> str:
    """`metric:auc until 2026-04-01`, `metric:auc EXPIRED on 2026-02-01`."""
    return f"{used.waiver.evidence} {used.state}"


@click.command(cls=ExampleCommand, name="promote", example="kit promote staging-3 --to production")
@click.argument("release_id", metavar="RELEASE")
@click.option("--to", "environment", required=True, help="The environment whose gate it must pass.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Instead of the environment's.")
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
    _print_waivers(waivers)
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


def _print_waivers(waivers: tuple[GivenWaiver, ...]) -> None:
    if waivers:
        click.echo("")
        print_table(["waiver", "given (UTC)", "until", "by", "reason", "signature"], list(map(_waiver_row, waivers)))


def _waiver_row(given: GivenWaiver) -> list[str]:
    from kit.release.live import describe_standing

    waiver, standing = given.waiver, describe_standing(given.standing, given.signer)
    if waiver is None:
        return ["?", format_when(given.time), "", given.who, printable(given.problem, None), ""]
    until = "revoked" if waiver.revoked else str(waiver.until)
    return [waiver.evidence, format_when(given.time), until, given.who, printable(waiver.reason, None), standing]


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
