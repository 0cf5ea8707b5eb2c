"""Whatever happens to an archive, what its index answers is what the archive says without one."""

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from indexed import RELEASES, attempt, bare, index_of, release, reopen, rewrite, seal

from kit.archive import OPEN, Archive, open_archive
from kit.errors import IntegrityError
from kit.index import Query
from kit.ledger import Kind
from kit.record import Record, Status
from kit.testing import START, make_record, seal_record


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test", index=tmp_path / ".kit/index.sqlite")


class Twin:
    """An archive, looked at with and without its index, while things happen to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.archive = open_archive(folder / "archive", "test", index=folder / ".kit/index.sqlite")
        self.other = open_archive(folder / "other", "other")
        self.chance = random.Random(seed)
        self.hours = 0
        self.opened: list[tuple[object, Record]] = []

    def act(self) -> None:
        self.hours += 1
        actions = [self.seal] * 5 + [self.open, self.close, self.release, self.drop, self.enter, self.lose, self.spoil]
        actions += [self.unseal, self.delete_index, self.reopen, self.enter_again]
        self.chance.choice(actions)()

    def make(self) -> Record:
        status = self.chance.choice([Status.SUCCEEDED] * 3 + [Status.FAILED])
        return make_record(
            stage=self.chance.choice(["train", "prepare"]),
            environment=self.chance.choice(["dev", "ci"]),
            started=START + timedelta(hours=self.chance.randrange(1000)),
            status=status,
            key=self.chance.choice(["", "k1", "k2"]),
            reproduces=self.chance.choice([None] * 5 + ["r"]),
            metrics={"auc": self.chance.random()} if self.chance.random() < 0.7 else {},
        )

    def ids(self) -> list[str]:
        return (
            [path.name for path in self.archive.records_folder.iterdir()]
            if self.archive.records_folder.is_dir()
            else []
        )

    def seal(self) -> None:
        seal_record(self.chance.choice([self.archive, bare(self.archive)]), self.make())

    def open(self) -> None:
        record = self.make()
        started = msgspec.structs.replace(record, status=Status.STARTED, ended=None, metrics={})
        self.opened.append((self.archive.open_record(started, {}), record))

    def close(self) -> None:
        if self.opened:
            opened, record = self.opened.pop()
            if opened.folder.is_dir():  # type: ignore[attr-defined]
                opened.close(record, {})  # type: ignore[attr-defined]

    def release(self) -> None:
        release(self.archive, self.hours)

    def drop(self) -> None:
        record = seal_record(self.other, self.make())
        shutil.copytree(self.other.record_folder(record.id), self.archive.records_folder / record.id)

    def enter(self) -> None:
        """What an import does."""
        record = seal_record(self.other, self.make())
        shutil.copytree(self.other.record_folder(record.id), self.archive.records_folder / record.id)
        self.archive.enter(Kind.IMPORT, record, "0" * 64, START)

    def enter_again(self) -> None:
        if found := [each for each in self.ids() if not each.endswith(OPEN)]:
            record = make_record(id=self.chance.choice(found))
            self.archive.enter(self.chance.choice([Kind.END, Kind.START, Kind.REPRODUCTION]), record, "0" * 64, START)

    def lose(self) -> None:
        if found := self.ids():
            shutil.rmtree(self.archive.records_folder / self.chance.choice(found))

    def spoil(self) -> None:
        if found := [each for each in self.ids() if not each.endswith(OPEN)]:
            rewrite(self.archive, self.chance.choice(found), lambda data: data[:-5])

    def unseal(self) -> None:
        if found := [each for each in self.ids() if not each.endswith(OPEN)]:
            name = self.chance.choice(found)
            (self.archive.records_folder / name).rename(self.archive.records_folder / f"{name}{OPEN}")

    def delete_index(self) -> None:
        self.archive = reopen(self.archive)
        shutil.rmtree(index_of(self.archive).parent, ignore_errors=True)

    def reopen(self) -> None:
        self.archive = reopen(self.archive)


def answers(archive: Archive) -> Iterator[object]:
    """Everything that the index has a part in, as the caller sees it."""
    for stage, environment, key in [
        ("train", "dev", ""),
        ("train", "ci", "k1"),
        ("prepare", "dev", "k2"),
        ("x", "dev", ""),
    ]:
        found = archive.newest_of(stage, environment, key)
        yield found, archive.unreadable if found is None else None
    yield [entry.seq for entry in archive.tell(*RELEASES)], [entry.seq for entry in archive.tell(Kind.END)]
    yield [
        attempt(lambda each=each: archive.find_id(each))
        for each in ("2026", "a", "ff", "Z-train-0", "20260301T093000Z-train")
    ]
    yield attempt(lambda: [each.id for each in archive.list_releases()])
    yield attempt(lambda: archive.find_release("dev-1"))


@pytest.mark.parametrize("seed", range(12))
def test_every_answer_is_that_of_the_archive_without_an_index(tmp_path: Path, seed: int) -> None:
    twin = Twin(tmp_path, seed)
    for _ in range(30):
        twin.act()
        without = bare(twin.archive)
        rows = twin.archive.search(Query()).rows  # all are shown, so that whatever was spoilt since is noticed
        unreadable = sorted(twin.archive.unreadable)
        for found, expected in zip(answers(twin.archive), answers(without), strict=True):
            assert found == expected
        expected = list(without.records())
        assert {row.id: (row.stage, row.status, row.metrics) for row in rows} == {
            record.id: (record.stage, record.status, record.metrics) for record in expected
        }
        assert unreadable == sorted(without.unreadable)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"{"),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes() + b" "),
    ],
)
@pytest.mark.parametrize("seq", [1, 3, 5, 6])
def test_entry_that_cannot_be_read_says_so_as_without_an_index(
    archive: Archive, spoil: Callable[[Path], object], seq: int
) -> None:
    for hours in range(2):
        seal(archive, hours)
    release(archive, 2)
    seal(archive, 3)
    path = archive.ledger.path(seq)
    path.chmod(0o644)
    spoil(path)
    for index in (None, index_of(archive).with_name("later.sqlite")):  # read for the first time after it was spoilt
        after = Archive(archive.folder, archive.origin, index=index)
        found = attempt(lambda after=after: [entry.seq for entry in after.tell(*RELEASES)])
        newest = attempt(lambda after=after: after.newest_of("prepare", "dev"))
        if index is None:
            expected = found, newest
    assert (found, newest) == expected


def test_entry_that_was_spoilt_after_it_was_taken_in_is_not_believed(archive: Archive) -> None:
    seal(archive)
    cut = release(archive, 1)
    seal(archive, 2)
    assert [each.release for each in archive.tell(*RELEASES)] == [cut]
    path = archive.ledger.path(5)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"release":"dev-1"', b'"release":"dev-9"'))
    assert [each.release for each in archive.tell(*RELEASES)] == ["dev-9"]  # as it is, not as it was
    path.write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="000000005"):
        list(archive.tell(*RELEASES))
