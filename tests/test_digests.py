import contextlib
import mmap
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import kit.verify
from kit.digests import PRUNE_EVERY, SETTLED_NS, Digests, Stamp, stamp_of
from kit.files import sha256_bytes

A, B = sha256_bytes(b"a"), sha256_bytes(b"b")
PLANTED = "f" * 64
linux = pytest.mark.skipif(sys.platform != "linux", reason="leases and multigrain times are Linux'")


def much_later():
    """A clock by which every file here is old."""
    return (1 << 63) - 1


def write(path, data):
    path.write_bytes(data)
    return path


def write_until_moved(path, data):
    """Write in place until the file system's clock has ticked, as a later write would find it."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_bytes(data)


def plant(digests, path):
    """Have a file known by a digest that is not its own: who gives that has not read it."""
    with digests.notes(path) as notes, path.open("rb") as file:
        notes.add("", PLANTED, notes.watch(file.fileno()))


@pytest.fixture
def digests(tmp_path):
    return Digests(tmp_path / ".kit" / "digests.sqlite", much_later)


def test_unchanged_file_is_not_read_again(digests, tmp_path):
    path = write(tmp_path / "größe", b"a")
    assert digests.sha256(path) == A
    plant(digests, path)
    assert (digests.sha256(path), digests.sha256_many(tmp_path, ["größe"])) == (PLANTED, {"größe": A})


@pytest.mark.parametrize(
    ("age_ns", "is_kept"), [(SETTLED_NS + 1, True), (SETTLED_NS, False), (0, False), (-1_000_000_000, False)]
)
def test_file_is_known_only_if_its_times_lie_clearly_before_the_look(tmp_path, age_ns, is_kept):
    path = write(tmp_path / "file", b"a")
    digests = Digests(tmp_path / "digests.sqlite", lambda: path.stat().st_ctime_ns + age_ns)
    plant(digests, path)
    assert digests.sha256(path) == (PLANTED if is_kept else A)


def test_file_dated_into_the_future_is_read_each_time(tmp_path):
    path = write(tmp_path / "file", b"a")
    digests = Digests(tmp_path / "digests.sqlite", lambda: path.stat().st_ctime_ns + SETTLED_NS + 1)
    os.utime(path, (1 << 32, 1 << 32))
    plant(digests, path)
    assert digests.sha256(path) == A


def test_file_rewritten_as_fast_as_can_be_is_always_told_right(tmp_path):
    digests, path = Digests(tmp_path / "digests.sqlite"), tmp_path / "file"
    for number in range(300):
        data = b"%03d" % number
        assert digests.sha256(write(path, data)) == sha256_bytes(data)


def test_content_changed_under_a_restored_mtime_is_seen(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    assert digests.sha256(path) == A
    before = path.stat()
    write_until_moved(path, b"b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, digests.sha256(path)) == (before.st_mtime_ns, B)


def test_file_replaced_by_a_rename_with_its_size_and_mtime_is_seen(digests, tmp_path):
    path, other = write(tmp_path / "file", b"a"), write(tmp_path / "other", b"b")
    assert digests.sha256(path) == A
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)
    assert digests.sha256(path) == B


def test_file_written_through_another_name_of_it_is_seen(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    (tmp_path / "link").hardlink_to(path)
    assert (digests.sha256(path), digests.sha256(tmp_path / "link")) == (A, A)
    write_until_moved(tmp_path / "link", b"b")
    assert (digests.sha256(path), digests.sha256(tmp_path / "link")) == (B, B)


@linux
def test_file_that_someone_has_open_for_writing_is_read_each_time(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    with path.open("r+b"):
        plant(digests, path)
        assert digests.sha256(path) == A
    plant(digests, path)
    assert digests.sha256(path) == PLANTED


@linux
def test_memory_shared_with_a_file_is_seen_although_it_moves_no_time(digests, tmp_path):
    path = write(tmp_path / "file", b"a" * mmap.PAGESIZE)
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    memory[0] = ord("x")  # the only write that moves the file's times
    before, first = stamp_of(path.stat()), digests.sha256(path)
    memory[0] = ord("y")
    assert (stamp_of(path.stat()), digests.sha256(path) != first) == (before, True)
    memory.close()


def test_file_that_grows_while_it_is_read_is_not_known(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    with digests.notes(path) as notes, path.open("rb") as file:
        watch = notes.watch(file.fileno())
        path.write_bytes(b"ab")
        notes.add("", PLANTED, watch)
    assert digests.sha256(path) == sha256_bytes(b"ab")


def test_many_files_are_kept_in_one_row(digests, tmp_path):
    names = [f"{number}/{letter}" for number in range(20) for letter in "ab"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "data" / name, name[-1:].encode())
    expected = {name: {"a": A, "b": B}[name[-1]] for name in names}
    assert digests.sha256_many(tmp_path / "data", names) == expected == digests.sha256_many(tmp_path / "data", names)
    with contextlib.closing(sqlite3.connect(tmp_path / ".kit" / "digests.sqlite")) as database:
        assert database.execute("SELECT subject FROM digests").fetchall() == [(str(tmp_path / "data"),)]


def test_names_that_nobody_asks_for_any_more_are_dropped_once_they_are_most(digests, tmp_path):
    for number in range(10):
        write(tmp_path / f"old{number}", b"a")
    digests.sha256_many(tmp_path, [f"old{number}" for number in range(10)])
    digests.sha256_many(tmp_path, ["old0", write(tmp_path / "new", b"b").name])
    with digests.notes(tmp_path) as notes:
        recalled = [name for name in ("old0", "old1", "new") if notes.recall(name, stamp_of((tmp_path / name).stat()))]
    assert recalled == ["old0", "new"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nothing"])
def test_what_is_no_regular_file_has_no_digest(digests, tmp_path, kind):
    path = tmp_path / kind
    if kind == "link":
        path.symlink_to(write(tmp_path / "file", b"a"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=kind):
        digests.sha256(path)


def test_name_that_is_no_unicode_is_hashed_and_not_kept(digests, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert digests.sha256(write(path, b"a")) == A == digests.sha256(path)
    assert digests.sha256_many(tmp_path, [path.name]) == {path.name: A}


def test_deleted_database_is_made_again(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    digests.sha256(path)
    (tmp_path / ".kit" / "digests.sqlite").unlink()
    assert digests.sha256(path) == A
    plant(digests, path)
    assert digests.sha256(path) == PLANTED


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_database_that_is_none_is_replaced(digests, tmp_path, damage):
    path = write(tmp_path / "file", b"a")
    (tmp_path / ".kit").mkdir()
    (tmp_path / ".kit" / "digests.sqlite").write_bytes(damage)
    assert digests.sha256(path) == A
    plant(digests, path)
    assert digests.sha256(path) == PLANTED


def test_changed_byte_of_the_database_never_gives_another_digest(digests, tmp_path):
    path, file = write(tmp_path / "file", b"a"), tmp_path / ".kit" / "digests.sqlite"
    digests.sha256(path)
    kept = file.read_bytes()
    (start,) = (match.start() for match in re.finditer(A.encode(), kept))
    for place in [*range(0, 100, 7), *range(start - 120, start + 64, 5)]:
        file.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        assert digests.sha256(path) == A


def test_row_of_another_file_is_not_believed(digests, tmp_path):
    path, other = write(tmp_path / "file", b"a"), write(tmp_path / "other", b"b")
    digests.sha256(path), digests.sha256(other)
    with contextlib.closing(sqlite3.connect(tmp_path / ".kit" / "digests.sqlite")) as database, database:
        database.execute("UPDATE digests SET content = 7 WHERE subject = ?", (str(path),))
        database.execute("DELETE FROM digests WHERE subject = ?", (str(other),))
        database.execute("INSERT INTO digests (subject, content) VALUES (?, ?)", (str(other), b"\0" * 100))
    assert (digests.sha256(path), digests.sha256(other)) == (A, B)


def test_folder_that_cannot_be_written_costs_only_time(tmp_path):
    path = write(tmp_path / "file", b"a")
    digests = Digests(path / "below a file" / "digests.sqlite", much_later)
    assert digests.sha256(path) == A == digests.sha256(path)


def test_writer_that_never_ends_holds_nobody_up(digests, tmp_path):
    path = write(tmp_path / "file", b"a")
    digests.sha256(path)
    with contextlib.closing(sqlite3.connect(tmp_path / ".kit" / "digests.sqlite")) as database:
        database.execute("BEGIN IMMEDIATE")
        assert digests.sha256(path) == A
        assert digests.sha256(write(tmp_path / "other", b"b")) == B


CHILD = """
import resource, sys
from pathlib import Path
from kit.digests import Digests
if sys.argv[1] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
folder = Path(sys.argv[2])
digests = Digests(folder / "new" / "digests.sqlite", lambda: 1 << 62)
names = sorted(path.name for path in folder.glob("file*"))
for _ in range(20):
    assert set(digests.sha256_many(folder, names).values()) == {sys.argv[3]}
    assert {digests.sha256(folder / name) for name in names} == {sys.argv[3]}
"""


def start_child(*arguments):
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stderr=subprocess.PIPE)


def test_many_processes_that_begin_at_once_all_tell_right(tmp_path):
    for number in range(5):
        write(tmp_path / f"file{number}", b"a")
    children = [start_child("", tmp_path, A) for _ in range(3)]
    assert [child.communicate()[1] for child in children] == [b""] * 3


def test_full_disk_costs_only_time(tmp_path):
    write(tmp_path / "file", b"a")
    assert start_child("full", tmp_path, A).communicate()[1] == b""


def test_files_that_are_gone_are_forgotten_in_the_end(digests, tmp_path):
    gone, path = write(tmp_path / "gone", b"a"), write(tmp_path / "file", b"a")
    digests.sha256(gone)
    gone.unlink()
    for _ in range(PRUNE_EVERY):
        plant(digests, path)
    with contextlib.closing(sqlite3.connect(tmp_path / ".kit" / "digests.sqlite")) as database:
        assert database.execute("SELECT subject FROM digests").fetchall() == [(str(path),)]


def test_verifying_knows_nothing_of_what_was_hashed_before():
    sources = list(Path(kit.verify.__file__).parent.rglob("*.py"))
    users = [
        path.name
        for path in sources
        if re.search(r"kit\.digests|\bDigests\b.*import|workbench\.digests", path.read_text())
    ]
    assert (users, len(sources) > 5) == ([], True)


def test_stamp_is_all_that_a_change_can_move(tmp_path):
    status = write(tmp_path / "file", b"abc").stat()
    assert stamp_of(status) == Stamp(status.st_dev, status.st_ino, 3, status.st_mtime_ns, status.st_ctime_ns)
