"""What a project saw of a ledger last. An archive only ever grows: nothing is appended or signed if it did not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from kit.errors import IntegrityError
from kit.files import sha256_bytes

if TYPE_CHECKING:
    from kit.archive.ledgered import LedgeredArchive


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


def recall(archive: LedgeredArchive, memory: Path) -> Seen | None:
    """What was seen of this archive; None if nothing was, or the memory cannot be read.

    Args:
        archive: must be a continuation of what was seen.
        memory: file in `.kit/`.

    Raises:
        IntegrityError: it is not, or another archive lies in its place.
    """
    try:
        seen = msgspec.json.decode(memory.read_bytes(), type=Seen) if memory.is_file() else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if seen is None or seen.size < 1 or len(seen.hashes) != seen.size.bit_count():
        return None
    if seen.origin != archive.origin:
        if seen.folder not in ("", str(archive.folder.resolve())):
            return None  # the project keeps its archive elsewhere now
        raise IntegrityError(
            f"{archive.folder}: another archive ({archive.origin}) lies where {seen.origin} was. Nothing was appended or "
            f"signed; if you replaced it on purpose, remove {memory}"
        )
    if archive.ledger.size() < seen.size or sha256_bytes(archive.ledger.read(seen.size).encode()) != seen.head:
        raise IntegrityError(
            f"{archive.folder}: the ledger is not a continuation of what this project saw of it: entry {seen.size} is gone "
            f"or another. Nothing was appended or signed. `kit verify` says what was changed; if you went back to an older "
            f"copy on purpose, remove {memory}"
        )
    return seen
