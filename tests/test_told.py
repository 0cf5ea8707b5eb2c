"""What is decided on the part of the ledger that an index points to is decided as on all of it."""

import random
from pathlib import Path

import pytest

from kit.archive import Archive, open_archive
from kit.ledger import Entry, Kind, release_number
from kit.release.live import find_overtaking, read_since
from kit.release.sealed import read_seals
from kit.testing import START, make_record, seal_record

RECORDS = ("a", "b", "c", "d")
ENVIRONMENTS = ("dev", "ci")
KINDS = [Kind.START, Kind.START, Kind.END, Kind.END, Kind.RELEASE, Kind.RELEASE, Kind.IMPORT, Kind.REPRODUCTION]


def fill(archive: Archive, seed: int) -> list[Entry]:
    """Entries in no order that any kit would write."""
    chance = random.Random(seed)
    for number in range(30):
        kind, sha256 = chance.choice(KINDS), f"{number:064x}"
        environment = chance.choice(ENVIRONMENTS) if kind is Kind.RELEASE else ""
        archive.ledger.append(kind, chance.choice(RECORDS), sha256, "who@host", START, environment)
    return list(archive.ledger.read_entries())


@pytest.mark.parametrize("seed", range(25))
def test_what_entries_decide_is_the_same_by_an_index(tmp_path: Path, seed: int) -> None:
    bare = open_archive(tmp_path / "archive", "test")
    entries = fill(bare, seed)
    oldest = {e.record: e.sha256 for e in reversed(entries) if e.kind in (Kind.END, Kind.IMPORT)}
    for archive in (bare, Archive(bare.folder, bare.origin, index=tmp_path / "index.sqlite")):
        for record in RECORDS:
            for environment in ENVIRONMENTS:
                found = find_overtaking(read_since(archive, record, environment), record, environment)
                assert found == find_overtaking(entries, record, environment)
            assert read_seals(archive, {record}) == {k: v for k, v in oldest.items() if k == record}
            assert list(archive.tell_of(record, "a")) == [e for e in reversed(entries) if e.record in (record, "a")]
        assert read_seals(archive, RECORDS) == oldest


def test_release_has_the_next_number_whoever_says_where_the_others_are(tmp_path: Path) -> None:
    bare = open_archive(tmp_path / "archive", "test")
    indexed = Archive(bare.folder, bare.origin, index=tmp_path / "index.sqlite")
    for number in range(1, 9):
        archive = (bare, indexed)[number % 2]
        record = make_record(stage="release")
        seal_record(archive, make_record())
        entry = archive.enter(Kind.RELEASE, record, "0" * 64, START, "dev")
        assert release_number(entry, "dev") == number


def test_newest_of_a_stage_is_the_same_by_an_index(tmp_path: Path) -> None:
    bare = open_archive(tmp_path / "archive", "test")
    made = [
        seal_record(bare, make_record(stage=stage, environment=environment))
        for stage in ("build", "train")
        for environment in ENVIRONMENTS
    ]
    for archive in (bare, Archive(bare.folder, bare.origin, index=tmp_path / "index.sqlite")):
        assert archive.newest(lambda _: True, "build") == made[1]
        assert archive.newest(lambda record: record.environment == "dev", "build") == made[0]
        assert archive.newest(lambda _: True, "run") is None
