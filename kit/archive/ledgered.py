"""The archive as far as the ledger tells of it: what is stated and entered, releases, what is live."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kit.archive.continuity import recall
from kit.archive.names import OPEN, RELEASE_FILE, STATEMENT, VERDICT
from kit.archive.objects import Objects
from kit.errors import IntegrityError, NotFoundError
from kit.files import read_regular, sha256_bytes
from kit.gate import Manifest, Release, decode_manifest
from kit.ledger import Entry, Kind, Ledger, environment_of, release_number
from kit.record import Record
from kit.signing import Envelope, SigningKey, decode_envelope, make_envelope
from kit.statement import Statement, subjects_of

if TYPE_CHECKING:
    from kit.index import RecordIndex, Told


class LedgeredArchive:
    """A folder with `records/`, `objects/`, `ledger/` and `checkpoints/`: its ledger, what it states, and its releases.

    Attributes:
        origin: names the archive's ledger among all others.
        key: signs what is stated; None leaves it unsigned.
        memory: file that remembers what was seen of the ledger; None for none. Nothing is appended to a ledger that
            is no continuation of it.
    """

    def __init__(
        self, folder: Path, origin: str = "", key: SigningKey | None = None, memory: Path | None = None
    ) -> None:
        self.folder, self.origin, self.key, self.memory = folder, origin, key, memory
        self.records_folder = folder / "records"
        self.objects = Objects(folder / "objects")
        self.ledger = Ledger(folder)
        self._is_continued = False

    def state(self, statement: Statement) -> Envelope:
        """A statement in an envelope, signed if this archive is opened with a key."""
        return make_envelope(statement, self.key)

    def enter(
        self,
        kind: Kind,
        record: Record,
        sha256: str,
        time: datetime,
        environment: str = "",
        admit: Callable[[], None] = lambda: None,
    ) -> Entry:
        """Tell the ledger what happened to a record, in the name of who executed it.

        Raises:
            IntegrityError: the ledger is not a continuation of what this project saw of it; nothing was appended.
        """
        self._require_continued()
        who = f"{record.machine.user}@{record.machine.host}"
        return self.ledger.append(
            kind, record.id, sha256, who, time, environment, admit=admit, releases=self._list_numbered
        )

    def _list_numbered(self) -> list[Entry]:
        """Entries that tell of a release, oldest first."""
        return list(self.tell(Kind.RELEASE))[::-1]

    def enter_decision(
        self,
        kind: Kind,
        statement: Statement,
        who: str,
        time: datetime,
        *,
        record: str = "",
        release: str = "",
        admit: Callable[[], None] = lambda: None,
    ) -> Entry:
        """Keep what a person decided, signed if there is a key, and tell the ledger of it.

        Args:
            kind: a rollback or a waiver.
            statement: of the decision.
            who: user and host.
            time: now.
            record: of a rollback: the one that cut the release which becomes live.
            release: of a rollback: that release.
            admit: raises to refuse, see `Ledger.append`.

        Raises:
            IntegrityError: the ledger is not a continuation of what this project saw of it; nothing was appended.
        """
        self._require_continued()
        sha256 = self.objects.put_bytes(self.state(statement).encode())
        return self.ledger.append(kind, record, sha256, who, time, release=release, admit=admit)

    def _require_continued(self) -> None:
        if self.memory and not self._is_continued:
            recall(self, self.memory)
            self._is_continued = True

    def tell(self, *kinds: Kind) -> Iterator[Entry]:
        """The ledger's entries of some kinds, newest first.

        Raises:
            IntegrityError: one that may be of these kinds cannot be read.
        """
        hints = self._hints()
        told = hints.told(kinds) if hints else None
        return (entry for entry in self._read_told(told) if entry.kind in kinds)

    def tell_of(self, *record_ids: str) -> Iterator[Entry]:
        """The ledger's entries about some records, newest first; see `tell`."""
        hints = self._hints()
        told = hints.told_of(record_ids) if hints else None
        return (entry for entry in self._read_told(told) if entry.record in record_ids)

    def _hints(self) -> RecordIndex | None:
        """Who says where in the ledger to look; None for nobody, then all of it is read."""
        return None

    def _read_told(self, told: Told | None) -> Iterator[Entry]:
        """Entries that may have been asked for, newest first; all where there is no hint, or it is of a longer ledger."""
        size = self.ledger.size()
        if told is None or told.covered > size:
            return self.ledger.read_back()
        return map(self.ledger.read, (*range(size, told.covered, -1), *told.seqs))

    def record_folder(self, record_id: str) -> Path:
        """Where a record's files lie, closed or still open."""
        closed = self.records_folder / record_id
        return closed if closed.is_dir() else self.records_folder / f"{record_id}{OPEN}"

    def read_envelope(self, record_id: str, name: str = STATEMENT) -> Envelope:
        """What was stated about a record; it may be unsigned.

        Raises:
            NotFoundError: it has no such file.
            IntegrityError: it cannot be read.
        """
        return decode_envelope(self._read_stated(record_id, name), f"record {record_id}, {name}")

    def _read_stated(self, record_id: str, name: str) -> bytes:
        path = self.record_folder(record_id) / name
        if not path.is_file():
            raise NotFoundError(f"record {record_id} has no {name}")
        return read_regular(path)

    def add_release(
        self, environment: str, record: Record, time: datetime, admit: Callable[[], None] = lambda: None
    ) -> Release:
        """Number the release that a succeeded record cut; two at once get two numbers, unless `admit` refuses one.

        Raises:
            NotFoundError: the record has no verdict.
            IntegrityError: its manifest is not in the archive.
        """
        envelope = self.read_envelope(record.id, VERDICT)
        manifest_sha256 = subjects_of(envelope.read_statement(f"record {record.id}, {VERDICT}")).get(RELEASE_FILE, "")
        if not manifest_sha256 or not self.objects.has(manifest_sha256):
            raise IntegrityError(
                f"{RELEASE_FILE} {manifest_sha256[:12]}… of {record.id} is not in the archive's objects"
            )
        sha256 = sha256_bytes(envelope.encode())
        return self._release_of(self.enter(Kind.RELEASE, record, sha256, time, environment, admit))

    def list_releases(self, environment: str | None = None) -> list[Release]:
        """Releases of one environment or of all, oldest first.

        Raises:
            IntegrityError: one cannot be read.
        """
        entries = self.tell(Kind.RELEASE)
        found = [
            self._release_of(entry) for entry in entries if environment is None or release_number(entry, environment)
        ]
        return sorted(found, key=lambda release: (release.environment, release.number))

    def live_release(self, environment: str) -> Release | None:
        """What the ledger makes live in an environment: its newest release, or the one that was rolled back to since.

        Who may have said so is not judged here, see `kit.release.find_live`.

        Raises:
            IntegrityError: it cannot be read, or it was rolled back to what was never released.
        """
        entries = self.tell(Kind.RELEASE, Kind.ROLLBACK)
        entry = next((entry for entry in entries if environment_of(entry) == environment), None)
        return self.release_of(entry) if entry else None

    def find_release(self, release_id: str) -> Release | None:
        """The release of exactly that id, if there is one; an entry that gives its number to another is none."""
        if not re.fullmatch(r".+-[1-9][0-9]*", release_id):
            return None
        entries = [entry for entry in self.tell(Kind.RELEASE) if entry.release == release_id]
        return self._release_of(entries[-1]) if entries else None

    def release_of(self, entry: Entry) -> Release:
        """The release that an entry made live, by cutting it or by rolling back to it.

        Raises:
            IntegrityError: there is no such release, or it cannot be read.
        """
        release = self._release_of(entry) if entry.kind is Kind.RELEASE else self.find_release(entry.release)
        if release is None or release.record != entry.record:
            raise IntegrityError(
                f"ledger entry {entry.seq} makes {entry.release} of record {entry.record} live, which was never released"
            )
        return release

    def _release_of(self, entry: Entry) -> Release:
        data = self._read_stated(entry.record, VERDICT)
        envelope, where = (
            decode_envelope(data, f"record {entry.record}, {VERDICT}"),
            f"release {entry.release}, {VERDICT}",
        )
        manifest_sha256 = subjects_of(envelope.read_statement(where)).get(RELEASE_FILE, "")
        if sha256_bytes(data) != entry.sha256 or not manifest_sha256:
            raise IntegrityError(f"{where}: it is not the one that the ledger names (entry {entry.seq})")
        environment, _, number = entry.release.rpartition("-")
        return Release(
            id=entry.release,
            environment=environment,
            number=int(number),
            time=entry.time,
            who=entry.who,
            record=entry.record,
            manifest_sha256=manifest_sha256,
        )

    def read_manifest(self, release: Release) -> Manifest:
        """A release's manifest, verified against its digest."""
        return decode_manifest(self.objects.read(release.manifest_sha256), f"release {release.id}")
