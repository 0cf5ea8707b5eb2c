"""Records in the index: which there are, which must be read again, and what was read."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import KitError
from kit.index.condition import scalar_of
from kit.index.reading import Patience, read_file
from kit.index.store import State, Store, bindable, load_state, save_state
from kit.index.values import COLUMNS, FileStat, columns_of, encode_row
from kit.record import FORMAT, Record

OPEN = ".open"  # behind the id of a record that is being written
SEALED, ANNOUNCED = "record.json", "started.json"
_BATCH = 2_000
_N_TEXTS = 50  # of names, then they are made one
_STARTED = COLUMNS.index("started")
# A folder that was changed less long ago may be changed again at the same tick of its clock.
_SETTLED_NS = 2_000_000_000


class Read(msgspec.Struct, frozen=True):
    """What reading a record gave.

    Attributes:
        n: number of its row.
        told: newest entry of the ledger that named it before it was read.
        columns: values of `COLUMNS`; empty if it could not be read.
        row: for lists.
        scalars: (kind, name, value) of its metrics and parameters.
        stat: of the file that it was read from.
        problem: why it could not be read.
    """

    n: int
    told: int
    columns: tuple[Any, ...] = ()
    row: bytes = b""
    scalars: tuple[tuple[str, str, int | float | str], ...] = ()
    stat: FileStat | None = None
    problem: str = ""


class Records:
    """Follows the folder of records.

    Args:
        store: where the index is.
        folder: `records/` of the archive.
        read: reads a record that is not simply sealed, or says why it cannot be read.
        patience: looks up after each batch.
    """

    def __init__(self, store: Store, folder: Path, read: Callable[[str], Record], patience: Patience) -> None:
        self._store, self._folder, self._read, self._patience = store, folder, read, patience

    def list_names(self) -> None:
        """Take in names that came or went, if the folder was changed since it was listed."""
        with self._store.read() as connection:
            state = load_state(connection)
        changed_ns = self._changed_ns()
        if state is None or state.listed_ns == changed_ns != 0:
            return
        begun_ns = time.time_ns()
        there = self._list_folder()
        with self._store.write() as connection:
            state = load_state(connection)
            if state is not None:
                _put_names(connection, there)
                settled = changed_ns if changed_ns < begun_ns - _SETTLED_NS else 0
                save_state(connection, msgspec.structs.replace(state, listed_ns=settled))

    def _changed_ns(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _list_folder(self) -> set[str]:
        try:
            return set(os.listdir(self._folder))  # noqa: PTH208 - three times as quick for 100,000 names
        except OSError:
            return set()

    def is_current(self, connection: sqlite3.Connection, state: State) -> bool:
        """Whether the folder has the names that it had, and nothing must be read again; costs two questions."""
        return state.listed_ns == self._changed_ns() != 0 and not connection.execute(_IS_PENDING).fetchone()

    def read_pending(self, limit: int | None = None) -> bool:
        """Read what was never read, was told of since, had not ended, or could not be read; newest first, in batches.

        Args:
            limit: leave the rest, if there is more of it.

        Returns:
            False if everything was begun anew meanwhile by another process.
        """
        with self._store.read() as connection:
            state = load_state(connection)
            rows = connection.execute(_PENDING, [-1 if limit is None else limit]).fetchall()
        for batch in _batches(rows):
            found = [self._look_at(*row) for row in batch]
            if state is None or not self._keep(state, found):
                return False
            self._patience.look()
        return True

    def _look_at(self, n: int, record_id: str, told: int) -> Read:
        try:
            record, stat = self._read_sealed(record_id) or (self._read(record_id), self._stat_of(record_id))
        except (KitError, OSError) as error:
            return Read(n, told, problem=str(error) or type(error).__name__)
        return Read(n, told, columns_of(record), encode_row(record), tuple(_scalars(record)), stat)

    def _read_sealed(self, record_id: str) -> tuple[Record, FileStat] | None:
        """A record that is simply there, as most are; None for all others."""
        file = f"{record_id}/{SEALED}"
        try:
            data, facts = read_file(f"{self._folder}/{file}")
            record = _decoder().decode(data)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return (record, _describe(file, facts)) if (record.id, record.format) == (record_id, FORMAT) else None

    def _stat_of(self, record_id: str) -> FileStat | None:
        for file in (f"{record_id}/{SEALED}", f"{record_id}{OPEN}/{ANNOUNCED}", f"{record_id}{OPEN}/{SEALED}"):
            try:
                return _describe(file, (self._folder / file).stat())
            except OSError:
                continue
        return None

    def _keep(self, state: State, found: Sequence[Read]) -> bool:
        """Keep what was read; False if the index was begun anew since."""
        with self._store.write() as connection:
            now = load_state(connection)
            if now is None or now.generation != state.generation:
                return False
            _put_records(connection, found)
            _put_scalars(connection, found)
            return True

    def doubt(self, files: Sequence[tuple[str, FileStat | None]]) -> bool:
        """Have those records read again whose file is not as it was when it was read; True if there is one.

        Args:
            files: id of a record, and what its file was like.
        """
        changed = [record_id for record_id, stat in files if stat is None or not self._is_same(stat)]
        if changed:
            with self._store.write() as connection:
                connection.executemany(
                    "UPDATE records SET seen = -1, listed = 0 WHERE id = ?", [(each,) for each in changed]
                )
        return bool(changed)

    def _is_same(self, known: FileStat) -> bool:
        try:
            return _describe(known.file, os.lstat(f"{self._folder}/{known.file}")) == known
        except OSError:
            return False


@functools.cache
def _decoder() -> msgspec.json.Decoder[Record]:
    """Made when the first record is read: it takes 5 ms, and mostly nothing is new."""
    return msgspec.json.Decoder(Record)


def _batches(rows: Sequence[tuple[int, str, int]]) -> Iterator[Sequence[tuple[int, str, int]]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _describe(file: str, stat: os.stat_result) -> FileStat:
    return FileStat(file, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


_CAME = """
INSERT INTO records (id, backwards, present) VALUES (?, ?, 1)
ON CONFLICT (id) DO UPDATE SET present = 1, seen = -1, listed = 0
"""
_PENDING = """
SELECT n, id, told FROM records INDEXED BY pending
WHERE seen < told OR (present = 1 AND (problem <> '' OR status = 'started'))
ORDER BY id DESC LIMIT ?
"""
_IS_PENDING = """
SELECT 1 FROM records INDEXED BY pending
WHERE seen < told OR (present = 1 AND (problem <> '' OR status = 'started')) LIMIT 1
"""
_READ = f"UPDATE records SET seen = ?, listed = 1, present = 1, problem = '', shown = ?, file = ?, mtime_ns = ?, ctime_ns = ?, size = ?, inode = ?, {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE n = ?"  # noqa: E501
_FAILED = "UPDATE records SET seen = ?, listed = 0, problem = ?, status = NULL WHERE n = ?"


def _put_names(connection: sqlite3.Connection, there: set[str]) -> None:
    """Take in what came and went; texts and sets of names, because rows of 100,000 would take twice as long."""
    kept = connection.execute("SELECT names FROM folder ORDER BY number").fetchall()
    known = [name for row in kept for name in os.fsdecode(row[0]).split("/")]
    came = there.difference(known)
    is_less = len(known) + len(came) > len(there)
    gone = {name for name in known if name not in there} if is_less else set()
    connection.executemany(_CAME, [(each, each[::-1]) for each in _ids(came)])
    connection.executemany(
        "UPDATE records SET present = 0, seen = -1, listed = 0 WHERE id = ?",
        [(each,) for each in _ids(gone) - _ids(came)],
    )
    if gone or len(kept) > _N_TEXTS:
        connection.execute("DELETE FROM folder")
        came = there
    if came:
        connection.execute("INSERT INTO folder (names) VALUES (?)", [os.fsencode("/".join(came))])


def _ids(names: set[str]) -> set[str]:
    return {bindable(name.removesuffix(OPEN)) for name in names if name[:1] != "."}


def _put_records(connection: sqlite3.Connection, found: Sequence[Read]) -> None:
    good = [(each.stat, each) for each in found if each.stat]
    connection.executemany(
        "DELETE FROM shown WHERE number = (SELECT shown FROM records WHERE n = ?)", [(each.n,) for _, each in good]
    )
    end: int = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM shown").fetchone()[0]
    connection.executemany("INSERT INTO shown VALUES (?, ?)", [(end + k, each.row) for k, (_, each) in enumerate(good)])
    connection.executemany(
        _READ,
        [
            (each.told, end + k, *msgspec.structs.astuple(stat), *each.columns, each.n)
            for k, (stat, each) in enumerate(good)
        ],
    )
    connection.executemany(_FAILED, [(each.told, each.problem, each.n) for each in found if each.problem])


def _put_scalars(connection: sqlite3.Connection, found: Sequence[Read]) -> None:
    known = {(kind, name): number for number, kind, name in connection.execute("SELECT number, kind, name FROM names")}
    for kind, name in {(kind, name) for each in found for kind, name, _ in each.scalars} - known.keys():
        known[kind, name] = connection.execute("INSERT INTO names (kind, name) VALUES (?, ?)", [kind, name]).lastrowid
    connection.executemany("DELETE FROM scalars WHERE record = ?", [(each.n,) for each in found])
    rows = [
        (each.n, known[kind, name], value, each.columns[_STARTED])
        for each in found
        if each.stat
        for kind, name, value in each.scalars
    ]
    connection.executemany("INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?)", rows)


def _scalars(record: Record) -> Iterator[tuple[str, str, int | float | str]]:
    for name, value in record.metrics.items():
        if (scalar := scalar_of(value)) is not None:
            yield "metric", name, scalar
    for each in record.parameters:
        if (scalar := scalar_of(each.value)) is not None:
            yield "parameter", each.name, scalar
