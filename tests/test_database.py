"""Throw-away databases: each machine has its own, a damaged one is replaced, a busy one is left alone."""

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from kit.database import ThrowAway, database_path

SCHEMA = "CREATE TABLE facts (name TEXT PRIMARY KEY)"
DAY_S = 24 * 3600


def open_database(path: Path, version: int = 1) -> ThrowAway:
    return ThrowAway(path, SCHEMA, version, patience_s=0.0)


def put(database: ThrowAway, name: str) -> None:
    with database.use() as connection:
        connection.execute("INSERT INTO facts VALUES (?)", [name])


def names(database: ThrowAway) -> list[str]:
    with database.use() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM facts")]


def test_machines_have_files_of_their_own_in_one_folder(tmp_path: Path) -> None:
    paths = [database_path(tmp_path, "index", host) for host in ("", "gpu-1.example", "gpu/1 é")]
    assert paths[0] == tmp_path / f"index@{os.uname().nodename}.sqlite"
    assert [path.name for path in paths[1:]] == ["index@gpu-1.example.sqlite", "index@gpu-1--.sqlite"]


def test_what_other_machines_have_not_written_to_for_30_days_is_removed(tmp_path: Path) -> None:
    def leave(name: str, days: float, *endings: str) -> None:
        for ending in ("", *endings):
            path = database_path(tmp_path, name, "other").with_name(f"{name}@host-{days}.sqlite{ending}")
            path.touch()
            os.utime(path, (0, time.time() - days * DAY_S))

    leave("index", 31, "-wal", "-shm")
    leave("index", 29)
    leave("digests", 31)
    (tmp_path / "index.sqlite").touch()
    os.utime(tmp_path / "index.sqlite", (0, 0))
    written = tmp_path / "index@host-31.sqlite-wal"
    own = database_path(tmp_path, "index", "own")
    put(open_database(own), "a")
    kept = {"digests@host-31.sqlite", "index@host-29.sqlite", "index.sqlite", own.name}
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".sqlite"} == kept
    assert not written.exists()
    leave("index", 40)
    written = tmp_path / "index@host-40.sqlite-wal"
    written.touch()  # its log is new
    other = database_path(tmp_path, "index", "third")
    put(open_database(other), "a")
    assert (tmp_path / "index@host-40.sqlite").exists()


def test_busy_database_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(f"{SCHEMA}; PRAGMA user_version=1; INSERT INTO facts VALUES ('a')")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO facts VALUES ('b')")
        meanwhile = open_database(path)
        assert names(meanwhile) == []  # in memory
        put(meanwhile, "c")
        other.commit()
    assert names(open_database(path)) == ["a", "b"]


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "facts.sqlite"
    path.write_bytes(damage)
    put(open_database(path), "a")
    assert names(open_database(path)) == ["a"]


def test_file_of_another_version_or_without_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"
    put(open_database(path), "a")
    assert names(open_database(path, version=2)) == []
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version=0")
    assert names(open_database(path, version=2)) == []


def test_those_who_make_it_at_once_share_it(tmp_path: Path) -> None:
    for number in range(20):
        path, barrier = tmp_path / f"{number}.sqlite", threading.Barrier(4)

        def make(name: str, path: Path = path, barrier: threading.Barrier = barrier) -> None:
            database = ThrowAway(path, SCHEMA, 1)
            barrier.wait()
            put(database, name)
            database.close()

        threads = [threading.Thread(target=make, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(names(open_database(path))) == ["a", "b", "c", "d"]


def test_where_nothing_can_be_written_it_is_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database = open_database(tmp_path / "file" / "facts.sqlite")
    put(database, "a")
    assert names(database) == ["a"]
