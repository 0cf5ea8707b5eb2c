"""The index: what it answers is what the archive says, whatever happened to either; deleted, it is there again."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from archives import ORIGIN, make_archive_of
from indexed import RELEASES, bare, ids, index_of, parameters, release, reopen, rewrite, seal

from kit.archive import OPEN, Archive, open_archive
from kit.errors import KitError
from kit.index import Query, RecordIndex, parse_condition
from kit.record import Failure, Process, Status, Usage
from kit.testing import make_record, seal_record


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test", index=tmp_path / ".kit/index.sqlite")


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
    del archive.index  # closes the file, so that all of it is in its place
    archive.index = None
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
    with later.index._store.read() as connection:  # type: ignore[union-attr]
        connection.execute("PRAGMA max_page_count = 1")  # as a disk without room: it can grow no more
    expected = [
        *[seal(archive, hours, metrics={f"m{n}": n for n in range(500)}) for hours in range(99, 90, -1)],
        *expected,
    ]
    assert ids(later) == expected


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
    assert archive.count(Query(limit=1)) == 2_100


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "DROP TABLE {}"])
def test_build_that_another_process_begins_anew_is_whole_all_the_same(
    many: Path, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "index.sqlite"

    def begin_anew() -> None:
        execute(
            path,
            *(
                statement.format(table)
                for table in ("state", "records", "entries", "shown", "scalars", "names", "folder")
            ),
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
print(newest.id, archive.count(Query()), page.rows[0].id, len(list(archive.tell(Kind.RELEASE))))
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
