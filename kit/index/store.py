"""The index's database: one connection for each thread and process, and what is done when it cannot be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from kit.database import IN_MEMORY, ThrowAway, is_damage
from kit.index.schema import SCHEMA, TABLES, VERSION

_T = TypeVar("_T")
_ABANDONED: list[ThrowAway] = []  # of the process that this one was forked from: closing them would be felt there


class State(msgspec.Struct, frozen=True):
    """How far the index has come.

    Attributes:
        generation: changes whenever everything is begun anew.
        marker: digest of archive.json.
        covered: entries of the ledger that were taken in.
        head: digest of the last of them.
        chain: digest over all that decide something, see `kit.index.entries`.
        listed_ns: time of the folder's last change when its names were listed; 0 for not known.
    """

    generation: str
    marker: str
    covered: int = 0
    head: str = ""
    chain: str = ""
    listed_ns: int = 0


class Store:
    """The database of an index.

    Args:
        path: of the file; None for memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._own = threading.local()

    @property
    def is_kept(self) -> bool:
        """False if it is in memory, so that what is put into it is of use to this process only."""
        with self.read() as connection:
            return any(row[2] for row in connection.execute("PRAGMA database_list"))

    def attempt(self, action: Callable[[], _T]) -> _T:
        """Do something with the database; if that is damaged once more with an empty one, then in memory."""
        for may_repair in (True, False):
            try:
                return action()
            except sqlite3.DatabaseError as error:
                if may_repair and is_damage(error):
                    self._database().discard()
                else:
                    self._path = None
        return action()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The database as it is at one moment."""
        with self._database().use() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The database, for this process alone until the block ends."""
        with self._database().use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _database(self) -> ThrowAway:
        wanted = (os.getpid(), self._path)
        if getattr(self._own, "made_for", None) != wanted:
            before = getattr(self._own, "database", None)
            if before is not None:
                _ABANDONED.append(before)
            self._own.database = ThrowAway(self._path or Path(IN_MEMORY), SCHEMA, VERSION)
            self._own.made_for = wanted
            weakref.finalize(self, _close, self._own.database, os.getpid())
        database: ThrowAway = self._own.database
        return database


def _close(database: ThrowAway, pid: int) -> None:
    """Close a database that nobody can use any more; only where it was opened."""
    if pid == os.getpid():
        with contextlib.suppress(sqlite3.ProgrammingError):  # of another thread
            database.close()


def bindable(text: str) -> str:
    """A text as the database can have it: what is no Unicode in a name that a person or a disk gave is written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def load_state(connection: sqlite3.Connection) -> State | None:
    """What was kept; None in a new database.

    Raises:
        sqlite3.DatabaseError: the database is damaged.
    """
    found = connection.execute("SELECT value FROM state").fetchone()
    try:
        return msgspec.json.decode(found[0], type=State) if found else None
    except (msgspec.MsgspecError, TypeError) as error:
        raise sqlite3.DatabaseError(f"state: {error}") from error


def save_state(connection: sqlite3.Connection, state: State) -> None:
    """Keep it."""
    connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", [msgspec.json.encode(state).decode()])


def clear(connection: sqlite3.Connection) -> None:
    """Begin anew."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")
