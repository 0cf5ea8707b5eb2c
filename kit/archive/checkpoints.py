"""Making checkpoints: the ledger's root, continued from what was seen before, never over a ledger that contradicts it."""

from __future__ import annotations

import msgspec

from kit.archive.archive import Archive
from kit.archive.continuity import Seen, recall
from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.errors import IntegrityError
from kit.files import canonical_json, create_exclusive, read_regular, sha256_bytes, write_atomically
from kit.merkle import Frontier, hash_leaf


def make_checkpoint(archive: Archive) -> Checkpoint | None:
    """The checkpoint of the ledger as it is now, kept in the archive if it is signed; None if the ledger is empty.

    Args:
        archive: signs with its key; without one the checkpoint is unsigned and is not kept. Its memory makes the root
            cost only what was appended since.

    Raises:
        IntegrityError: the ledger is not a continuation of what was seen, or of its newest checkpoint.
    """
    seen = recall(archive, archive.memory) if archive.memory else None
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
    if archive.memory:
        hashes = tuple(node.hex() for node in frontier.hashes)
        head = sha256_bytes(read_regular(archive.ledger.path(size)))
        now = Seen(archive.origin, size, hashes, head, str(archive.folder.resolve()))
        write_atomically(archive.memory, canonical_json(msgspec.to_builtins(now)))
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
    note = decode_checkpoint(read_regular(archive.ledger.checkpoints / str(newest)), f"checkpoints/{newest}")
    signers = ", ".join(each.name for each in note.signatures)
    return f"{size} ledger entries, the first {newest} under a checkpoint signed by {signers}; `kit verify` checks it"


def _continue(archive: Archive, seen: Seen | None, size: int) -> Frontier:
    ledger = archive.ledger
    frontier, before = Frontier(), ledger.beginning()
    if seen:
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
