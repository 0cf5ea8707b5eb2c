"""The index: what it answers is what the archive says, whatever happened to either; deleted, it is there again."""

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kit.archive import OPEN, Archive, open_archive
from kit.environment import Environment
from kit.errors import IntegrityError, KitError, UnknownNameError, UsageError
from kit.gate import Verdict
from kit.index import Condition, Query, RecordIndex, parse_condition
from kit.ledger import Kind
from kit.parameter import ResolvedParameter, Source
from kit.record import Failure, Process, Record, Status, Usage
from kit.testing import START, make_manifest, make_record, seal_record, seal_release
from tests.archives import ORIGIN, make_archive_of

RELEASES = (Kind.RELEASE, Kind.ROLLBACK)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test", index=tmp_path / ".kit/index.sqlite")


def reopen(archive: Archive) -> Archive:
    """As the next command, with the same index."""
    return Archive(archive.folder, archive.origin, index=index_of(archive))


def index_of(archive: Archive) -> Path:
    return archive.folder.parent / ".kit/index.sqlite"


def bare(archive: Archive) -> Archive:
    """The same archive, looked through without an index."""
    return Archive(archive.folder, archive.origin)


def ids(archive: Archive, **query: object) -> list[str]:
    return [row.id for row in archive.search(Query(**query)).rows]


def seal(archive: Archive, hours: int = 0, **facts: object) -> str:
    return seal_record(archive, make_record(started=START + timedelta(hours=hours), **facts)).id


def parameters(**values: object) -> tuple[ResolvedParameter, ...]:
    return tuple(ResolvedParameter(name, value, Source.NOTEBOOK, "int") for name, value in values.items())


def rewrite(archive: Archive, record_id: str, change: Callable[[bytes], bytes]) -> None:
    path = archive.record_folder(record_id) / "record.json"
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(change(data))


def release(archive: Archive, hours: int) -> str:
    verdict = Verdict("dev", Environment(name="dev").sha256, {}, ())
    manifest = make_manifest(verdict)
    archive.objects.put_bytes(manifest.encode())
    return seal_release(archive, manifest, START + timedelta(hours=hours)).id


def test_row_says_what_the_record_says(archive: Archive) -> None:
    record = make_record(
        status=Status.FAILED,
        metrics={"auc": 0.5, "n": 1 << 70, "good": True, "kind": "größe"},
        parameters=parameters(units=64, layers=[1, 2], seed=None),
        failure=Failure("ValueError", "no rows", 3),
        usage=Usage(5.0, 4.0, 1000),
        key="k",
        sweep="s",
        release="dev-1",
        reproduces="r",
    )
    seal_record(archive, record)
    (row,) = archive.search(Query()).rows
    found = {name: getattr(row, name) for name in row.__struct_fields__}
    assert found == {
        **{name: getattr(record, name) for name in found.keys() & set(record.__struct_fields__)},
        "wall_s": 5.0,
        "host": "host",
        "user": "user",
        "peak_memory_bytes": 1000,
        "parameters": {"units": 64, "layers": [1, 2], "seed": None},
        "imported": False,
    }


def test_record_of_another_process_is_found_at_once(archive: Archive) -> None:
    first = seal(archive)
    assert ids(archive) == [first]
    second = seal(bare(archive), 1)
    assert ids(archive) == ids(reopen(archive)) == [second, first]


def test_record_that_no_entry_tells_of_comes_and_goes_with_its_folder(archive: Archive, tmp_path: Path) -> None:
    first = seal(archive)
    other = open_archive(tmp_path / "other", "other")
    dropped = seal(other, 1)
    assert ids(archive) == [first]
    shutil.copytree(other.record_folder(dropped), archive.records_folder / dropped)
    assert ids(archive) == [dropped, first]
    assert archive.find_id(dropped[-6:]) == dropped
    shutil.move(archive.records_folder / dropped, tmp_path / "away")
    assert ids(archive) == [first]
    with pytest.raises(KitError, match="no record is named"):
        archive.find_id(dropped[-6:])


def test_open_record_is_looked_at_again_until_it_ends(archive: Archive) -> None:
    record = make_record(machine=msgspec.structs.replace(make_record().machine, host=socket.gethostname()))
    opened = archive.open_record(msgspec.structs.replace(record, status=Status.STARTED, ended=None), {})
    assert [row.status for row in archive.search(Query()).rows] == [Status.STARTED]
    assert ids(archive, status="succeeded") == []
    opened.close(record, {})
    assert [row.status for row in archive.search(Query()).rows] == [Status.SUCCEEDED]
    assert ids(archive, status="started") == []


def test_record_whose_process_died_since_reads_lost(archive: Archive) -> None:
    machine = msgspec.structs.replace(make_record().machine, host=socket.gethostname())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        from kit.provenance import current_process, process_mark

        process = Process(child.pid, process_mark(child.pid), current_process().boot)
        record = make_record(machine=machine, process=process, status=Status.STARTED, ended=None)
        archive.open_record(record, {})
        assert ids(archive, status="started") == [record.id]
        child.communicate(b"\n")
    assert ids(archive, status="lost") == ids(archive) == [record.id]
    assert ids(archive, status="started") == []


def test_record_that_ended_without_its_last_rename_is_found_ended(archive: Archive) -> None:
    record = seal(archive)
    folder = archive.record_folder(record)
    folder.rename(folder.with_name(f"{record}{OPEN}"))
    assert ids(archive, status="succeeded") == [record]
    assert folder.is_dir()


def test_record_that_was_changed_is_shown_as_it_is_now(archive: Archive) -> None:
    record = seal(archive, metrics={"auc": 0.5})
    assert ids(archive, sort="auc") == [record]
    rewrite(archive, record, lambda data: data.replace(b'"auc":0.5', b'"f1":0.25'))
    assert archive.search(Query()).rows[0].metrics == {"f1": 0.25}
    assert ids(archive, where=(parse_condition("auc>0"),)) == []
    rewrite(archive, record, lambda data: data[:-1])
    assert (ids(archive), len(archive.unreadable)) == ([], 1)


def test_what_cannot_be_read_is_named_as_without_an_index(archive: Archive) -> None:
    bad, good, moved = seal(archive), seal(archive, 1), seal(archive, 2)
    rewrite(archive, bad, lambda _: b"{")
    archive.record_folder(moved).rename(archive.records_folder / "20260301T093000Z-run-000000")
    (archive.records_folder / "notes.txt").touch()
    (archive.records_folder / os.fsdecode(b"\xff\xfe")).mkdir()
    without = bare(archive)
    assert ids(archive) == [good] == [record.id for record in without.records()]
    expected = [sentence.encode("utf-8", "backslashreplace").decode() for sentence in without.unreadable]
    assert sorted(archive.unreadable) == sorted(expected)
    assert len(expected) == 4


def damage_nothing(_: Path) -> None:
    """The index as it is."""


def delete(path: Path) -> None:
    path.unlink()


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 64] = os.urandom(64)
    path.write_bytes(data)


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def age(path: Path) -> None:
    execute(path, "PRAGMA user_version = 999")


def drop_tables(path: Path) -> None:
    execute(path, "DROP TABLE scalars", "DROP TABLE entries")


def spoil_state(path: Path) -> None:
    execute(path, "UPDATE state SET value = 'x'")


def lose_releases(path: Path) -> None:
    execute(path, "DELETE FROM entries WHERE kind = 'release'")


def rename_releases(path: Path) -> None:
    execute(path, "UPDATE entries SET kind = 'start' WHERE kind = 'release'")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [damage_nothing, delete, overwrite, cut_short, empty, spoil_pages, age, drop_tables, spoil_state, make_folder]


@pytest.mark.parametrize("damage", [*DAMAGES, lose_releases, rename_releases])
def test_index_that_was_deleted_or_damaged_is_made_again_without_a_word(
    archive: Archive, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = seal(archive, metrics={"auc": 0.5}), seal(archive, 1, metrics={"auc": 0.75})
    cut = release(archive, 2)
    expected = ids(archive)
    del archive._index  # closes the file, so that all of it is in its place
    archive._index = None
    damage(index_of(archive))
    after = reopen(archive)
    assert [each.release for each in after.tell(*RELEASES)] == [cut]
    assert ids(after) == ids(reopen(archive)) == expected
    assert ids(after, sort="auc") == [second, first]
    newest = after.newest_of("train", "dev")
    assert newest is not None
    assert newest.id == second
    assert capfd.readouterr() == ("", "")


def test_ledger_that_went_back_or_is_another_is_read_anew(archive: Archive, tmp_path: Path) -> None:
    first = seal(archive)
    shutil.copytree(archive.folder, tmp_path / "copy")
    second = seal(archive, 1)
    assert ids(archive) == [second, first]
    shutil.rmtree(archive.folder)
    shutil.copytree(tmp_path / "copy", archive.folder)
    archive = reopen(archive)
    assert ids(archive) == [first]
    third = seal(archive, 2)  # the ledger is as long as before again, but of other entries
    assert ids(reopen(archive)) == [third, first]
    assert [entry.record for entry in archive.tell_of(second)] == []
    shutil.rmtree(archive.folder)
    other = open_archive(archive.folder, "another")
    fourth = seal(other)
    assert ids(Archive(other.folder, other.origin, index=index_of(archive))) == [fourth]


def test_where_nothing_can_be_written_the_index_is_in_memory(archive: Archive, tmp_path: Path) -> None:
    first = seal(archive)
    (tmp_path / "file").touch()
    without = Archive(archive.folder, archive.origin, index=tmp_path / "file/index.sqlite")
    assert ids(without) == ids(bare(archive)) == [first]
    newest = without.newest_of("train", "dev")
    assert newest is not None
    assert newest.id == without.find_id(first[:10]) == first


def test_full_disk_gives_the_same_answers(archive: Archive) -> None:
    expected = [seal(archive, hours) for hours in range(20)][::-1]
    assert ids(archive) == expected
    later = reopen(archive)
    assert ids(later) == expected
    with later._index._store.read() as connection:  # type: ignore[union-attr]
        connection.execute("PRAGMA max_page_count = 1")  # as a disk without room: it can grow no more
    expected = [
        *[seal(archive, hours, metrics={f"m{n}": n for n in range(500)}) for hours in range(99, 90, -1)],
        *expected,
    ]
    assert ids(later) == expected


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of more records than are read in one batch."""
    return make_archive_of(tmp_path_factory.mktemp("many") / "archive", 2_100)


class Interrupting:
    """A clock that does something when it is looked at for the third time: after the first batch of records."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._n, self._action = 0, action

    def __call__(self) -> float:
        self._n += 1
        if self._n == 3:
            self._action()
        return 0.0


def test_build_that_was_killed_goes_on_where_it_was(many: Path, tmp_path: Path) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    path = tmp_path / "index.sqlite"
    archive = Archive(many, ORIGIN, index=path)
    with pytest.raises(KeyboardInterrupt):
        RecordIndex(path, many, archive.read_record, clock=Interrupting(kill)).find(Query())
    assert (count(path, "seen >= 0"), count(path, "seen < 0")) == (2_000, 100)
    assert archive.search(Query(limit=1)).total == 2_100


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "DROP TABLE {}"])
def test_build_that_another_process_begins_anew_is_whole_all_the_same(
    many: Path, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "index.sqlite"

    def begin_anew() -> None:
        execute(
            path, *(statement.format(table) for table in ("state", "records", "entries", "scalars", "names", "folder"))
        )

    archive = Archive(many, ORIGIN)
    page = RecordIndex(path, many, archive.read_record, clock=Interrupting(begin_anew)).find(Query())
    assert [row.id for row in page.rows] == [record.id for record in archive.records()]


def count(path: Path, where: str) -> int:
    connection = sqlite3.connect(path)
    found: int = connection.execute(f"SELECT count(*) FROM records WHERE {where}").fetchone()[0]
    connection.close()
    return found


@pytest.mark.parametrize(("step_s", "sentences"), [(0.1, []), (2.0, ["reading the archive"])])
def test_reading_that_takes_longer_than_a_second_is_said_once(
    archive: Archive, step_s: float, sentences: list[str]
) -> None:
    for hours in range(30):
        seal(bare(archive), hours)
    said: list[str] = []
    ticks = iter(n * step_s for n in range(100))
    index = RecordIndex(None, archive.folder, archive.read_record, said.append, lambda: next(ticks))
    index.find(Query())
    index.find(Query())
    assert len(said) == len(sentences)
    assert all(part in text for part, text in zip(sentences, said, strict=True))


TOGETHER = """
import sys
from pathlib import Path
from kit.archive import Archive
from kit.index import Query
from kit.ledger import Kind
archive = Archive(Path(sys.argv[1]), sys.argv[2], index=Path(sys.argv[3]))
sys.stdin.read()
newest = archive.newest_of("train", "dev")
page = archive.search(Query(limit=1, sort="auc"))
print(newest.id, archive.search(Query()).total, page.rows[0].id, len(list(archive.tell(Kind.RELEASE))))
"""


def test_processes_that_build_it_at_once_all_answer_right(tmp_path: Path) -> None:
    folder = make_archive_of(tmp_path / "archive", 300, n_releases=3)
    command = [sys.executable, "-c", TOGETHER, str(folder), ORIGIN, str(tmp_path / ".kit/index.sqlite")]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for each in started:
        assert each.stdin
        each.stdin.close()
        each.stdin = None
    ended = [each.communicate() for each in started]
    without = Archive(folder, ORIGIN)
    best = max(without.records(), key=lambda record: float(record.metrics.get("auc", -1.0)))
    newest = without.newest_of("train", "dev")
    assert newest is not None
    assert set(ended) == {(f"{newest.id} 303 {best.id} 3\n", "")}


def test_threads_and_forked_processes_have_their_own_connection(archive: Archive) -> None:
    first = seal(archive)
    assert ids(archive) == [first]
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(ids(archive))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[first]] * 4
    pid = os.fork()
    if pid == 0:  # os._exit: nothing of the test runner may run twice
        os._exit(0 if ids(archive) == [first] and seal(archive, 1) in ids(archive) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(ids(archive)) == 2


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


def attempt(action: Callable[[], object]) -> object:
    try:
        return action()
    except (KitError, OSError) as error:
        return type(error), str(error)


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
    for index in (None, index_of(archive)):  # read for the first time after it was spoilt
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auc>=0.7", Condition("auc", ">=", 0.7)),
        (" units = 64 ", Condition("units", "=", 64)),
        ("units==64", Condition("units", "=", 64)),
        ("learning rate<1e-3", Condition("learning rate", "<", 0.001)),
        ("optimizer!=sgd", Condition("optimizer", "!=", "sgd")),
        ("code='007'", Condition("code", "=", "007")),
        ('text=""', Condition("text", "=", "")),
        ("good=true", Condition("good", "=", "true")),
        ("n>-5", Condition("n", ">", -5)),
        (f"n<{1 << 70}", Condition("n", "<", float(1 << 70))),
        ("name=a=b", Condition("name", "=", "a=b")),
        ("metric.auc<.5", Condition("metric.auc", "<", 0.5)),
    ],
)
def test_condition_is_read(text: str, expected: Condition) -> None:
    assert parse_condition(text) == expected


@pytest.mark.parametrize("text", ["", "auc", ">=0.7", "auc>=", "=", "auc >", "a\n"])
def test_text_that_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"auc>=0\.7"):
        parse_condition(text)


@pytest.fixture
def varied(archive: Archive) -> Archive:
    """Four trainings a, b, c, d."""
    for hours, (name, auc, units, text) in enumerate(
        [("a", 0.5, 16, "adam"), ("b", 0.9, 32, "sgd"), ("c", 0.7, 64, "64"), ("d", 0.7, 8, "adam")]
    ):
        facts = parameters(units=units, optimizer=text, flag=hours > 1, rest=[1])
        metrics: dict[str, object] = {"auc": auc, "n": hours} if name != "d" else {"auc": auc, "units": 1.5}
        seal(
            archive,
            hours,
            id=f"20260301T0{9 + hours % 1}{hours}000Z-train-{name * 6}",
            metrics=metrics,
            parameters=facts,
        )
    return archive


def names(archive: Archive, *conditions: str, **query: object) -> str:
    found = archive.search(Query(where=tuple(map(parse_condition, conditions)), **query))
    return "".join(row.id[-1] for row in found.rows)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("auc>=0.7",), "dcb"),
        (("auc=0.7",), "dc"),
        (("auc!=0.7",), "ba"),
        (("auc<0.9", "units>8"), "ca"),
        (("n<=1",), "ba"),
        (("n!=1",), "ca"),
        (("optimizer=adam",), "da"),
        (("optimizer!=adam",), "cb"),
        (("optimizer=64",), ""),
        (("optimizer!=64",), "dcba"),
        (("optimizer='64'",), "c"),
        (("optimizer>b",), "b"),
        (("flag=true",), "dc"),
        (("units<2",), "d"),
        (("parameter.units<10",), "d"),
        (("metric.units>1",), "d"),
        (("parameter.units=1.5",), ""),
        (("optimizer=' OR 1=1 --",), ""),
    ],
)
def test_conditions_choose_records(varied: Archive, conditions: tuple[str, ...], expected: str) -> None:
    assert names(varied, *conditions) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "dcba"),
        ({"reverse": True}, "abcd"),
        ({"sort": "auc"}, "bdca"),
        ({"sort": "auc", "reverse": True}, "adcb"),
        ({"sort": "n"}, "cba"),
        ({"sort": "optimizer", "reverse": True}, "cdab"),
        ({"sort": "parameter.units"}, "cbad"),
        ({"sort": "units"}, "d"),
        ({"sort": "stage"}, "dcba"),
        ({"sort": "seconds", "limit": 2}, "dc"),
        ({"limit": 2, "offset": 1}, "cb"),
        ({"offset": 9}, ""),
        ({"limit": 0}, ""),
        ({"since": START + timedelta(hours=1), "until": START + timedelta(hours=3)}, "cb"),
        ({"stage": "train", "environment": "dev", "status": "succeeded"}, "dcba"),
        ({"stage": "'; DROP TABLE records; --"}, ""),
        ({"environment": "\udcff"}, ""),
    ],
)
def test_order_and_pages(varied: Archive, query: dict[str, object], expected: str) -> None:
    assert names(varied, **query) == expected


def test_total_is_that_of_all_pages(varied: Archive) -> None:
    assert varied.search(Query(limit=1, where=(parse_condition("auc>=0.7"),))).total == 3
    assert varied.search(Query(limit=1, sort="n")).total == 3


def test_name_that_nothing_has_is_told_the_nearest(varied: Archive) -> None:
    for query in (Query(where=(parse_condition("acu>1"),)), Query(sort="acu")):
        with pytest.raises(UnknownNameError, match="did you mean 'auc'"):
            varied.search(query)


def test_many_answers_are_the_same_in_whatever_way_they_are_found(many: Path, tmp_path: Path) -> None:
    """More answers than `_FEW`, beyond which another plan is chosen."""
    archive = Archive(many, ORIGIN, index=tmp_path / "index.sqlite")
    records = list(archive.records())
    good = [each for each in records if each.metrics.get("n_rows", -1) >= 10]  # type: ignore[operator]
    assert len(good) > 500
    everything = Query(where=(parse_condition("n_rows>=10"),), limit=40)
    assert [row.id for row in archive.search(everything).rows] == [each.id for each in good[:40]]
    best = sorted(good, key=lambda each: each.metrics["auc"], reverse=True)
    by_value = msgspec.structs.replace(everything, sort="auc", offset=5)
    assert [row.id for row in archive.search(by_value).rows] == [each.id for each in best[5:45]]
    sweep = next(each.sweep for each in records if each.sweep)
    assert ids(archive, sweep=sweep) == [each.id for each in records if each.sweep == sweep]
