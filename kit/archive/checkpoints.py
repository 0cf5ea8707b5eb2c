"""Making checkpoints: the ledger's root, continued from what was seen before, never over a ledger that contradicts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from kit.archive.archive import Archive
from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.errors import IntegrityError
from kit.files import canonical_json, create_exclusive, read_regular, sha256_bytes, write_atomically
from kit.merkle import Frontier, hash_leaf


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ledger as a project saw it last; kept in `.kit/`, so that a root costs only what was appended since.

    Attributes:
        origin: of the ledger.
        size: how many entries it had.
        hashes: of the complete subtrees, hexadecimal, see `kit.merkle.Frontier`.
        head: digest of the last entry.
        folder: where the archive lay.
    """

    origin: str
    size: int
    hashes: tuple[Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")], ...]
    head: str
    folder: str = ""


def make_checkpoint(archive: Archive, memory: Path | None = None) -> Checkpoint | None:
    """The checkpoint of the ledger as it is now, kept in the archive if it is signed; None if the ledger is empty.

    Args:
        archive: signs with its key; without one the checkpoint is unsigned and is not kept.
        memory: file in `.kit/` that remembers what was seen.

    Raises:
        IntegrityError: the ledger is not a continuation of what was seen, or of its newest checkpoint.
    """
    seen = _recall(archive, memory)
    size = archive.ledger.size()
    if size == 0 and seen is None:
        return None
    frontier = _continue(archive, seen, size)
    checkpoint = Checkpoint(archive.origin, size, frontier.root)
    if archive.key:
        checkpoint = archive.key.sign_checkpoint(checkpoint)
        path = archive.ledger.checkpoints / str(size)
        if not create_exclusive(path, checkpoint.encode()):
            known = decode_checkpoint(read_regular(path), f"checkpoints/{size}")
            if (known.origin, known.size, known.root) != (checkpoint.origin, size, checkpoint.root):
                raise IntegrityError(
                    f"checkpoints/{size} contradicts the ledger: history was rewritten, or it is none of kit's. No checkpoint "
                    f"was made; `kit verify` says more"
                )
    if memory:
        hashes = tuple(node.hex() for node in frontier.hashes)
        head = sha256_bytes(archive.ledger.path(size).read_bytes())
        now = Seen(archive.origin, size, hashes, head, str(archive.folder.resolve()))
        write_atomically(memory, canonical_json(msgspec.to_builtins(now)))
    return checkpoint


def describe_coverage(archive: Archive) -> str:
    """How far the ledger is covered by checkpoints that are kept in the archive, in a sentence; does not verify them."""
    size = archive.ledger.size()
    if size == 0:
        return "the ledger is empty"
    here = (archive.ledger.checkpoints / str(size)).is_file()
    newest = size if here else archive.ledger.read(size).checkpoint
    if not newest:
        return (
            f"{size} ledger entries, no checkpoint: anyone who can write to the archive could have rewritten all of it"
        )
    note = decode_checkpoint((archive.ledger.checkpoints / str(newest)).read_bytes(), f"checkpoints/{newest}")
    signers = ", ".join(each.name for each in note.signatures)
    return f"{size} ledger entries, the first {newest} under a checkpoint signed by {signers}; `kit verify` checks it"


def _recall(archive: Archive, memory: Path | None) -> Seen | None:
    """What was seen of this archive; a memory of another one, or one that cannot be read, is none."""
    try:
        seen = msgspec.json.decode(memory.read_bytes(), type=Seen) if memory and memory.is_file() else None
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    if seen and seen.origin != archive.origin and seen.folder == str(archive.folder.resolve()):
        raise IntegrityError(
            f"{archive.folder}: another archive ({archive.origin}) lies where {seen.origin} was. No checkpoint was made; if "
            f"you replaced it on purpose, remove .kit/ledger.json"
        )
    return seen if seen and seen.origin == archive.origin and len(seen.hashes) == seen.size.bit_count() else None


def _continue(archive: Archive, seen: Seen | None, size: int) -> Frontier:
    ledger = archive.ledger
    frontier, before = Frontier(), ledger.beginning()
    if seen:
        path = ledger.path(seen.size)
        if seen.size > size or not path.is_file() or sha256_bytes(read_regular(path)) != seen.head:
            raise IntegrityError(
                f"{archive.folder}: the ledger is not a continuation of what this project saw of it: entry {seen.size} is "
                f"gone or another. No checkpoint was made. `kit verify` says what was changed; if you went back to an "
                f"older copy on purpose, remove .kit/ledger.json"
            )
        frontier, before = Frontier(seen.size, [bytes.fromhex(node) for node in seen.hashes]), seen.head
    newest = ledger.read(size).checkpoint
    for seq in range(frontier.size + 1, size + 1):
        entry = ledger.read(seq)
        if entry.prev != before:
            raise IntegrityError(f"ledger/{seq:09d}.json does not name the entry before it; `kit verify` says more")
        data = entry.encode()  # entries are read only in canonical form, so these are the file's bytes
        frontier.append(hash_leaf(data))
        before = sha256_bytes(data)
        if seq == newest:
            _require_same(archive, frontier)
    return frontier


def _require_same(archive: Archive, frontier: Frontier) -> None:
    """Refuse to go on from a checkpoint that the ledger contradicts."""
    path = archive.ledger.checkpoints / str(frontier.size)
    if path.is_file():
        known = decode_checkpoint(read_regular(path), f"checkpoints/{frontier.size}")
        if known.root != frontier.root:
            raise IntegrityError(
                f"the ledger's first {frontier.size} entries are not those of checkpoints/{frontier.size}: history was "
                f"rewritten. No checkpoint was made; `kit verify` says more"
            )
