"""The ledger's proof in an export, held against itself and against the records: what contradicts is refused, what lacks is named.

A proof is no condition for taking a record in, whose statement stands for itself; but one that comes along must hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from kit.archive import STARTED, STATEMENT, VERDICT
from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.crate.candidate import Candidate
from kit.crate.comparison import COMPARISONS, ENVELOPE_SUFFIX, Comparison, decode_comparison
from kit.crate.contents import PROOF
from kit.crate.limits import Limits
from kit.crate.proof import (
    NOTE,
    describe_checkpoint,
    entry_path,
    parts_of_comparison,
    parts_of_record,
    path_files,
    path_folder,
    take_envelope,
)
from kit.errors import IntegrityError
from kit.files import sha256_bytes
from kit.ledger import Entry, Kind, decode_entry
from kit.merkle import hash_leaf, root_from_inclusion
from kit.signing import Envelope, PublicKey, Standing, decode_envelope, judge_checkpoint, judge_envelope

_ENTRIES = f"{PROOF}/entries"
_KNOWN = re.compile(
    rf"{PROOF}/(proof\.json|checkpoint/(note|root\.bin|signed\.txt|signed\.sig|key\.pem)|entries/[0-9]{{9,19}}\.json"
    r"|paths/[0-9]{9,19}/[0-9]{3}-(left|right)\.bin|(statements|verdicts)/[^/]+/(statement|verdict)\.(json|pae|sig)"
    r"|comparisons/[0-9a-f]{64}(\.dsse\.json|/comparison\.(json|pae|sig))|(statements|verdicts|comparisons)/[^/]+/key\.pem)"
)
_DIGESTS = {Kind.START: STARTED, Kind.END: STATEMENT, Kind.IMPORT: STATEMENT, Kind.RELEASE: VERDICT}


class Proof(msgspec.Struct, frozen=True):
    """What the ledger of the archive that exported says, as far as the export shows it.

    Attributes:
        origin: of that ledger; empty if its checkpoint did not come.
        size: how many entries it had.
        n_entries: how many of them were shown to be in it.
        standing: how the checkpoint's signature stands to the trusted keys.
        key: id of the key that signed it; empty if none did.
        missing: what did not come with the export; empty if the proof is whole.
    """

    origin: str = ""
    size: int = 0
    n_entries: int = 0
    standing: Standing = Standing.UNSIGNED
    key: str = ""
    missing: tuple[str, ...] = ()


class Compared(msgspec.Struct, frozen=True):
    """A comparison that came with the records and that the ledger was shown to tell of.

    Attributes:
        comparison: what was compared.
        standing: how its signature stands to the trusted keys.
        key: id of the key that signed it; empty if none did.
    """

    comparison: Comparison
    standing: Standing
    key: str


def read_proof(
    files: Mapping[str, Path], candidates: Sequence[Candidate], keys: Sequence[PublicKey], limits: Limits
) -> tuple[Proof, list[Compared]]:
    """The proof of an export, verified, and the comparisons that it shows.

    Args:
        files: those of `proof/`, by path in the export; each has the digest that the manifest names.
        candidates: the records that came with it, each verified.
        keys: trusted ones.
        limits: of what is read at once.

    Raises:
        IntegrityError: something in it contradicts something else in it, a record, or a trusted key's signature.
    """
    given = _Given(files, limits)
    for candidate in candidates:
        _check_record_parts(given, candidate)
    data = given.read(NOTE)
    if data is None:
        return Proof(missing=tuple(given.missing)), []
    checkpoint = decode_checkpoint(data, NOTE)
    for file in describe_checkpoint(checkpoint, ()):
        given.require(file.path, file.source)
    standing, key = judge_checkpoint(checkpoint, keys)
    if standing is Standing.BAD:
        raise IntegrityError(f"{NOTE}: its signature is not one of {key}: it was changed after it was signed")
    entries = list(_read_entries(given, checkpoint))
    for candidate in candidates:
        _check_told(given, candidate, entries, checkpoint.origin)
    compared = list(_read_comparisons(given, candidates, entries, keys))
    missing = tuple(dict.fromkeys(given.missing))
    return Proof(checkpoint.origin, checkpoint.size, len(entries), standing, key, missing), compared


class _Given:
    """The files of `proof/` as they came.

    Attributes:
        missing: what was looked for in vain.
    """

    def __init__(self, files: Mapping[str, Path], limits: Limits) -> None:
        self._files, self._limits = files, limits
        self.missing: list[str] = []
        for path in sorted(files):
            if not _KNOWN.fullmatch(path):
                raise IntegrityError(f"{path!r} is no part of a ledger's proof")

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """Paths of the files in a folder."""
        start = f"{folder}/"
        return sorted(
            path
            for path in self._files
            if path.startswith(start) and "/" not in path.removeprefix(start) and path.endswith(suffix)
        )

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None, and noted, if it did not come."""
        if path not in self._files:
            self.missing.append(path)
            return None
        if self._files[path].stat().st_size > self._limits.list_bytes:
            raise IntegrityError(f"{path} is too large for what it is")
        return self._files[path].read_bytes()

    def require(self, path: str, expected: object) -> None:
        """Refuse a file that is not what it was taken from; note one that did not come."""
        found = self.read(path)
        if found is not None and found != expected:
            raise IntegrityError(f"{path} is not what it was taken from: it was changed")

    def require_parts(self, path: str, envelope: Envelope) -> None:
        """The same for the parts of an envelope."""
        for file in take_envelope(path, envelope, ()):
            self.require(file.path, file.source)
        if not envelope.signatures and f"{path}.sig" in self._files:
            raise IntegrityError(f"{path}.sig is there, but nobody signed what it lies beside")


def _check_record_parts(given: _Given, candidate: Candidate) -> None:
    for name in (STATEMENT, VERDICT):
        if name in candidate.digests:
            where = f"record {candidate.record.id}, {name}"
            envelope = decode_envelope((candidate.folder / name).read_bytes(), where)
            given.require_parts(parts_of_record(candidate.record.id, name), envelope)


def _read_entries(given: _Given, checkpoint: Checkpoint) -> Iterator[Entry]:
    """The entries that a path leads from to the checkpoint's root."""
    before: dict[int, bytes] = {}
    for path in given.list(_ENTRIES):
        data = given.read(path) or b""
        entry = decode_entry(data, path)
        if entry_path(entry) != path:
            raise IntegrityError(f"{path} has the number of another entry: {entry.seq}")
        if entry.seq - 1 in before and entry.prev != sha256_bytes(before[entry.seq - 1]):
            raise IntegrityError(f"{path} does not name the entry before it by its digest")
        before[entry.seq] = data
        if _is_included(given, entry, data, checkpoint):
            yield entry


def _is_included(given: _Given, entry: Entry, data: bytes, checkpoint: Checkpoint) -> bool:
    path = entry_path(entry)
    if entry.seq > checkpoint.size:
        raise IntegrityError(f"{path} is not one of the {checkpoint.size} entries of {NOTE}")
    expected = path_files(entry, checkpoint.size)
    if strange := sorted({*given.list(path_folder(entry))} - {*expected}):
        raise IntegrityError(f"{strange[0]} leads to no root over {checkpoint.size} entries")
    hashes = [found for found in map(given.read, expected) if found is not None]
    if len(hashes) < len(expected):
        return False
    try:
        root = root_from_inclusion(hash_leaf(data), entry.seq - 1, checkpoint.size, hashes)
    except ValueError as error:
        raise IntegrityError(f"{path_folder(entry)}: {error}") from error
    if root != checkpoint.root:
        raise IntegrityError(f"{path} is not in the ledger that {NOTE} is about: its path leads to another root")
    return True


def _check_told(given: _Given, candidate: Candidate, entries: Sequence[Entry], origin: str) -> None:
    """What the ledger tells of a record is what came."""
    record_id, kinds = candidate.record.id, set()
    for entry in entries:
        name = _DIGESTS.get(entry.kind)
        if entry.record != record_id or name is None:
            continue
        kinds.add(entry.kind)
        if candidate.digests.get(name) != entry.sha256:
            found = f"{candidate.digests[name][:12]}…" if name in candidate.digests else "no such file"
            raise IntegrityError(
                f"record {record_id}: its {name} is not the one that {entry_path(entry)} names: expected the digest "
                f"{entry.sha256[:12]}…, found {found}"
            )
    if Kind.END in kinds and candidate.origin != origin:
        raise IntegrityError(
            f"record {record_id} was executed for archive {candidate.origin}, but {NOTE} is that of {origin}"
        )
    if not kinds & {Kind.END, Kind.IMPORT}:
        given.missing.append(f"the entry for the end of {record_id}")
    elif Kind.IMPORT not in kinds and Kind.START not in kinds:
        given.missing.append(f"the entry for the start of {record_id}")


def _read_comparisons(
    given: _Given, candidates: Sequence[Candidate], entries: Sequence[Entry], keys: Sequence[PublicKey]
) -> Iterator[Compared]:
    records = {candidate.record.id: candidate for candidate in candidates}
    told = {(entry.sha256, entry.record) for entry in entries if entry.kind is Kind.REPRODUCTION}
    paths = given.list(COMPARISONS, ENVELOPE_SUFFIX)
    for sha256, _ in sorted(told):
        if (path := Comparison(sha256, "", "").path) not in paths:
            given.missing.append(path)
    for path in paths:
        comparison, envelope = decode_comparison(given.read(path) or b"", path)
        again = records.get(comparison.again)
        if comparison.path != path:
            raise IntegrityError(f"{path} is not named by its digest")
        if again is None and comparison.record not in records:
            raise IntegrityError(f"{path} compares records that did not come with it")
        if again is not None and again.record.reproduces != comparison.record:
            raise IntegrityError(
                f"{path} says that {again.record.id} did {comparison.record} again; its record does not"
            )
        if again is not None and again.key and not envelope.signatures:
            raise IntegrityError(f"{path} is not signed, though the record {again.record.id} that did it is")
        given.require_parts(parts_of_comparison(comparison), envelope)
        standing, key = judge_envelope(envelope, keys)
        if standing is Standing.BAD:
            raise IntegrityError(f"{path}: its signature is not one of {key}: it was changed after it was signed")
        if (comparison.sha256, comparison.again) in told:
            yield Compared(comparison, standing, key)
        else:
            given.missing.append(f"the entry for {path}")
