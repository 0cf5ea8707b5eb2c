"""Records in an archive's folder, and the archive as a whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kit.archive.ledgered import LedgeredArchive
from kit.archive.marker import make_marker, read_origin
from kit.archive.names import OPEN, STARTED, STATEMENT
from kit.archive.opened import OpenRecord
from kit.errors import IntegrityError, NotFoundError, UnknownSubjectError, UsageError
from kit.files import create_together, read_regular, remove_tree, sha256_bytes, sync_folder
from kit.ledger import Entry, Kind
from kit.provenance import is_alive
from kit.record import Record, Status, decode_record
from kit.signing import SigningKey
from kit.statement import origin_of

if TYPE_CHECKING:
    from kit.index import Page, Query, RecordIndex


class Archive(LedgeredArchive):
    """The whole archive, with its records. Many may write at once; nobody locks.

    Args:
        folder: where it lies.
        origin: of its ledger.
        key: to sign with.
        memory: see `LedgeredArchive`.
        index: file of the index, see `kit.index`, or an index of this archive; without one the archive itself is looked
            through.

    Attributes:
        index: who says where to look; None for nobody.
        unreadable: what the last listing of records had to leave out, and why.
    """

    def __init__(
        self,
        folder: Path,
        origin: str = "",
        key: SigningKey | None = None,
        memory: Path | None = None,
        index: Path | RecordIndex | None = None,
    ) -> None:
        super().__init__(folder, origin, key, memory)
        self.unreadable: list[str] = []
        self.index = _open_index(self, index) if isinstance(index, Path) else index

    def _hints(self) -> RecordIndex | None:
        return self.index if self.index and self.index.is_kept else None

    def open_record(self, started: Record, files: dict[str, bytes]) -> OpenRecord:
        """Announce an execution in the ledger and open its record, before its kernel starts.

        Args:
            started: what is known of it.
            files: those of its files that are known already.
        """
        folder = self.records_folder / f"{started.id}{OPEN}"
        making = self.records_folder / f".{started.id}.tmp"  # no one reads it before it is whole
        if (self.records_folder / started.id).exists():
            raise FileExistsError(f"there is a record {started.id} already")
        making.mkdir(parents=True)
        known = {**files, STARTED: started.encode()}
        try:
            if taken := create_together(making, known):
                raise FileExistsError(
                    f"record {started.id}: {', '.join(taken)} is the name of two files, or of a folder"
                )
            self.enter(Kind.START, started, sha256_bytes(started.encode()), started.started)
            os.rename(making, folder)  # noqa: PTH104 - fails on a non-empty target
        except BaseException:
            remove_tree(making)
            raise
        sync_folder(self.records_folder)
        return OpenRecord(self, folder, started, {name: sha256_bytes(data) for name, data in known.items()})

    def list_ids(self) -> list[str]:
        """Ids of all records, open ones too, oldest first; those of one second in no order."""
        if not self.records_folder.is_dir():
            return []
        names = (path.name for path in self.records_folder.iterdir())
        return sorted({name.removesuffix(OPEN) for name in names if not name.startswith(".")})

    def has_record(self, record_id: str) -> bool:
        """True if there is a record of exactly that id, open ones too: if `list_ids` has it."""
        is_id = record_id[:1] not in ("", ".") and "/" not in record_id and not record_id.endswith(OPEN)
        return is_id and any(os.path.lexists(self.records_folder / f"{record_id}{end}") for end in ("", OPEN))

    def read_record(self, record_id: str) -> Record:
        """A record; one that was never closed reads `started` while its process lives, then `lost`.

        Raises:
            NotFoundError: there is none of that id.
            IntegrityError: it cannot be read.
        """
        closed = self.records_folder / record_id
        opened = self.records_folder / f"{record_id}{OPEN}"
        where = f"record {record_id}"
        # In this order, and the first again at the end: a record may be sealed and renamed between two looks.
        for path in (closed / "record.json", opened / "started.json", opened / "record.json", closed / "record.json"):
            if not path.is_file():
                continue
            try:
                record = decode_record(read_regular(path), where)
            except FileNotFoundError:
                continue
            if record.id != record_id:
                raise IntegrityError(f"{where}: its record.json is that of {record.id}")
            if path.parent == closed:
                return record
            # Not sealed, so no end holds yet, whatever its files say already.
            if self._finish(record_id):
                return self.read_record(record_id)
            alive = is_alive(record.process, record.machine.host)
            return msgspec.structs.replace(record, status=Status.STARTED if alive else Status.LOST)
        raise NotFoundError(f"{where} is not in {self.folder}, or has no record.json")

    def _finish(self, record_id: str) -> bool:
        """Give a record its final name if its end is in the ledger: its process died, or is just about to do so."""
        opened = self.records_folder / f"{record_id}{OPEN}"
        with contextlib.suppress(OSError):
            sha256 = sha256_bytes(read_regular(opened / STATEMENT))
            if any(entry.kind is Kind.END and entry.sha256 == sha256 for entry in self.tell_of(record_id)):
                os.rename(opened, self.records_folder / record_id)  # noqa: PTH104 - fails on a non-empty target
        return (self.records_folder / record_id).is_dir()

    def is_imported(self, record: Record) -> bool:
        """True for a record that was executed for another archive, or whose statement does not say for which."""
        statement = self.read_envelope(record.id).read_statement(f"record {record.id}, {STATEMENT}")
        return origin_of(statement) != self.origin

    def records(self) -> Iterator[Record]:
        """All readable records, newest first; what cannot be read is named in `unreadable`."""
        self.unreadable.clear()
        for record_id in reversed(self.list_ids()):
            try:
                yield self.read_record(record_id)
            except (IntegrityError, NotFoundError) as error:
                self.unreadable.append(str(error))

    def search(self, query: Query) -> Page:
        """Records by the facts that the index has of them; those that cannot be read are named in `unreadable`.

        Raises:
            UnknownNameError: the query names a metric or parameter that no record has.
        """
        self.index = self.index or _open_index(self)
        page = self.index.find(query)
        self.unreadable.clear()
        for record_id in page.unread:
            try:
                self.read_record(record_id)  # to say why not, as it is now
            except (IntegrityError, NotFoundError) as error:
                self.unreadable.append(str(error))
        return page

    def count(self, query: Query) -> int:
        """How many records `search` finds on all pages.

        Raises:
            UnknownNameError: the query names a metric or parameter that no record has.
        """
        self.index = self.index or _open_index(self)
        return self.index.count(query)

    def find_record(self, name: str) -> Record:
        """The record with that id, or with that unique beginning or end of it.

        Raises:
            UnknownSubjectError: none.
            UsageError: several; names them.
        """
        return self.read_record(self.find_id(name))

    def find_id(self, name: str, ids: Sequence[str] | None = None) -> str:
        """Id of the record that a unique beginning or end names; see `find_record`.

        Args:
            name: what a person wrote.
            ids: among these; None for the records that are there.
        """
        hints = self._hints()
        if ids is None:
            ids = (hints.list_named(name) if hints and name else None) or self.list_ids()
        found = [each for each in ids if each == name] or [e for e in ids if e.startswith(name) or e.endswith(name)]
        if not found or not name:
            raise UnknownSubjectError(f"no record is named {name!r}; `kit records` lists them")
        if len(found) > 1:
            raise UsageError(f"{name!r} names {len(found)} records: {', '.join(found[:5])}…; write more of the id")
        return found[0]

    def newest(self, accept: Callable[[Record], bool], stage: str = "") -> Record | None:
        """The record that ended last and is accepted; one that cannot be read is named in `unreadable`.

        Last by the ledger's order, because the clocks of several machines differ, and a record that no entry tells of was
        not made by kit. Never one that only did another again: it is proof, not a result.

        Args:
            accept: what is looked for.
            stage: only a succeeded one of this stage, also an imported one; the others are not even read.
        """
        if not stage:
            return self._choose(self.ledger.read_back(), accept)
        return self._choose_ended(stage, "", "", accept)

    def _choose(self, entries: Iterator[Entry], accept: Callable[[Record], bool]) -> Record | None:
        """The first accepted record whose end or import an entry tells of."""
        self.unreadable.clear()
        for entry in entries:
            if entry.kind not in (Kind.END, Kind.IMPORT):
                continue
            try:
                record = self.read_record(entry.record)
            except (IntegrityError, NotFoundError) as error:
                if str(error) not in self.unreadable:  # several entries may tell of one record
                    self.unreadable.append(str(error))
                continue
            if record.reproduces is None and accept(record):
                return record
        return None

    def newest_of(self, stage: str, environment: str, key: str = "") -> Record | None:
        """The succeeded record of a stage in an environment that ended last; see `newest`. Never an imported one.

        A point of a sweep is a trial: it is given for its key only, and has to be named to be read or released.

        Args:
            stage: its name.
            environment: its name.
            key: only one of this key; empty for any.
        """

        def accept(record: Record) -> bool:
            is_chosen = record.key == key if key else not record.sweep
            return record.environment == environment and is_chosen and not self.is_imported(record)

        return self._choose_ended(stage, environment, key, accept)

    def _choose_ended(self, stage: str, environment: str, key: str, accept: Callable[[Record], bool]) -> Record | None:
        """The newest accepted one of the succeeded records of a stage; `environment`, `key`: only of these, empty for any."""
        hints = self._hints()
        entries = self._tell_ends(hints, stage, environment, key) if hints else self.ledger.read_back()
        return self._choose(entries, lambda record: record.stage == stage and record.succeeded and accept(record))

    def _tell_ends(self, hints: RecordIndex, stage: str, environment: str, key: str) -> Iterator[Entry]:
        """Entries that may be on the end of a succeeded record of a stage, newest first; all where there are no hints."""
        state, size = hints.catch_up(), self.ledger.size()
        before = min(state.covered, size) + 1
        yield from map(self.ledger.read, range(size, before - 1, -1))
        found: list[int] | None = None
        while state.covered <= size and (found := hints.ends(stage, environment, key, state, before)):
            yield from map(self.ledger.read, found)
            before = found[-1]
        if found is None:
            yield from map(self.ledger.read, range(before - 1, 0, -1))


def _open_index(archive: Archive, path: Path | None = None) -> RecordIndex:
    """The index of an archive in a file, or in memory."""
    from kit.index import RecordIndex

    return RecordIndex(path, archive.folder, archive.read_record)


def open_archive(
    folder: Path, name: str, key: SigningKey | None = None, memory: Path | None = None, index: Path | None = None
) -> Archive:
    """The archive in a folder, made if there is none; see `Archive`.

    Raises:
        IntegrityError: the folder holds an archive of another format, or other things.
    """
    make_marker(folder, name)
    return Archive(folder, read_origin(folder), key, memory, index)
