"""The reports of an archive: what is in it, put into the values that pages are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.archive import Archive, describe_coverage
from kit.environment import list_environments
from kit.errors import IntegrityError, NotFoundError
from kit.execute import complete_record, describe_signature, read_notebook_of
from kit.files import write_atomically
from kit.gate import Release, Verdict
from kit.graph import RELEASE
from kit.lineage import Again, list_reproductions
from kit.project import Project
from kit.record import Record
from kit.report.page import render_record_page
from kit.report.rows import EvidenceRow, ReleaseRow
from kit.report.site import write_reports


def make_reports(project: Project, archive: Archive) -> Path:
    """Make the page of every record and the index; gives the index. Pages that are up to date are left."""
    records = [complete_record(record, archive) for record in archive.records()]
    return write_reports(
        records,
        lambda record_id: read_executed_notebook(archive, record_id),
        [*_list_releases(archive), *_list_refusals(records)],
        project.reports,
        environments=list_environments(project.environments),
        title=project.name,
        coverage=describe_coverage(archive),
        read_signature=lambda record_id: describe_signature(archive, record_id),
        reproductions=list_reproductions(archive),
    )


def make_page(project: Project, archive: Archive, record: Record) -> Path:
    """Make one record's page; gives its path."""
    page = project.reports / "records" / f"{record.id}.html"
    known = frozenset(archive.list_ids())
    notebook = read_executed_notebook(archive, record.id)
    signature = describe_signature(archive, record.id)
    text = render_record_page(
        complete_record(record, archive),
        notebook,
        known_records=known,
        signature=signature,
        reproductions=_list_reproductions(archive, record),
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


def _list_releases(archive: Archive) -> list[ReleaseRow]:
    releases = archive.list_releases()
    live = {release.environment: release.id for release in releases}
    return [_row_of(archive, release, live[release.environment]) for release in releases]


def _row_of(archive: Archive, release: Release, live: str) -> ReleaseRow:
    try:
        verdict = archive.read_manifest(release).verdict
        problems = verdict.reasons
    except (NotFoundError, IntegrityError) as error:  # shown as what it is: a release that cannot be trusted any more
        verdict, problems = None, (f"release.json: {error}",)
    return ReleaseRow(
        id=release.id,
        environment=release.environment,
        time=release.time,
        record=release.record,
        who=release.who,
        live=release.id == live,
        passed=not problems,
        reasons=problems,
        evidence=_rows_of(verdict) if verdict else (),
    )


def _rows_of(verdict: Verdict) -> tuple[EvidenceRow, ...]:
    return tuple(EvidenceRow(e.kind, e.subject, e.finding.value, e.detail) for e in verdict.evidence)


def _list_refusals(records: list[Record]) -> list[ReleaseRow]:
    return [
        ReleaseRow(
            id="",
            environment=record.environment,
            time=record.started,
            record=record.id,
            who=f"{record.machine.user}@{record.machine.host}",
            passed=False,
            reasons=(record.failure.message,),
        )
        for record in records
        if record.stage == RELEASE and record.failure and not record.reproduces
    ]
