"""Throw-away databases: SQLite files below `.kit/` that hold what can be found out again.

Each machine has its own, because SQLite's write-ahead log needs memory that all readers share: two machines that open one file
in a network folder damage it (sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_S = 10.0
IN_MEMORY = ":memory:"
_ENDING = ".sqlite"
_BESIDE = ("", "-wal", "-shm", "-journal")  # a database and what SQLite keeps beside it
_MAX_AGE_S = 30 * 24 * 3600.0
_PAUSE_S = 0.005
_UNUSABLE = {  # a file that is whole but cannot be used now
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}


def database_path(folder: Path, name: str, host: str = "") -> Path:
    """Where this machine keeps a database in a folder: `index@host.sqlite`.

    Args:
        folder: such as `.kit/`.
        name: what it holds, a word.
        host: another machine's name.
    """
    return folder / f"{name}@{re.sub(r'[^A-Za-z0-9.-]', '-', host or _name_host())}{_ENDING}"


def _name_host() -> str:
    """As `platform.node()`, whose module takes 1 ms to import."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether an error says that a file is no such database; not if it only cannot be used now, or not by us."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNUSABLE


class ThrowAway:
    """A database that may be deleted, or damaged, at any time: then an empty one takes its place without a word.

    Where its folder cannot be written, or others do not let go of it, it is kept in memory, for this process only.

    Args:
        path: of the file, see `database_path`; its folder is made.
        schema: SQL that makes the tables.
        version: of the schema, > 0; a file of another version is replaced.
        patience_s: how long others may keep the file to themselves.
    """

    def __init__(self, path: Path, schema: str, version: int, patience_s: float = BUSY_S) -> None:
        self.path, self._schema, self._version, self._patience_s = path, schema, version, patience_s
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The database within one transaction, which is undone if the block raises.

        A database that is found damaged in the block raises there (`sqlite3.DatabaseError`) and is replaced for the next use.
        """
        connection = self._connection or self._open()
        try:
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
                self.discard()
            raise

    def discard(self) -> None:
        """Remove the file: what it held cannot be trusted."""
        self.close()
        _remove(self.path)

    def close(self) -> None:
        """Close the file; it is opened again by the next use."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        until, may_discard = time.monotonic() + self._patience_s, True
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = self._connect(str(self.path))
                return self._connection
            except OSError:
                break
            except sqlite3.DatabaseError as error:
                if is_damage(error) and may_discard:
                    self.discard()
                    may_discard = False
                elif not _is_busy(error) or time.monotonic() >= until:
                    break
                else:  # SQLite itself does not wait where a log is begun
                    time.sleep(_PAUSE_S)
        self._connection = self._connect(IN_MEMORY)
        return self._connection

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=self._patience_s)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            found = _read_version(connection)
            if found not in (0, self._version):
                raise sqlite3.DatabaseError(f"version {found}")
            if found == 0:
                self._make(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {self._schema}; PRAGMA user_version={self._version:d}; COMMIT")
        except sqlite3.OperationalError:
            connection.rollback()
            if _read_version(connection) != self._version:  # else another process was faster
                raise
        _remove_abandoned(self.path)


def _is_busy(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _read_version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def _remove(path: Path) -> None:
    for suffix in _BESIDE:
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def _remove_abandoned(path: Path) -> None:
    """Remove what other machines kept beside a database and have not written to for 30 days; looked for when one is made."""
    name, separator, _ = path.name.partition("@")
    if separator:
        with contextlib.suppress(OSError):
            for other in path.parent.glob(f"{name}@*{_ENDING}"):
                if other != path and time.time() - _changed_s(other) > _MAX_AGE_S:
                    _remove(other)


def _changed_s(path: Path) -> float:
    """When a database was last written to, since 1970: it is its log that changes."""
    found = [path.with_name(path.name + suffix) for suffix in ("", "-wal")]
    return max(each.stat().st_mtime for each in found if each.exists())
