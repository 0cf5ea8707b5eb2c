"""The ledger in the index: which entries there are of a kind, or about a record. Hints: whoever asks reads the entry itself."""

from __future__ import annotations

import functools
import os
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Sequence

import msgspec

from kit.errors import IntegrityError
from kit.files import format_time, sha256_bytes
from kit.index.reading import Patience, read_file
from kit.index.store import State, Store, clear, load_state, save_state
from kit.ledger import Entry, Kind, Ledger, decode_entry

DECISIVE = frozenset({Kind.RELEASE, Kind.REPRODUCTION, Kind.ROLLBACK, Kind.WAIVER})
UNREADABLE = ""
_BATCH = 5_000
_NAMES = sorted(Entry.__struct_fields__)
_NO_RECORD = 0
_OF_RECORD = "SELECT seq FROM entries WHERE record = (SELECT n FROM records WHERE id = ?)"


class Told(msgspec.Struct, frozen=True):
    """Where to look in the ledger: hints, whoever decides something reads the entries.

    Attributes:
        covered: how many entries were taken in; those after them must be looked at, too.
        seqs: numbers of entries, newest first; those that could not be read are among them.
    """

    covered: int
    seqs: tuple[int, ...]


class _Noted(msgspec.Struct, frozen=True):
    seq: int
    kind: str
    record: str = ""
    release: str = ""


class Entries:
    """Follows a ledger.

    Args:
        store: where the index is.
        ledger: that it follows.
        patience: looks up after each batch.
    """

    def __init__(self, store: Store, ledger: Ledger, patience: Patience) -> None:
        self._store, self._ledger, self._patience = store, ledger, patience
        self._folder = str(ledger.folder)  # a path object for each of 100,000 entries takes a second

    def follow(self) -> State:
        """Take in what was appended; begin anew if the ledger is no continuation of what was taken in.

        An entry that is there and cannot be opened is not taken in, nor what comes after it.
        """
        while True:
            with self._store.read() as connection:
                state = load_state(connection)
            begun = (
                State(secrets.token_hex(8), self._marker()) if state is None or not self._continues(state) else state
            )
            noted, head = self._read_from(begun.covered + 1)
            if begun is state and not noted:
                return state
            after = self._take_in(state, begun, noted, head)
            self._patience.look()
            if after and len(noted) < _BATCH:
                return after

    def is_current(self, state: State) -> bool:
        """Whether nothing was appended, and the ledger is a continuation of what was taken in."""
        return not os.path.lexists(self._path(state.covered + 1)) and self._continues(state)

    def told(self, kinds: Collection[Kind]) -> Told:
        """Entries of some decisive kinds.

        Raises:
            sqlite3.DatabaseError: the rows are not those that were put in.
        """
        with self._store.read() as connection:
            state, rows = load_state(connection), _read_decisive(connection)
        chain = ""
        for row in rows:
            chain = _extend(chain, row)
        if chain != (state.chain if state else ""):
            raise sqlite3.DatabaseError("entries that decide something are missing or others")
        seqs = [seq for seq, kind, *_ in reversed(rows) if kind == UNREADABLE or kind in kinds]
        return Told(state.covered if state else 0, tuple(seqs))

    def told_of(self, records: Iterable[str]) -> Told:
        """Entries about some records."""
        with self._store.read() as connection:
            state, seqs = load_state(connection), set[int]()
            for record in records:
                seqs.update(row[0] for row in connection.execute(_OF_RECORD, [record]))
            return Told(state.covered if state else 0, tuple(sorted(seqs, reverse=True)))

    def _continues(self, state: State) -> bool:
        if state.marker != self._marker():
            return False
        try:
            return state.covered == 0 or sha256_bytes(read_file(self._path(state.covered))[0]) == state.head
        except FileNotFoundError:
            return False
        except OSError:
            return True  # whoever needs it will read it and say why not

    def _path(self, seq: int) -> str:
        return f"{self._folder}/{seq:09d}.json"

    def _marker(self) -> str:
        try:
            return self._ledger.beginning()
        except OSError:
            return ""

    def _read_from(self, first: int) -> tuple[list[_Noted], str]:
        """The next entries, and the digest of the last of them."""
        noted, data = list[_Noted](), b""
        for seq in range(first, first + _BATCH):
            try:
                data, _ = read_file(self._path(seq))
            except OSError:
                break
            noted.append(_note(seq, data))
        return noted, sha256_bytes(data) if noted else ""

    def _take_in(self, before: State | None, begun: State, noted: Sequence[_Noted], head: str) -> State | None:
        """Keep entries; None if another process was faster."""
        with self._store.write() as connection:
            if load_state(connection) != before:
                return None
            if begun is not before:
                clear(connection)
            _name_records(connection, noted)
            _put_entries(connection, noted)
            chain = begun.chain
            for row in _read_decisive(connection, after=begun.covered):
                chain = _extend(chain, row)
            after = msgspec.structs.replace(begun, chain=chain)
            if noted:
                after = msgspec.structs.replace(after, covered=noted[-1].seq, head=head)
            save_state(connection, after)
            return after


def _note(seq: int, data: bytes) -> _Noted:
    """An entry, if `decode_entry` can read it; what it does for safety is done in a fifth of the time for most."""
    try:
        entry = _decoder().decode(data)
        if entry.kind in DECISIVE or not entry.record or _encode(entry) != data:
            entry = decode_entry(data, "")
        return _Noted(seq, entry.kind.value, entry.record, entry.release)
    except (IntegrityError, msgspec.MsgspecError, ValueError, RecursionError):
        return _Noted(seq, UNREADABLE)


@functools.cache
def _decoder() -> msgspec.json.Decoder[Entry]:
    """Made when the first entry is read: it takes 6 ms, and mostly nothing is new."""
    return msgspec.json.Decoder(Entry)


def _encode(entry: Entry) -> bytes:
    """As `Entry.encode`, for texts without anything to escape."""
    facts = {name: getattr(entry, name) for name in _NAMES}
    return msgspec.json.encode(facts | {"time": format_time(entry.time)})


def _read_decisive(connection: sqlite3.Connection, after: int = 0) -> list[tuple[int, str, str, str]]:
    rows = connection.execute(
        "SELECT seq, kind, coalesce(records.id, ''), entries.release FROM entries LEFT JOIN records ON n = record "
        "WHERE kind NOT IN ('start', 'end', 'import') AND seq > ? ORDER BY seq",
        [after],
    )
    return rows.fetchall()


def _extend(chain: str, row: tuple[int, str, str, str]) -> str:
    """The digest over one row more: a row that is lost or changed by a damaged disk is noticed."""
    return sha256_bytes(f"{chain} {row!r}".encode("utf-8", "surrogatepass"))


def _name_records(connection: sqlite3.Connection, noted: Sequence[_Noted]) -> None:
    """Rows of the records that entries are about, and how far the ledger tells of each."""
    told: dict[str, list[int]] = {}
    for each in noted:
        if each.record:
            facts = told.setdefault(each.record, [0, 0, 0])
            facts[0] = each.seq
            if each.kind in (Kind.END, Kind.IMPORT):
                facts[1] = each.seq
                facts[2] = each.kind == Kind.IMPORT
    connection.executemany(
        "INSERT INTO records (id, backwards, told, ended, imported) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "listed = 0, told = excluded.told, ended = max(ended, excluded.ended), imported = max(imported, excluded.imported)",
        [(record, record[::-1], *facts) for record, facts in told.items()],
    )


def _put_entries(connection: sqlite3.Connection, noted: Sequence[_Noted]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO entries VALUES (coalesce((SELECT n FROM records WHERE id = ?), ?), ?, ?, ?)",
        [(each.record, _NO_RECORD, each.seq, each.kind, each.release) for each in noted],
    )
