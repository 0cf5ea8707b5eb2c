"""What the ledger says of each execution, against the record that is there of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.archive import OPEN, STARTED
from kit.errors import IntegrityError, NewerFormatError
from kit.files import read_regular, sha256_bytes
from kit.ledger import Entry, Kind
from kit.provenance import is_alive
from kit.record import decode_record
from kit.signing import PublicKey
from kit.verify.chain import Chain
from kit.verify.findings import Code, Finding, false, noted, short, undecided
from kit.verify.records import Examined, examine_record


class Books:
    """What the ledger says of each record."""

    def __init__(self, chain: Chain) -> None:
        self.starts = {entry.record: entry for entry in chain.of_kind(Kind.START)}
        self.ends: dict[str, Entry] = {}
        for entry in chain.of_kind(Kind.IMPORT, Kind.END):
            self.ends.setdefault(entry.record, entry)

    def records(self) -> list[str]:
        """Every record that it tells of."""
        return sorted({*self.starts, *self.ends})


def folder_of(archive: Path, record_id: str) -> Path:
    """Where a record's files lie, under its final name or its first one."""
    closed = archive / "records" / record_id
    return closed if closed.is_dir() else closed.with_name(f"{record_id}{OPEN}")


def examine(archive: Path, record_id: str, origin: str, books: Books, keys: Sequence[PublicKey]) -> Examined:
    """Verify what is there of one execution that the ledger tells of.

    Args:
        archive: its folder.
        record_id: in full.
        origin: of the archive.
        books: what the ledger says.
        keys: trusted ones.
    """
    while True:
        folder = folder_of(archive, record_id)
        examined = _examine_in(folder, record_id, origin, books, keys)
        if folder_of(archive, record_id) == folder:
            return examined  # else it got its final name meanwhile


def _examine_in(folder: Path, record_id: str, origin: str, books: Books, keys: Sequence[PublicKey]) -> Examined:
    end, start = books.ends.get(record_id), books.starts.get(record_id)
    where = f"records/{record_id}"
    if folder.is_symlink():
        meaning = "what it leads to can be changed without a trace"
        return Examined(None, [false(Code.EDITED, where, "a folder", "a link", meaning)])
    if end is None:
        return Examined(None, list(_judge_open(folder, where, start)) if start else [])
    if not folder.is_dir():
        return Examined(None, [_judge_gone(folder, where, end)])
    examined = examine_record(folder, record_id, origin, start if end.kind is Kind.END else None, end, keys)
    if folder.name.endswith(OPEN):
        meaning = "kit was killed after sealing it; the next command names it"
        examined.findings.append(
            noted(Code.LEFTOVER, f"{where}{OPEN}", "a sealed record without its final name", meaning)
        )
    return examined


def _judge_gone(folder: Path, where: str, end: Entry) -> Finding:
    what = f"the record that entry {end.seq} sealed"
    staged = folder.parents[1].glob(f".import.*.tmp/records/{end.record}")
    if end.kind is Kind.IMPORT and any(staged):
        meaning = "its import was killed, or is still going on; import it again"
        return undecided(Code.LEFTOVER, where, what, "nothing yet", meaning)
    return false(Code.MISSING, where, what, "nothing", "a record was removed")


def _judge_open(folder: Path, where: str, start: Entry) -> Iterator[Finding]:
    """An execution that was announced and has no end in the ledger."""
    path = f"{where}{OPEN}"
    if not folder.name.endswith(OPEN):
        return  # a sealed folder without an end: said as unlogged
    if not folder.is_dir():
        meaning = "it was announced, then killed before anything was written, or what it left was removed"
        yield noted(Code.LOST, path, f"nothing of what entry {start.seq} announced", meaning)
        return
    try:
        data = read_regular(folder / STARTED)
    except OSError:
        meaning = "what was to be executed is not known any more"
        yield false(Code.MISSING, f"{path}/{STARTED}", short(start.sha256), "nothing", meaning)
        return
    if sha256_bytes(data) != start.sha256:
        expected = f"{short(start.sha256)} (entry {start.seq})"
        yield false(
            Code.EDITED, f"{path}/{STARTED}", expected, short(sha256_bytes(data)), "it is not what was announced"
        )
        return
    try:
        record = decode_record(data, f"{path}/{STARTED}")
    except NewerFormatError as error:
        yield undecided(Code.NEWER_FORMAT, f"{path}/{STARTED}", "a record", str(error), "verify it with its kit")
        return
    except IntegrityError as error:
        yield false(Code.EDITED, f"{path}/{STARTED}", "a record", str(error), "no kit announced it")
        return
    runs = is_alive(record.process, record.machine.host)
    found = f"an execution that entry {start.seq} announced and that {'may still run' if runs else 'never ended'}"
    yield noted(Code.LOST, path, found, "what it left is not sealed: it may have been changed")
