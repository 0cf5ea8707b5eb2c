"""The ledger's own order: every entry there, readable, in its place, naming the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kit.errors import IntegrityError, NewerFormatError
from kit.files import is_regular, read_regular, sha256_bytes
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
        last: the highest number that is there.
    """

    entries: dict[int, Entry]
    leaves: list[bytes]
    findings: list[Finding]
    last: int = 0

    @property
    def has_gap(self) -> bool:
        """True if an entry before the last one is missing or cannot be read."""
        return len(self.leaves) < self.last

    def end_of(self, record: str) -> int:
        """Number of the oldest entry that tells of a record's end; that of the last entry if none does."""
        return next(
            (seq for seq, entry in self.entries.items() if entry.kind is Kind.END and entry.record == record), self.last
        )

    def of_kind(self, *kinds: Kind) -> Iterator[Entry]:
        """The entries of some kinds, oldest first."""
        return (entry for entry in self.entries.values() if entry.kind in kinds)


def read_chain(archive: Path) -> Chain:
    """Read the whole ledger and judge its order."""
    ledger = Ledger(archive)
    chain = Chain({}, [], [])
    names = sorted(path.name for path in ledger.folder.iterdir()) if ledger.folder.is_dir() else []
    numbers = [int(name[:9]) for name in names if _NAME.fullmatch(name) and is_regular(ledger.folder / name)]
    chain.findings += _judge_names(ledger.folder, names)
    before = ledger.beginning()
    whole = True
    expected = 1
    for seq in sorted(numbers):
        path = f"ledger/{seq:09d}.json"
        if seq > expected:
            whole, before = False, ""
            missing = f"entry {expected}" if seq == expected + 1 else f"entries {expected} to {seq - 1}"
            meaning = "what happened then is not proved any more"
            chain.findings.append(false(Code.MISSING, f"ledger/{expected:09d}.json", missing, "nothing", meaning))
        expected = seq + 1
        try:
            data = read_regular(ledger.path(seq))
        except OSError as error:
            whole, before = False, ""
            meaning = "what happened then is not proved any more"
            chain.findings.append(false(Code.MISSING, path, f"entry {seq}", f"{error.strerror}", meaning))
            continue
        if whole:
            chain.leaves.append(hash_leaf(data))
        chain.findings += _judge_entry(chain, seq, data, before)
        before = sha256_bytes(data)
    chain.last = max(numbers, default=0)
    chain.findings += _judge_places(chain)
    chain.findings += _judge_releases(chain)
    if not numbers:
        meaning = "nothing was ever executed here, or all of it was removed"
        chain.findings.append(undecided(Code.TRUNCATED, "ledger", "entries", "none", meaning))
    return chain


def _judge_names(folder: Path, names: list[str]) -> Iterator[Finding]:
    for name in names:
        if is_leftover(name):
            yield noted(Code.LEFTOVER, f"ledger/{name}", "a temporary file", "an append was killed; nothing reads it")
        elif not _NAME.fullmatch(name) or not is_regular(folder / name):
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


def _judge_releases(chain: Chain) -> Iterator[Finding]:
    """The ledger numbers releases without gaps; an execution cuts one at most, after its end; only those are rolled back to."""
    newest: dict[str, int] = {}
    ended: set[str] = set()
    cut: dict[str, str] = {}
    released: set[tuple[str, str]] = set()
    for seq, entry in chain.entries.items():
        path = f"ledger/{seq:09d}.json"
        if entry.kind is Kind.ROLLBACK:
            if (entry.record, entry.release) not in released and not chain.has_gap:
                what, found = f"a release {entry.release} cut by {entry.record} before", "none"
                yield false(Code.UNLOGGED, path, what, found, "what was never released was made live")
            continue
        if entry.kind is not Kind.RELEASE:
            ended |= {entry.record} if entry.kind in (Kind.END, Kind.IMPORT) else set()
            if entry.release:
                yield false(Code.REWRITTEN, path, "no release", entry.release, "only a release has an id")
            continue
        yield from _judge_number(path, entry, newest)
        if entry.record in cut:
            what = f"one release by {entry.record}, {cut[entry.record]}"
            yield false(Code.REWRITTEN, path, what, entry.release, "an older verdict was entered again")
        if entry.record not in ended:
            what, meaning = f"an end of {entry.record} before its release", "nothing was sealed that could be released"
            yield false(Code.UNLOGGED, path, what, "none", meaning)
        cut[entry.record] = entry.release
        released.add((entry.record, entry.release))


def _judge_number(path: str, entry: Entry, newest: dict[str, int]) -> Iterator[Finding]:
    environment, _, number = entry.release.rpartition("-")
    wanted = f"{environment}-{newest.get(environment, 0) + 1}"
    newest[environment] = max(newest.get(environment, 0), int(number or 0))
    if entry.release != wanted:
        meaning = "kit numbers releases without gaps, each once"
        yield false(Code.REWRITTEN, path, f"release {wanted}", entry.release, meaning)


def _judge_places(chain: Chain) -> Iterator[Finding]:
    """Each execution starts once, ends at most once, and in that order."""
    first: dict[tuple[str, Kind], int] = {}
    for seq, entry in chain.entries.items():
        if entry.kind not in (Kind.START, Kind.END, Kind.IMPORT):
            continue
        path = f"ledger/{seq:09d}.json"
        earlier = first.setdefault((entry.record, entry.kind), seq)
        if earlier != seq:
            what = f"record {entry.record} has one {entry.kind}, entry {earlier}"
            yield false(Code.REWRITTEN, path, what, "another", "a record was replaced by another of its name")
        elif (entry.kind is Kind.IMPORT and (entry.record, Kind.START) in first) or (
            entry.kind is Kind.START and (entry.record, Kind.IMPORT) in first
        ):
            what = f"record {entry.record} either executed here or imported"
            yield false(
                Code.REWRITTEN, path, what, "both", "what was announced here was replaced by something from elsewhere"
            )
        elif entry.kind is Kind.END and (entry.record, Kind.START) not in first and not chain.has_gap:
            what = f"a start of {entry.record} before its end"
            yield false(Code.UNLOGGED, path, what, "none", "an execution was entered that nobody had announced")
