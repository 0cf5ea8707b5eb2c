"""The reports of an archive: what is in it, put into the values that pages are made from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import Archive, describe_coverage
from kit.decision import Waiver
from kit.environment import list_environments
from kit.errors import IntegrityError, NotFoundError
from kit.execute import complete_record, describe_signature, read_notebook_of
from kit.files import utc_now, write_atomically
from kit.gate import Verdict
from kit.index import Query, Row
from kit.ledger import Entry, Kind, environment_of
from kit.lineage import Again, list_reproductions
from kit.project import Project
from kit.record import Record
from kit.release import GivenWaiver, read_waivers
from kit.release.live import find_turn
from kit.release.soundness import require_cut
from kit.release.waivers import describe_state, find_decisive
from kit.report.life import read_life
from kit.report.page import render_record_page
from kit.report.pages import find_pages, list_pages
from kit.report.rows import EvidenceRow, ReleaseRow, WaiverRow
from kit.report.site import Site, Source, write_site
from kit.report.survey import N_PAGES, find_linked, links_of, survey_records
from kit.report.sweep import find_sweeps, name_sweep

_AT_ONCE = 2000  # rows of the index
MAX_NAME_BYTES = 200  # file systems allow 255, and a temporary name is longer than the final one


def make_reports(
    project: Project,
    archive: Archive,
    now: datetime | None = None,
    *,
    all_pages: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Path:
    """Bring the pages of an archive up to date; gives the index. See `write_reports`.

    Args:
        project: says where.
        archive: what they show.
        now: decides whether a waiver holds; without it the clock does.
        all_pages: make a page for each record; else for the newest, those that something links, and those that had one.
        notify: told how far it is, in a sentence.
    """
    now = now or utc_now()
    releases, reproductions = _list_releases(archive, now), list_reproductions(archive)
    sweeps = find_sweeps(project.reports)
    survey = survey_records(
        _list_records(archive),
        archive.read_record,
        find_linked(releases, reproductions, sweeps),
        list_pages(project.reports),
        None if all_pages else N_PAGES,
    )
    releases += survey.refusals
    environments = list_environments(project.environments)
    names = dict.fromkeys([*environments, *sorted(filter(can_name_page, {each.environment for each in releases}))])
    site = Site(
        folder=project.reports,
        title=project.name,
        coverage=describe_coverage(archive),
        releases=releases,
        environments=environments,
        lives=[read_life(archive, name, releases, now) for name in names],
        reproductions=reproductions,
        sweeps=sweeps,
        now=now,
        memory=project.pages,
    )
    return write_site(site, survey, _source_of(archive), notify)


def _list_records(archive: Archive) -> Iterator[Row]:
    """What the index knows of all records, newest first; one may come twice when a newer is sealed meanwhile."""
    for offset in itertools.count(0, _AT_ONCE):
        page = archive.search(Query(limit=_AT_ONCE, offset=offset))
        yield from page.rows
        if not page.has_more:
            return


def _source_of(archive: Archive) -> Source:
    return Source(
        lambda record_id: complete_record(archive.read_record(record_id), archive),
        lambda record_id: read_executed_notebook(archive, record_id),
        lambda record_id: describe_signature(archive, record_id),
    )


def can_name_page(environment: str) -> bool:
    """Whether the page of an environment can have its name; that of a record or an entry can be whatever somebody wrote there."""
    is_own = not {"/", "\\", "\0"} & set(environment)
    return is_own and 0 < len(environment.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES


def make_page(project: Project, archive: Archive, record: Record) -> Path:
    """Make one record's page; gives its path."""
    page = project.reports / "records" / f"{record.id}.html"
    reproductions, sweep = _list_reproductions(archive, record), name_sweep(record.sweep)
    linked = {*links_of(record), *(each.again for each in reproductions)}
    text = render_record_page(
        complete_record(record, archive),
        read_executed_notebook(archive, record.id),
        known_records=find_pages(project.reports, linked),
        signature=describe_signature(archive, record.id),
        reproductions=reproductions,
        sweep_href=f"../sweeps/{sweep}.html" if (project.reports / "sweeps" / f"{sweep}.html").is_file() else "",
    )
    write_atomically(page, text.encode("utf-8", "replace"))
    return page


def _list_reproductions(archive: Archive, record: Record) -> list[Again]:
    try:
        return list_reproductions(archive, about=record.id)
    except IntegrityError:  # an entry of the ledger is damaged: `kit verify` says it; the record can be looked at
        return []


def read_executed_notebook(archive: Archive, record_id: str) -> dict[str, Any]:
    """A record's executed notebook; for one that was never closed, what its journal has up to the last output."""
    return read_notebook_of(archive.read_record(record_id), archive)


def _list_releases(archive: Archive, now: datetime) -> list[ReleaseRow]:
    entries = sorted(archive.tell(Kind.RELEASE), key=lambda entry: (environment_of(entry), entry.seq))
    live = {name: find_turn(archive, name) for name in {environment_of(entry) for entry in entries}}
    made_live = {turn.release for turn in live.values() if turn}
    given = read_waivers(archive)
    return [_row_of(archive, entry, given, now, live=entry.release in made_live) for entry in entries]


def _row_of(archive: Archive, entry: Entry, given: Sequence[GivenWaiver], now: datetime, *, live: bool) -> ReleaseRow:
    """A release as its page shows it; one that cannot be read is refused, with the reason, and hides no other."""
    try:
        release = archive.release_of(entry)
        require_cut(archive, release)
    except (NotFoundError, IntegrityError) as error:
        return ReleaseRow(
            id=entry.release,
            environment=environment_of(entry),
            time=entry.time,
            record=entry.record,
            who=entry.who,
            live=live,
            passed=False,
            reasons=(str(error),),
        )
    row = ReleaseRow(
        id=release.id,
        environment=release.environment,
        time=release.time,
        record=release.record,
        who=release.who,
        live=live,
        manifest_sha256=release.manifest_sha256,
    )
    try:
        manifest = archive.read_manifest(release)
    except (NotFoundError, IntegrityError) as error:  # shown as what it is: a release that cannot be trusted any more
        return msgspec.structs.replace(row, passed=False, reasons=(f"release.json: {error}",))
    verdict = manifest.verdict
    return msgspec.structs.replace(
        row,
        passed=verdict.passed,
        reasons=verdict.reasons,
        evidence=_rows_of(verdict),
        promoted_from=manifest.promoted_from,
        waivers=tuple(_waiver_row(each, _of_environment(given, each.environment), now) for each in verdict.waivers),
        training=manifest.training_record,
        commit=manifest.commit or "",
    )


def _of_environment(given: Sequence[GivenWaiver], environment: str) -> tuple[GivenWaiver, ...]:
    return tuple(each for each in given if each.waiver is None or each.waiver.environment == environment)


def _waiver_row(waiver: Waiver, given: Sequence[GivenWaiver], now: datetime) -> WaiverRow:
    decisive = find_decisive(given, waiver.evidence)
    return WaiverRow(
        evidence=waiver.evidence,
        state=describe_state(waiver, given, now),
        who=waiver.who,
        reason=waiver.reason,
        until=waiver.until,
        holds=bool(decisive and decisive.waiver and decisive.waiver.holds_at(now)),
    )


def _rows_of(verdict: Verdict) -> tuple[EvidenceRow, ...]:
    return tuple(EvidenceRow(e.kind, e.subject, e.finding.value, e.detail) for e in verdict.evidence)
