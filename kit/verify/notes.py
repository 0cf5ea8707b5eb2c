"""Checkpoints against the ledger: those in the archive, and those that a verifier holds outside of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.errors import IntegrityError
from kit.files import read_regular
from kit.merkle import Frontier
from kit.signing import PublicKey, Standing, judge_checkpoint
from kit.verify.chain import Chain
from kit.verify.findings import Code, Finding, false, noted
from kit.verify.names import is_leftover


class Noted(msgspec.Struct, frozen=True):
    """A checkpoint and where it was found; `outside` if the verifier brought it."""

    checkpoint: Checkpoint
    path: str
    outside: bool = False


class Coverage(msgspec.Struct):
    """What the checkpoints say about a ledger.

    Attributes:
        size: up to which entry a checkpoint that can be relied on covers it.
        signers: key ids of trusted signatures.
        findings: what contradicts it.
    """

    size: int
    signers: set[str]
    findings: list[Finding]


def judge_checkpoints(
    archive: Path,
    origin: str,
    inside: Sequence[Noted],
    chain: Chain,
    keys: Sequence[PublicKey],
    outside: Sequence[Noted],
) -> Coverage:
    """Hold the ledger against every checkpoint there is.

    Args:
        archive: its folder.
        origin: of its ledger.
        inside: checkpoints in the archive, read before its ledger was.
        chain: its ledger.
        keys: trusted ones; without any, signatures can be attributed to nobody.
        outside: what the verifier brought; trusted because they were kept elsewhere.
    """
    coverage = Coverage(0, set(), [])
    coverage.findings += _judge_named(archive, chain, outside)
    roots = _roots_at(chain, {each.checkpoint.size for each in (*inside, *outside)})
    n_beyond = 0
    for each in (*inside, *outside):
        if len(chain.leaves) < each.checkpoint.size <= chain.last:
            n_beyond += 1
            continue
        problems = list(_contradictions(each, origin, chain, roots))
        problems += _judge_signature(each, keys, coverage)
        coverage.findings += problems
        if not problems:
            coverage.size = max(coverage.size, each.checkpoint.size)
    if n_beyond:
        what = f"{n_beyond} checkpoints over more than {len(chain.leaves)} entries"
        meaning = "an entry before them is missing, so they cannot be compared"
        coverage.findings.append(noted(Code.UNCOVERED, "checkpoints", what, meaning))
    coverage.findings += _judge_coverage(coverage, chain, keys, outside)
    return coverage


def read_notes(archive: Path) -> tuple[list[Noted], list[Finding]]:
    """The checkpoints in an archive, and what is wrong with their files."""
    findings: list[Finding] = []
    return list(_read_notes(archive, findings)), findings


def _read_notes(archive: Path, findings: list[Finding]) -> Iterator[Noted]:
    folder = archive / "checkpoints"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = f"checkpoints/{path.name}"
        if is_leftover(path.name):
            findings.append(noted(Code.LEFTOVER, name, "a temporary file", "a command was killed; nothing reads it"))
            continue
        if not path.name.isdigit():
            findings.append(false(Code.UNLOGGED, name, "checkpoints only", "something else", "no kit put it there"))
            continue
        try:
            checkpoint = decode_checkpoint(read_regular(path), name)
        except (IntegrityError, OSError) as error:
            findings.append(false(Code.EDITED, name, "a checkpoint", str(error), "it proves nothing any more"))
            continue
        if path.name != str(checkpoint.size):
            meaning = "it was renamed or put in another's place"
            findings.append(
                false(Code.REORDERED, name, f"a checkpoint of size {path.name}", str(checkpoint.size), meaning)
            )
        yield Noted(checkpoint, name)


def _judge_named(archive: Path, chain: Chain, outside: Sequence[Noted]) -> Iterator[Finding]:
    """Signed checkpoints are kept in the archive before anything tells of them."""
    named = {entry.checkpoint: f"entry {seq}" for seq, entry in reversed(chain.entries.items()) if entry.checkpoint}
    named |= {each.checkpoint.size: each.path for each in outside if each.checkpoint.signatures}
    for size, teller in sorted(named.items()):
        if not (archive / "checkpoints" / str(size)).is_file():
            what = f"a checkpoint, which {teller} tells of"
            yield false(Code.MISSING, f"checkpoints/{size}", what, "nothing", "a proof was removed from the archive")


def _roots_at(chain: Chain, sizes: set[int]) -> dict[int, bytes]:
    frontier, roots = Frontier(), {}
    for leaf in chain.leaves:
        frontier.append(leaf)
        if frontier.size in sizes:
            roots[frontier.size] = frontier.root
    return roots


def _contradictions(each: Noted, origin: str, chain: Chain, roots: dict[int, bytes]) -> Iterator[Finding]:
    checkpoint, path = each.checkpoint, each.path
    if checkpoint.origin != origin:
        meaning = "the archive was replaced by another, or the checkpoint belongs to another"
        yield false(Code.REWRITTEN, path, f"origin {origin}", checkpoint.origin, meaning)
    elif checkpoint.size > len(chain.leaves):
        meaning = "entries that were there are gone from the end"
        yield false(Code.TRUNCATED, path, f"{checkpoint.size} entries", f"{len(chain.leaves)}", meaning)
    elif checkpoint.size == 0 or roots[checkpoint.size] != checkpoint.root:
        found = base64.b64encode(roots.get(checkpoint.size, b"")).decode()
        expected = f"root {base64.b64encode(checkpoint.root).decode()} over {checkpoint.size} entries"
        yield false(Code.REWRITTEN, path, expected, found, "history before the checkpoint is not what it was")


def _judge_signature(each: Noted, keys: Sequence[PublicKey], coverage: Coverage) -> Iterator[Finding]:
    """With keys, only a trusted signature is no problem; without, a checkpoint binds those who cannot make another."""
    standing, key = judge_checkpoint(each.checkpoint, keys)
    match standing:
        case Standing.TRUSTED:
            coverage.signers.add(key)
        case Standing.BAD:
            meaning = "the checkpoint was changed after it was signed, or someone else made it"
            yield false(Code.BAD_SIGNATURE, each.path, f"a signature by {key}", "one that it did not make", meaning)
        case Standing.UNKNOWN_KEY if keys and not each.outside:
            meaning = "nobody whom you trust has said this"
            yield false(Code.UNKNOWN_KEY, each.path, "a signature by a trusted key", f"one by {key}", meaning)
        case Standing.UNSIGNED if not each.outside:
            yield false(Code.BAD_SIGNATURE, each.path, "a signature", "none", "kit keeps signed checkpoints only")


def _judge_coverage(
    coverage: Coverage, chain: Chain, keys: Sequence[PublicKey], outside: Sequence[Noted]
) -> Iterator[Finding]:
    n_entries = len(chain.leaves)
    if not coverage.size and keys and n_entries:
        meaning = "whoever can write here could have rewritten all of it"
        yield false(Code.UNSIGNED, "checkpoints", "a checkpoint signed by a trusted key", "none", meaning)
    elif not coverage.size and n_entries:
        meaning = "whoever can write here could have rewritten all of it; sign with `kit key new`, or keep checkpoints elsewhere"
        yield noted(Code.UNSIGNED, "checkpoints", "no checkpoint", meaning)
    elif coverage.size < n_entries:
        meaning = "they can still be rewritten unnoticed; the next command that appends covers them"
        yield noted(
            Code.UNCOVERED,
            "ledger",
            f"entries {coverage.size + 1} to {n_entries} are after the last checkpoint",
            meaning,
        )
    if not outside:
        meaning = (
            "going back to an older state, and a rewrite by a holder of the key, cannot be excluded; give --checkpoint "
            "with a line that some command printed"
        )
        yield noted(
            Code.NO_OUTSIDE_CHECKPOINT, "ledger", "no checkpoint from outside of the archive was given", meaning
        )
