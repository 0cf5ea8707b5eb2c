"""The page of an environment: what is live there, what was, the waivers, and each release with its gate's evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kit.archive import Archive
from kit.errors import KitError
from kit.release import GivenWaiver, Interval, read_history, read_waivers
from kit.release.waivers import tell_state
from kit.report.rows import ReleaseRow, WaiverRow
from kit.report.style import page_policy, style_sheet
from kit.report.templates import load_template


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """An environment's releases over time.

    Attributes:
        environment: its name.
        intervals: what was live, newest first.
        releases: releases and refusals, newest first.
        waivers: given and revoked, newest first.
        problem: why history or waivers cannot be read, in a sentence; empty if they can.
    """

    environment: str
    intervals: tuple[Interval, ...] = ()
    releases: tuple[ReleaseRow, ...] = ()
    waivers: tuple[WaiverRow, ...] = ()
    problem: str = ""

    @property
    def live(self) -> Interval | None:
        """What is live now; None if nothing is."""
        return self.intervals[0] if self.intervals else None

    @property
    def n_holding(self) -> int:
        """How many waivers let something pass today."""
        return sum(each.holds for each in self.waivers)


class Span(msgspec.Struct, frozen=True):
    """An interval as a piece of the timeline: where it begins and how wide it is, in percent of the whole."""

    interval: Interval
    left: float
    width: float


def read_life(archive: Archive, environment: str, releases: Sequence[ReleaseRow], now: datetime) -> Life:
    """What an archive tells of an environment; what cannot be read is said on the page.

    Args:
        archive: its ledger is read.
        environment: its name.
        releases: releases and refusals of all environments.
        now: decides whether a waiver holds.
    """
    own = sorted((r for r in releases if r.environment == environment), key=lambda r: (r.time, r.id), reverse=True)
    try:
        given = read_waivers(archive, environment)
        waivers = tuple(_row_of(each, given, now) for each in reversed(given))
        intervals = read_history(archive, environment)
    except (KitError, OSError) as error:
        return Life(environment=environment, releases=tuple(own), problem=str(error))
    return Life(environment=environment, intervals=intervals, releases=tuple(own), waivers=waivers)


def _row_of(given: GivenWaiver, all_given: Sequence[GivenWaiver], now: datetime) -> WaiverRow:
    waiver = given.waiver
    if waiver is None:
        return WaiverRow(evidence=f"ledger entry {given.entry}", state=given.problem, who=given.who, time=given.time)
    newer = any(e.entry > given.entry and e.waiver and e.waiver.evidence == waiver.evidence for e in all_given)
    return WaiverRow(
        evidence=waiver.evidence,
        state=tell_state(given, all_given, now),
        who=waiver.who,
        time=given.time,
        reason=waiver.reason,
        until=waiver.until,
        holds=not newer and waiver.holds_at(now),
        revoked=waiver.revoked,
    )


def draw_timeline(intervals: Sequence[Interval], now: datetime) -> tuple[Span, ...]:
    """The intervals as pieces from the first release until now, oldest first; none without any."""
    if not intervals:
        return ()
    begin = min(each.live_from for each in intervals)
    whole_s = max((max(now, intervals[0].live_from) - begin).total_seconds(), 1e-3)

    def place(moment: datetime) -> float:
        return min(max((moment - begin).total_seconds() / whole_s, 0.0), 1.0) * 100

    edges = [(each, place(each.live_from), place(each.live_to or now)) for each in reversed(intervals)]
    return tuple(Span(each, left, max(right - left, 0.0)) for each, left, right in edges)


def render_life(life: Life, *, title: str, known_records: frozenset[str], now: datetime) -> str:
    """The page of an environment.

    Args:
        life: see `read_life`.
        title: the project's name.
        known_records: ids of records that have a page.
        now: where the timeline ends.
    """
    page: str = load_template("life_page.html.j2").render(
        life=life,
        title=title,
        known=known_records,
        spans=draw_timeline(life.intervals, now),
        style=style_sheet(),
        policy=page_policy(),
    )
    return page
