"""The ledger: an append-only list of everything that happened in an archive, each entry naming the one before by digest.

`ledger/000000001.json` and on, canonical JSON, one file an entry. Entries are written ahead of what they announce: a
`start` before its kernel, an `end` before its record takes its final name. Many may append at once and nobody locks: an
entry takes its number by `link(2)`, which only one of them can do; the others read the new head and try again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from kit.errors import IntegrityError, NewerFormatError
from kit.files import canonical_json, create_exclusive, sha256_bytes
from kit.merkle import Frontier, hash_leaf

FORMAT = 1
NO_ENTRY = ""  # `prev` of the first


class Kind(enum.StrEnum):
    """What happened."""

    START = "start"  # an execution was announced: `sha256` is that of its started.json
    END = "end"  # its record was sealed: of its statement.dsse.json
    RELEASE = "release"  # a gate admitted a release: of verdict.dsse.json in the record that cut it
    IMPORT = "import"  # a record came from another archive: of its statement.dsse.json
    REPRODUCTION = "reproduction"  # an execution was compared with the one it did again: of an object, a statement


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that happened.

    Attributes:
        seq: from 1, no gaps; also the file's name.
        prev: SHA-256 of the previous entry's bytes; empty for the first.
        kind: what happened.
        record: id of the record that it happened to.
        sha256: digest of what states it, see `Kind`.
        time: of the machine that appended.
        who: user and host.
        release: id of a release; empty for other kinds.
        checkpoint: size of the newest checkpoint that the archive held then; 0 if there was none.
    """

    format: int = FORMAT
    seq: int
    prev: str
    kind: Kind
    record: str
    sha256: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    who: str
    release: str = ""
    checkpoint: int = 0

    def encode(self) -> bytes:
        """Canonical JSON, the entry's exact bytes."""
        return canonical_json(msgspec.to_builtins(self, builtin_types=(datetime,)))


class Ledger:
    """The folders `ledger/` and `checkpoints/` of an archive."""

    def __init__(self, archive: Path) -> None:
        self.folder = archive / "ledger"
        self.checkpoints = archive / "checkpoints"
        self._known = 0  # entries that were seen; there are at least so many

    def path(self, seq: int) -> Path:
        """Where an entry lies, there or not."""
        return self.folder / f"{seq:09d}.json"

    def size(self) -> int:
        """How many entries there are: found by doubling and halving, because a listing of all would be slow."""
        low, step = self._known, 1
        while self.path(low + step).exists():
            low, step = low + step, step * 2
        while step > 1:
            step //= 2
            if self.path(low + step).exists():
                low += step
        self._known = low
        return low

    def append(self, kind: Kind, record: str, sha256: str, who: str, time: datetime, environment: str = "") -> Entry:
        """Add an entry at the end; durable on return.

        Args:
            kind: what happened.
            record: id of the record that it happened to.
            sha256: digest of what states it.
            who: user and host.
            time: now.
            environment: for a release: where to; the ledger gives it the next number there.

        Raises:
            IntegrityError: the last entry, or for a release an earlier one, cannot be read.
        """
        while True:
            seq = self.size()
            last = self.read(seq) if seq else None
            entry = Entry(
                seq=seq + 1,
                prev=sha256_bytes(self.path(seq).read_bytes()) if seq else NO_ENTRY,
                kind=kind,
                record=record,
                sha256=sha256,
                time=time,
                who=who,
                release=f"{environment}-{self._next_number(environment)}" if kind is Kind.RELEASE else "",
                checkpoint=self._newest_checkpoint(last),
            )
            if create_exclusive(self.path(entry.seq), entry.encode()):
                self._known = entry.seq
                return entry

    def read(self, seq: int) -> Entry:
        """One entry.

        Raises:
            IntegrityError: it cannot be read.
        """
        return decode_entry(self.path(seq).read_bytes(), f"ledger/{seq:09d}.json")

    def read_entries(self) -> Iterator[Entry]:
        """All entries, oldest first."""
        return map(self.read, range(1, self.size() + 1))

    def read_back(self) -> Iterator[Entry]:
        """All entries, newest first."""
        return map(self.read, range(self.size(), 0, -1))

    def extend(self, frontier: Frontier, until: int | None = None) -> Frontier:
        """Add the entries that a frontier does not have yet, up to a size or to the end."""
        for seq in range(frontier.size + 1, (self.size() if until is None else until) + 1):
            frontier.append(hash_leaf(self.path(seq).read_bytes()))
        return frontier

    def _newest_checkpoint(self, last: Entry | None) -> int:
        """So that a checkpoint cannot be removed unnoticed once something was appended after it."""
        if last is None:
            return 0
        return last.seq if (self.checkpoints / str(last.seq)).exists() else last.checkpoint

    def _next_number(self, environment: str) -> int:
        numbers = (release_number(entry, environment) for entry in self.read_back())
        return next((number for number in numbers if number), 0) + 1


def release_number(entry: Entry, environment: str) -> int:
    """Number of the release that an entry tells of, if it is one into that environment; else 0."""
    name, _, number = entry.release.rpartition("-")
    return int(number) if entry.kind is Kind.RELEASE and name == environment and number.isdigit() else 0


def decode_entry(data: bytes, where: str) -> Entry:
    """Read an entry.

    Raises:
        IntegrityError: it is none of a format that this kit reads, or not in canonical form.
    """
    try:
        declared = msgspec.json.decode(data)
        if isinstance(declared, dict) and isinstance(declared.get("format"), int) and declared["format"] > FORMAT:
            raise NewerFormatError(
                f"{where}: entry format {declared['format']} is newer than this kit reads; update kit"
            )
        entry = msgspec.convert(declared, Entry)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{where}: not a readable entry: {error}") from error
    if entry.encode() != data:
        raise IntegrityError(f"{where}: the entry is not in canonical form")
    return entry
