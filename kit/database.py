"""Throw-away databases: SQLite files below `.kit/` that hold what can be found out again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

BUSY_S = 10.0
IN_MEMORY = ":memory:"


class ThrowAway:
    """A database that may be deleted, or damaged, at any time: then an empty one takes its place without a word.

    Where its folder cannot be written it is kept in memory, for this process only.

    Args:
        path: of the file; its folder is made.
        schema: SQL that makes the tables.
        version: of the schema, > 0; a file of another version is replaced.
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self.path, self._schema, self._version = path, schema, version
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
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink()

    def close(self) -> None:
        """Close the file; it is opened again by the next use."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            with contextlib.suppress(OSError, sqlite3.DatabaseError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = self._connect(str(self.path))
                return self._connection
            self.discard()
        self._connection = self._connect(IN_MEMORY)
        return self._connection

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=BUSY_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, self._version):
                raise sqlite3.DatabaseError(f"version {found}")
            if found == 0:
                with connection:
                    connection.executescript(self._schema)
                    connection.execute(f"PRAGMA user_version={self._version:d}")
        except BaseException:
            connection.close()
            raise
        return connection
