"""The ledger's own order: every entry there, readable, in its place, naming the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kit.errors import IntegrityError, NewerFormatError
from kit.files import sha256_bytes
from kit.ledger import Entry, Kind, Ledger, decode_entry
from kit.merkle import hash_leaf
from kit.verify.findings import Code, Finding, false, noted, short, undecided
from kit.verify.names import is_leftover

_NAME = re.compile(r"[0-9]{9}\.json")


class Chain(msgspec.Struct):
    """A ledger as it was read.

    Attributes:
        entries: those that could be read, by number.
        leaves: Merkle leaf hashes of all files, in order; only up to the first gap.
        findings: what is wrong with it.
    """

    entries: dict[int, Entry]
    leaves: list[bytes]
    findings: list[Finding]

    def of_kind(self, *kinds: Kind) -> Iterator[Entry]:
        """The entries of some kinds, oldest first."""
        return (entry for entry in self.entries.values() if entry.kind in kinds)


def read_chain(archive: Path) -> Chain:
    """Read the whole ledger and judge its order."""
    ledger = Ledger(archive)
    chain = Chain({}, [], [])
    names = sorted(path.name for path in ledger.folder.iterdir()) if ledger.folder.is_dir() else []
    numbers = [int(name[:9]) for name in names if _NAME.fullmatch(name) and (ledger.folder / name).is_file()]
    chain.findings += _judge_names(ledger.folder, names)
    before = ledger.beginning()
    whole = True
    for seq in range(1, max(numbers, default=0) + 1):
        path = f"ledger/{seq:09d}.json"
        try:
            data = ledger.path(seq).read_bytes()
        except OSError:
            whole, before = False, ""
            meaning = "an entry was removed: what happened then is not proved any more"
            chain.findings.append(false(Code.MISSING, path, f"entry {seq}", "nothing", meaning))
            continue
        if whole:
            chain.leaves.append(hash_leaf(data))
        chain.findings += _judge_entry(chain, seq, data, before)
        before = sha256_bytes(data)
    chain.findings += _judge_places(chain)
    if not numbers:
        meaning = "nothing was ever executed here, or all of it was removed"
        chain.findings.append(undecided(Code.TRUNCATED, "ledger", "entries", "none", meaning))
    return chain


def _judge_names(folder: Path, names: list[str]) -> Iterator[Finding]:
    for name in names:
        if is_leftover(name):
            yield noted(Code.LEFTOVER, f"ledger/{name}", "a temporary file", "an append was killed; nothing reads it")
        elif not _NAME.fullmatch(name) or not (folder / name).is_file():
            yield false(Code.UNLOGGED, f"ledger/{name}", "entries only", "something else", "no kit put it there")


def _judge_entry(chain: Chain, seq: int, data: bytes, before: str) -> Iterator[Finding]:
    path = f"ledger/{seq:09d}.json"
    try:
        entry = decode_entry(data, path)
    except NewerFormatError as error:
        yield undecided(
            Code.NEWER_FORMAT, path, "a format that this kit reads", str(error), "verify it with a newer kit"
        )
        return
    except IntegrityError as error:
        yield false(Code.EDITED, path, "an entry as kit writes it", str(error), "the entry's bytes were changed")
        return
    chain.entries[seq] = entry
    if entry.seq != seq:
        meaning = "entries were swapped, inserted or renumbered"
        yield false(Code.REORDERED, path, f"entry {seq}", f"entry {entry.seq}", meaning)
    elif before and entry.prev != before and seq == 1:
        meaning = "archive.json is not the one that the ledger began with"
        yield false(Code.EDITED, "archive.json", short(entry.prev), short(before), meaning)
    elif before and entry.prev != before:
        meaning = f"entry {seq - 1} was changed, replaced or inserted after entry {seq} was written"
        yield false(Code.CHAIN_BROKEN, path, f"prev {short(before)}", short(entry.prev), meaning)


def _judge_places(chain: Chain) -> Iterator[Finding]:
    """Each execution starts once, ends at most once, and in that order."""
    first: dict[tuple[str, Kind], int] = {}
    for seq, entry in chain.entries.items():
        if entry.kind not in (Kind.START, Kind.END):
            continue
        path = f"ledger/{seq:09d}.json"
        earlier = first.setdefault((entry.record, entry.kind), seq)
        if earlier != seq:
            what = f"record {entry.record} has one {entry.kind}, entry {earlier}"
            yield false(Code.REWRITTEN, path, what, "another", "a record was replaced by another of its name")
        elif entry.kind is Kind.END and (entry.record, Kind.START) not in first:
            what = f"a start of {entry.record} before its end"
            yield false(Code.UNLOGGED, path, what, "none", "an execution was entered that nobody had announced")
