"""The ledger: an append-only list of everything that happened in an archive, each entry naming the one before by digest.

`ledger/000000001.json` and on, canonical JSON, one file an entry. Entries are written ahead of what they announce: a
`start` before its kernel, an `end` before its record takes its final name. Many may append at once and nobody locks: an
entry takes its number by `link(2)`, which only one of them can do; the others read the new head and try again, after a
pause at random, as each attempt in vain costs the disk a write.
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from time import sleep
from typing import Annotated

import msgspec

from kit.errors import IntegrityError, NewerFormatError
from kit.files import canonical_json, create_exclusive, read_regular, sha256_bytes
from kit.merkle import Frontier, hash_leaf

FORMAT = 1
NO_ENTRY = ""  # `prev` of the first where there is no archive.json
_RELEASE = re.compile(r"(.+)-([1-9][0-9]{0,8})")
_FOLDER = r"\A([^./\\\x00-\x1f][^/\\\x00-\x1f]*)?\Z"  # a name that leads nowhere else; none in a waiver's entry


class Kind(enum.StrEnum):
    """What happened."""

    START = "start"  # an execution was announced: `sha256` is that of its started.json
    END = "end"  # its record was sealed: of its statement.dsse.json
    RELEASE = "release"  # a gate admitted a release: of verdict.dsse.json in the record that cut it
    IMPORT = "import"  # a record came from another archive: of its statement.dsse.json
    REPRODUCTION = "reproduction"  # an execution was compared with the one it did again: of an object, a statement
    ROLLBACK = "rollback"  # an earlier release became the live one again: of an object, a statement
    WAIVER = "waiver"  # a gate may let something pass for a while, or no longer: of an object, a statement


def _admit() -> None:
    """Admits whatever the head of the ledger is."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that happened.

    Attributes:
        seq: from 1, no gaps; also the file's name.
        prev: SHA-256 of the previous entry's bytes; for the first that of archive.json, or empty where there is none.
        kind: what happened.
        record: id of the record that it happened to; of a rollback the one that cut the release which is live again; empty
            for a waiver.
        sha256: digest of what states it, see `Kind`.
        time: of the machine that appended.
        who: user and host.
        release: id of a release that was cut or became live again; empty for other kinds.
        checkpoint: size of the newest checkpoint that the archive held then; 0 if there was none.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=FORMAT)] = FORMAT
    seq: Annotated[int, msgspec.Meta(ge=1)]
    prev: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    kind: Kind
    record: Annotated[str, msgspec.Meta(pattern=_FOLDER)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    who: str
    release: Annotated[str, msgspec.Meta(pattern=rf"\A({_RELEASE.pattern})?\Z")] = ""
    checkpoint: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0

    def encode(self) -> bytes:
        """Canonical JSON, the entry's exact bytes."""
        return canonical_json(msgspec.to_builtins(self, builtin_types=(datetime,)))


class Ledger:
    """The folders `ledger/` and `checkpoints/` of an archive.

    Args:
        archive: the archive's folder.
        pause: waits for some seconds, after another has taken the number that was wanted.
    """

    def __init__(self, archive: Path, pause: Callable[[float], None] = sleep) -> None:
        self._pause = pause
        self.marker = archive / "archive.json"
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

    def append(
        self,
        kind: Kind,
        record: str,
        sha256: str,
        who: str,
        time: datetime,
        environment: str = "",
        *,
        release: str = "",
        admit: Callable[[], None] = _admit,
        releases: Callable[[], Iterable[Entry]] | None = None,
    ) -> Entry:
        """Add an entry at the end; durable on return.

        Args:
            kind: what happened.
            record: id of the record that it happened to.
            sha256: digest of what states it.
            who: user and host.
            time: now; the entry keeps its milliseconds.
            environment: for a release: where to; the ledger gives it the next number there.
            release: for a rollback: the release that becomes live.
            admit: raises to refuse, for what the ledger holds. It is asked again after each attempt that came too late, so
                nothing that it has not seen can lie between what it looked at and this entry.
            releases: for a release: reads the entries that tell of one, oldest first; without it all entries are read.

        Raises:
            IntegrityError: the last entry, or for a release an earlier one, cannot be read; something that is no entry
                has the next number; or nobody could read what is asked for, such as a record without a name.
        """
        n_lost = 0
        while True:
            seq = self.size()
            data = self._read_bytes(seq) if seq else b""
            last = decode_entry(data, self._name(seq)) if seq else None
            admit()
            made = Entry(
                seq=seq + 1,
                prev=sha256_bytes(data) if last else self.beginning(),
                kind=kind,
                record=record,
                sha256=sha256,
                time=time,
                who=who,
                release=self._number_next(environment, releases) if kind is Kind.RELEASE else release,
                checkpoint=self._newest_checkpoint(last),
            )
            entry = decode_entry(made.encode(), self._name(made.seq))  # nothing that no one can read is ever appended
            if create_exclusive(self.path(entry.seq), entry.encode()):
                self._known = entry.seq
                return entry
            if not self.path(entry.seq).exists():  # such as a link to nowhere: trying again would not end
                raise IntegrityError(f"{self._name(entry.seq)}: expected no file or an entry, found neither; remove it")
            n_lost += 1
            self._pause(_choose_pause_s(n_lost))

    def read(self, seq: int) -> Entry:
        """One entry.

        Raises:
            IntegrityError: there is none, or it cannot be read.
        """
        return decode_entry(self._read_bytes(seq), self._name(seq))

    def beginning(self) -> str:
        """What the first entry names as the one before: the digest of archive.json; empty where there is none."""
        return sha256_bytes(self.marker.read_bytes()) if self.marker.is_file() else NO_ENTRY

    def read_entries(self) -> Iterator[Entry]:
        """All entries, oldest first."""
        return map(self.read, range(1, self.size() + 1))

    def read_back(self) -> Iterator[Entry]:
        """All entries, newest first."""
        return map(self.read, range(self.size(), 0, -1))

    def extend(self, frontier: Frontier, until: int | None = None) -> Frontier:
        """Add the entries that a frontier does not have yet, up to a size or to the end.

        Raises:
            IntegrityError: one of them is not there.
        """
        for seq in range(frontier.size + 1, (self.size() if until is None else until) + 1):
            frontier.append(hash_leaf(self._read_bytes(seq)))
        return frontier

    def _name(self, seq: int) -> str:
        return f"ledger/{self.path(seq).name}"

    def _read_bytes(self, seq: int) -> bytes:
        try:
            return read_regular(self.path(seq))
        except OSError as error:
            raise IntegrityError(f"{self._name(seq)}: cannot be read: {error.strerror}") from error

    def _newest_checkpoint(self, last: Entry | None) -> int:
        """So that a checkpoint cannot be removed unnoticed once something was appended after it."""
        if last is None:
            return 0
        return last.seq if (self.checkpoints / str(last.seq)).exists() else last.checkpoint

    def _number_next(self, environment: str, releases: Callable[[], Iterable[Entry]] | None) -> str:
        """One more than there are, without gaps: a number that somebody entered out of turn decides nothing."""
        newest = 0
        for entry in releases() if releases else self.read_entries():
            newest += release_number(entry, environment) == newest + 1
        return f"{environment}-{newest + 1}"


def _choose_pause_s(n_lost: int) -> float:
    """Seconds until the next attempt: at random, so that those who lost do not lose to each other again."""
    return random.SystemRandom().uniform(0, 0.001 * 2 ** min(n_lost, 5))


def release_number(entry: Entry, environment: str) -> int:
    """Number of the release that an entry tells of, if it is one into that environment; else 0."""
    match = _RELEASE.fullmatch(entry.release)
    return int(match[2]) if match and match[1] == environment and entry.kind is Kind.RELEASE else 0


def environment_of(entry: Entry) -> str:
    """The environment of the release that an entry names; empty if it names none."""
    return entry.release.rpartition("-")[0]


def decode_entry(data: bytes, where: str) -> Entry:
    """Read an entry.

    Raises:
        NewerFormatError: a newer kit wrote it.
        IntegrityError: it is none, or not in canonical form.
    """
    try:
        declared = msgspec.json.decode(data)
        if isinstance(declared, dict) and isinstance(declared.get("format"), int) and declared["format"] > FORMAT:
            raise NewerFormatError(
                f"{where}: entry format {declared['format']} is newer than this kit reads; update kit"
            )
        entry = msgspec.convert(declared, Entry)
        is_canonical = entry.encode() == data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise IntegrityError(f"{where}: not a readable entry: {error}") from error
    if not is_canonical:
        raise IntegrityError(f"{where}: the entry is not in canonical form")
    if missing := _find_missing(entry):
        raise IntegrityError(f"{where}: not a readable entry: expected {missing} in a {entry.kind}")
    return entry


def _find_missing(entry: Entry) -> str:
    """What an entry of its kind must name, or must not; empty if nothing is wrong."""
    if entry.kind is Kind.WAIVER:
        return "no record and no release" if entry.record or entry.release else ""
    if entry.kind is Kind.ROLLBACK and not entry.release:
        return "the release that is live again"
    return "" if entry.record else "a record"
