"""What a record says of its earlier attempts, against the ledger and the records that are there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.archive import Archive
from kit.record import Process, Record, Status
from kit.testing import START, make_project, make_record, make_workbench, seal_record
from kit.verify import Code, Finding, verify_archive, verify_record


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return make_workbench(make_project(tmp_path)).archive


def seal(archive: Archive, **changes: Any) -> Record:
    """A sealed record whose objects are there."""
    bundle, configuration = (archive.objects.put_bytes(each) for each in (b"bundle", b"configuration"))
    code = msgspec.structs.replace(make_record().code, bundle_sha256=bundle)
    facts = {"code": code, "configuration_sha256": configuration, "key": "k"}
    return seal_record(archive, make_record(**{**facts, **changes}), {"requirements.txt": b""})


def find(archive: Archive, record: Record) -> list[Finding]:
    """What is found of a record's attempts, by itself and with the whole archive."""
    path = f"records/{record.id}/record.json"
    whole, alone = (
        [each for each in report.findings if each.path == path]
        for report in (verify_archive(archive.folder), verify_record(archive.folder, record.id))
    )
    assert whole == alone
    return whole


def test_unsuccessful_and_lost_attempts_hold(archive: Archive) -> None:
    failed = seal(archive, status=Status.FAILED)
    lost = make_record(status=Status.STARTED, ended=None, key="k", process=Process(1, "gone", "gone"))
    archive.open_record(lost, {})
    record = seal(archive, attempts=(failed.id, lost.id))
    assert find(archive, record) == []
    assert verify_archive(archive.folder).exit_code == 0


def test_attempt_that_never_was_is_found(archive: Archive) -> None:
    record = seal(archive, attempts=("20260301T093000Z-train-000000",))
    (finding,) = find(archive, record)
    assert finding.code is Code.UNLOGGED
    assert "an attempt 20260301T093000Z-train-000000 in the ledger, found none" in str(finding)


def test_attempt_that_came_later_is_found(archive: Archive) -> None:
    later = make_record(started=START + timedelta(seconds=1), status=Status.FAILED, key="k")
    record = seal(archive, attempts=(later.id,))
    seal(archive, **{name: getattr(later, name) for name in ("id", "started", "status")})
    assert [finding.code for finding in find(archive, record)] == [Code.REORDERED]


def test_record_is_no_attempt_of_its_own(archive: Archive) -> None:
    name = make_record().id
    assert Code.REORDERED in {each.code for each in find(archive, seal(archive, id=name, attempts=(name,)))}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"stage": "prepare"}, "a prepare in dev"),
        ({"environment": "ci"}, "a train in ci"),
        ({"key": "other"}, "a train in dev, other work"),
        ({"status": Status.SUCCEEDED}, "which did"),
    ],
)
def test_attempt_at_something_else_or_a_success_is_found(archive: Archive, changes: dict[str, Any], found: str) -> None:
    attempt = seal(archive, **{"status": Status.FAILED, **changes})
    (finding,) = find(archive, seal(archive, attempts=(attempt.id,)))
    assert (finding.code, finding.found) == (Code.EDITED, f"{attempt.id}, {found}")
    assert verify_archive(archive.folder).exit_code == 1


def test_missing_entry_is_not_blamed_on_the_record_that_names_its_attempt(archive: Archive) -> None:
    seal(archive)
    failed = seal(archive, status=Status.FAILED)
    record = seal(archive, attempts=(failed.id,))
    entries = list(archive.ledger.read_entries())
    start = next(each for each in entries if each.record == failed.id)
    archive.ledger.path(start.seq).unlink()
    assert find(archive, record) == []
