"""What lets a reader check an export without kit: ledger entries with their inclusion proofs, statements taken apart.

In `proof/`:

- `proof.json`: what is what;
- `entries/000000012.json`: an entry of the ledger, its exact bytes;
- `paths/000000012/000-left.bin` …: hashes from the entry to the root, nearest first, 32 bytes each, and on which side;
- `checkpoint/note`: size and root of the ledger, a C2SP signed note, with its parts beside it;
- `statements/<record>/`: `statement.json`, `.pae` (the bytes that are signed), `.sig` and `key.pem`;
- `verdicts/<record>/`: the same for a gate's verdict;
- `comparisons/<sha256>.dsse.json`: what was stated when a record was done again, and in `comparisons/<sha256>/` its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kit.archive import STATEMENT, VERDICT, Archive
from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.crate.comparison import COMPARISONS, Comparison, list_comparisons
from kit.crate.contents import PROOF, CrateFile
from kit.errors import IntegrityError
from kit.files import canonical_json, sha256_file
from kit.ledger import Entry, Kind
from kit.merkle import hash_leaf, path_sides, prove_inclusion, tree_root
from kit.record import Record
from kit.signing import Envelope, PublicKey

NOTE = f"{PROOF}/checkpoint/note"
_JSON = "application/json"
_OCTETS = "application/octet-stream"
_PEM = "application/x-pem-file"
_TEXT = "text/plain"


def make_proof(archive: Archive, records: Sequence[Record], keys: Sequence[PublicKey]) -> list[CrateFile]:
    """The files of `proof/`.

    Args:
        archive: whose ledger tells of the records.
        records: those that are exported.
        keys: public keys that are known here; those that signed are put beside what they signed.

    Raises:
        NotFoundError: a comparison that the ledger tells of is not in the archive.
        IntegrityError: the ledger does not tell of a record, or its newest checkpoint is not about this ledger.
    """
    ids, everything = {record.id for record in records}, list(archive.ledger.read_entries())
    compared = list(list_comparisons(archive, everything, ids))
    told = {entry.seq for entry, _, _ in compared}
    entries = [entry for entry in everything if entry.record in ids or entry.seq in told]
    for record in records:
        _require_entry(archive, record, entries)
    leaves = [hash_leaf(entry.encode()) for entry in everything]  # read only in canonical form: the files' bytes
    checkpoint = _choose_checkpoint(archive, max(entry.seq for entry in entries), leaves)
    files = [*describe_checkpoint(checkpoint, keys)]
    for entry in entries:
        files += _prove_entry(entry, leaves[: checkpoint.size])
    for record in records:
        files += _take_apart(archive, record, keys)
    for comparison, envelope in {comparison: envelope for _, comparison, envelope in compared}.items():
        files.append(CrateFile.of_bytes(comparison.path, envelope.encode(), _JSON))
        files += take_envelope(parts_of_comparison(comparison), envelope, keys)
    index = CrateFile.of_bytes(f"{PROOF}/proof.json", canonical_json(_describe(checkpoint, entries, files)), _JSON)
    return [index, *files]


def _require_entry(archive: Archive, record: Record, entries: Sequence[Entry]) -> None:
    sha256 = sha256_file(archive.record_folder(record.id) / STATEMENT)
    closing = [each for each in entries if each.record == record.id and each.kind in (Kind.END, Kind.IMPORT)]
    if not any(each.sha256 == sha256 for each in closing):
        found = "another statement" if closing else "no entry"
        raise IntegrityError(
            f"record {record.id}: the ledger has {found} for its end; `kit verify` tells what is wrong"
        )


def _choose_checkpoint(archive: Archive, size: int, leaves: Sequence[bytes]) -> Checkpoint:
    """The newest that the archive holds, if it covers the entries; else one of the ledger as it is now."""
    held = [int(path.name) for path in archive.ledger.checkpoints.glob("[0-9]*") if path.name.isdigit()]
    if max(held, default=0) >= size:
        path = archive.ledger.checkpoints / str(max(held))
        checkpoint = decode_checkpoint(path.read_bytes(), f"checkpoints/{path.name}")
        if checkpoint.size > len(leaves) or tree_root(leaves[: checkpoint.size]) != checkpoint.root:
            raise IntegrityError(f"checkpoints/{path.name} is not about this ledger; `kit verify` tells what is wrong")
        return checkpoint
    checkpoint = Checkpoint(archive.origin, len(leaves), tree_root(leaves))
    return archive.key.sign_checkpoint(checkpoint) if archive.key else checkpoint


def describe_checkpoint(checkpoint: Checkpoint, keys: Sequence[PublicKey]) -> Iterator[CrateFile]:
    """A checkpoint and its parts; key.pem only where the key that signed it is known."""
    folder = f"{PROOF}/checkpoint"
    yield CrateFile.of_bytes(NOTE, checkpoint.encode(), _TEXT)
    yield CrateFile.of_bytes(f"{folder}/signed.txt", checkpoint.text, _TEXT)
    yield CrateFile.of_bytes(f"{folder}/root.bin", checkpoint.root, _OCTETS)
    for each in checkpoint.signatures[:1]:
        yield CrateFile.of_bytes(f"{folder}/signed.sig", each.signature, _OCTETS)
        yield from _describe_key(f"{folder}/key.pem", f"{each.name}+{each.key_hash.hex()}", keys)


def _prove_entry(entry: Entry, leaves: Sequence[bytes]) -> Iterator[CrateFile]:
    yield CrateFile.of_bytes(entry_path(entry), entry.encode(), _JSON)
    for path, data in zip(path_files(entry, len(leaves)), prove_inclusion(leaves, entry.seq - 1), strict=True):
        yield CrateFile.of_bytes(path, data, _OCTETS)


def entry_path(entry: Entry) -> str:
    """Where an entry lies in an export."""
    return f"{PROOF}/entries/{entry.seq:09d}.json"


def path_files(entry: Entry, size: int) -> list[str]:
    """Where the hashes lie that lead from an entry to the root of a ledger of some size, nearest first."""
    sides = path_sides(entry.seq - 1, size)
    names = (f"{n:03d}-{'left' if is_left else 'right'}.bin" for n, is_left in enumerate(sides))
    return [f"{path_folder(entry)}/{name}" for name in names]


def path_folder(entry: Entry) -> str:
    """The folder of these."""
    return f"{PROOF}/paths/{entry.seq:09d}"


def _take_apart(archive: Archive, record: Record, keys: Sequence[PublicKey]) -> Iterator[CrateFile]:
    """A record's envelopes as openssl can read them."""
    for name in (STATEMENT, VERDICT):
        if (archive.record_folder(record.id) / name).is_file():
            yield from take_envelope(parts_of_record(record.id, name), archive.read_envelope(record.id, name), keys)


def parts_of_record(record_id: str, name: str) -> str:
    """Where the parts of a record's envelope lie in an export, without their suffix."""
    what = name.partition(".")[0]
    return f"{PROOF}/{what}s/{record_id}/{what}"


def parts_of_comparison(comparison: Comparison) -> str:
    """The same for a comparison's envelope."""
    return f"{COMPARISONS}/{comparison.sha256}/comparison"


def take_envelope(path: str, envelope: Envelope, keys: Sequence[PublicKey]) -> Iterator[CrateFile]:
    """An envelope's parts; key.pem only where the key that signed it is known."""
    yield CrateFile.of_bytes(f"{path}.json", envelope.payload, _JSON)
    yield CrateFile.of_bytes(f"{path}.pae", envelope.signed_bytes, _OCTETS)
    for key_id, signature in envelope.signatures[:1]:
        yield CrateFile.of_bytes(f"{path}.sig", signature, _OCTETS)
        yield from _describe_key(f"{path.rpartition('/')[0]}/key.pem", key_id, keys)


def _describe_key(path: str, key_id: str, keys: Sequence[PublicKey]) -> Iterator[CrateFile]:
    """The public key, where it is known here. A reader must not trust it because it is there."""
    for key in [key for key in keys if key.id == key_id][:1]:
        head = f"As claimed by this export; compare it with one that you trust.\n{key}\n"
        yield CrateFile.of_bytes(path, head.encode() + key.pem, _PEM)


def _describe(checkpoint: Checkpoint, entries: Sequence[Entry], files: Sequence[CrateFile]) -> dict[str, Any]:
    paths = [file.path for file in files]
    return {
        "format": 1,
        "checkpoint": {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "note": NOTE,
        },
        "entries": [
            {
                "path": entry_path(entry),
                "entry": msgspec.to_builtins(entry, builtin_types=(type(entry.time),)),
                "proof": [path for path in paths if path.startswith(f"{path_folder(entry)}/")],
            }
            for entry in entries
        ],
    }
