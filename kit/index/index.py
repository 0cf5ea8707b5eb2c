"""The index of an archive's records: a cache that finds out by itself what is new, and can be deleted whenever one likes."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from kit.index.entries import DECISIVE, Entries, Told
from kit.index.reading import Patience
from kit.index.records import Records
from kit.index.search import count_rows, find_rows
from kit.index.store import State, Store, bindable, load_state
from kit.index.values import Page, Query
from kit.ledger import Kind, Ledger
from kit.record import Record

N_AT_ONCE = 2_000  # records that are read before an answer which needs few of them
_N_ROUNDS = 20  # as long as others change something at the same time

_T = TypeVar("_T")


class RecordIndex:
    """What an archive holds, by the facts that people ask for.

    It follows the ledger, whose entries are numbered and chained, so that only new ones are read; names that no entry tells
    of are found when the folder's time of change is another. It rests on nothing but the archive: whoever decides something
    takes its answers for hints where to look.

    Args:
        path: of the SQLite file; None for memory. Where it cannot be written the index is in memory, too, for this process only.
        folder: of the archive.
        read: reads a record that is not simply sealed, see `Archive.read_record`.
        notify: is told if reading takes longer than a second; stderr by default.
    """

    def __init__(
        self,
        path: Path | None,
        folder: Path,
        read: Callable[[str], Record],
        notify: Callable[[str], None] = lambda text: print(text, file=sys.stderr),  # noqa: T201
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = Store(path)
        self._patience = Patience(notify, clock)
        self._entries = Entries(self._store, Ledger(folder), self._patience)
        self._records = Records(self._store, folder / "records", read, self._patience)

    @property
    def is_kept(self) -> bool:
        """False if it is in memory: then it pays to look at the archive itself, where that is quick."""
        return self._attempt(lambda: self._store.is_kept)

    def _attempt(self, action: Callable[[], _T]) -> _T:
        self._patience.begin()
        return self._store.attempt(action)

    def refresh(self) -> None:
        """Take in everything that is new: entries, names, and what the records say."""
        self._attempt(self._refresh)

    def _refresh(self) -> State:
        while True:
            with self._store.read() as connection:
                state = load_state(connection)
                if state and self._records.is_current(connection, state) and self._entries.is_current(state):
                    return state
            state = self._entries.follow()
            self._records.list_names()
            if self._records.read_pending():
                return state

    def find(self, query: Query) -> Page:
        """Records as they are now: whatever is on the page was compared with its file, and read again if that is another.

        Raises:
            UnknownNameError: the query names a metric or parameter that no record has.
        """
        return self._attempt(lambda: self._find(query))

    def _find(self, query: Query) -> Page:
        for _ in range(_N_ROUNDS):
            with self._look() as connection:
                found, has_more = find_rows(connection, query)
                unread = connection.execute(_UNREAD).fetchall()
            if not self._records.doubt([(row.id, stat) for row, stat in found]):
                break
        return Page(tuple(row for row, _ in found), has_more, tuple(row[0] for row in unread))

    def count(self, query: Query) -> int:
        """How many records a query finds on all pages, by what the index knows of them: their files are not looked at.

        Raises:
            UnknownNameError: the query names a metric or parameter that no record has.
        """

        def look() -> int:
            with self._look() as connection:
                return count_rows(connection, query)

        return self._attempt(look)

    @contextlib.contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        """The database with all that there is, or what is there while others keep changing it."""
        for n_left in reversed(range(_N_ROUNDS)):
            state = self._refresh()
            with self._store.read() as connection:
                is_whole = _is_of(connection, state) and not connection.execute(_UNKNOWN).fetchone()
                if is_whole or not n_left:
                    yield connection
                    return

    def list_named(self, name: str) -> list[str] | None:
        """Ids that begin or end with a text, sorted; one that is exactly the text stands alone. None if that is not known now."""
        return self._attempt(lambda: self._list_named(bindable(name)))

    def _list_named(self, name: str) -> list[str] | None:
        state = self._entries.follow()
        self._records.list_names()
        backwards = name[::-1]
        with self._store.read() as connection:
            if not _is_of(connection, state):
                return None
            rows = connection.execute(_NAMED, [name, f"{name}{_LAST}", backwards, f"{backwards}{_LAST}"]).fetchall()
        found = [row[0] for row in rows]
        return [name] if name in found else found

    def told(self, kinds: Collection[Kind]) -> Told | None:
        """Entries of some kinds; None if these are kinds that half of all entries have."""
        if not DECISIVE.issuperset(kinds):
            return None
        return self._attempt(lambda: (self._entries.follow(), self._entries.told(kinds))[1])

    def told_of(self, records: Iterable[str]) -> Told:
        """Entries about some records, of all kinds."""
        names = [bindable(each) for each in records]
        return self._attempt(lambda: (self._entries.follow(), self._entries.told_of(names))[1])

    def catch_up(self) -> State:
        """Take in new entries, and what the newest records say that are not known; gives how far that is."""
        return self._attempt(self._catch_up)

    def _catch_up(self) -> State:
        state = self._entries.follow()
        self._records.read_pending(N_AT_ONCE)
        return state

    def ends(self, stage: str, environment: str, key: str, state: State, before: int) -> list[int] | None:
        """Numbers of some entries that tell of the end of a record that may be a succeeded one of a stage; newest first.

        May be: those of records that are not known, and entries that cannot be read, are among them. None if everything was
        begun anew meanwhile, so that not all would be found.

        Args:
            stage: its name.
            environment: its name; empty for any.
            key: only of this key; empty for any.
            state: what `catch_up` gave.
            before: only entries with a smaller number; the last of one answer gives the next.
        """
        source = _ENDS.format(
            environment="AND environment = :environment" if environment else "",
            key="AND key = :key AND key <> ''" if key else "",
        )
        texts = {"stage": stage, "environment": environment, "key": key}
        bound = {name: bindable(text) for name, text in texts.items()} | {"before": before}

        def look() -> list[int] | None:
            with self._store.read() as connection:
                if not _is_of(connection, state):
                    return None
                return [row[0] for row in connection.execute(source, bound)]

        return self._attempt(look)


def _is_of(connection: sqlite3.Connection, state: State) -> bool:
    """Whether nobody began everything anew since a state."""
    now = load_state(connection)
    return now is not None and now.generation == state.generation


_LAST = "\U0010ffff"  # after every other character
_UNKNOWN = """
SELECT 1 FROM records INDEXED BY pending
WHERE (seen < told OR (present = 1 AND (problem <> '' OR status = 'started'))) AND seen < told LIMIT 1
"""
_UNREAD = """
SELECT id FROM records INDEXED BY pending
WHERE (seen < told OR (present = 1 AND (problem <> '' OR status = 'started'))) AND problem <> '' AND present = 1
ORDER BY id DESC
"""
_NAMED = """
SELECT id FROM records WHERE id >= ? AND id < ? AND present = 1
UNION SELECT id FROM records WHERE backwards >= ? AND backwards < ? AND present = 1
ORDER BY id
"""
_ENDS = """
SELECT seq FROM (
    SELECT * FROM (
        SELECT ended AS seq FROM records
        WHERE listed = 1 AND stage = :stage {environment} AND status = 'succeeded' {key}
        AND ended > 0 AND ended < :before AND reproduces IS NULL ORDER BY ended DESC LIMIT 20
    )
    UNION ALL SELECT * FROM (
        SELECT ended FROM records WHERE listed = 0 AND ended > 0 AND ended < :before ORDER BY ended DESC LIMIT 20
    )
    UNION ALL SELECT * FROM (
        SELECT seq FROM entries
        WHERE kind = '' AND kind NOT IN ('start', 'end', 'import') AND seq < :before ORDER BY seq DESC LIMIT 20
    )
) ORDER BY seq DESC LIMIT 20
"""
