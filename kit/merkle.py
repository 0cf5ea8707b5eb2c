"""Merkle trees over a growing list of byte strings, as Certificate Transparency has them.

Source: RFC 6962, sections 2.1 and 2.1.1 (hashes, inclusion proofs); RFC 9162, section 2.1.3.2 (how these are verified).
All hashes are SHA-256, 32 raw bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
_HASH_BYTES = len(EMPTY_ROOT)


def hash_leaf(data: bytes) -> bytes:
    """Hash of one entry's exact bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Hash of a node over the hashes of its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The complete subtrees to the left of a tree's growing edge: all that its root needs, O(log n) hashes.

    Attributes:
        size: how many leaves it has.
        hashes: roots of the complete subtrees, largest first; one for each bit that is set in `size`.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees, found {len(hashes)}")
        self.size, self.hashes = size, list(hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash at the right."""
        size, node = self.size, leaf
        while size & 1:
            node = hash_children(self.hashes.pop(), node)
            size >>= 1
        self.hashes.append(node)
        self.size += 1

    @property
    def root(self) -> bytes:
        """Hash of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, node = self.hashes
        for left in reversed(rest):
            node = hash_children(left, node)
        return node


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Hash of the tree over some leaves' hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root


def prove_inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from one leaf to the root, nearest first.

    Args:
        leaves: hashes of all leaves.
        index: of the leaf, from 0.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"leaf {index} is not one of {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _largest_power_below(len(leaves))
    if index < split:
        return [*prove_inclusion(leaves[:split], index), tree_root(leaves[split:])]
    return [*prove_inclusion(leaves[split:], index - split), tree_root(leaves[:split])]


def path_sides(index: int, size: int) -> list[bool]:
    """For each hash of an inclusion proof, nearest first: True if it stands to the left of what was hashed so far."""
    sides: list[bool] = []
    while size > 1:
        split = _largest_power_below(size)
        sides.append(index >= split)
        index, size = (index - split, size - split) if index >= split else (index, split)
    return sides[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to; compare it with the one that is known for exactly this size.

    A proof does not bind the size: leaf 0 has the same path in a tree of 3 as in one of 4.

    Raises:
        ValueError: there is no such leaf, or the proof does not have the hashes that such a leaf's proof has.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not one of {size}")
    sides = path_sides(index, size)
    if len(proof) != len(sides):
        raise ValueError(f"a proof of leaf {index} in a tree of {size} has {len(sides)} hashes, found {len(proof)}")
    if any(len(each) != _HASH_BYTES for each in (leaf, *proof)):
        raise ValueError(f"a hash has {_HASH_BYTES} bytes, found {[len(each) for each in (leaf, *proof)]}")
    node = leaf
    for is_left, sibling in zip(sides, proof, strict=True):
        node = hash_children(sibling, node) if is_left else hash_children(node, sibling)
    return node


def _largest_power_below(n: int) -> int:
    """The largest power of two that is smaller than n, for n > 1."""
    return 1 << ((n - 1).bit_length() - 1)
