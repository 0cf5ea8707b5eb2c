"""How large an export may be, for those who write one and for those who read one that they did not write."""

from __future__ import annotations

import msgspec

from kit.errors import UsageError
from kit.files import format_bytes
from kit.zips import MAX_LIST_BYTES


class Limits(msgspec.Struct, frozen=True):
    """What is read from a zip at most.

    Attributes:
        n_files: files in it.
        size_bytes: of all files, unpacked.
        ratio: unpacked bytes for each packed one; kit packs nothing, so its own exports have 1.
        free_bytes: a file up to this size is no bomb, whatever its ratio.
        list_bytes: of what is read at once: the zip's list of its files, the manifest, a record.
    """

    n_files: int = 50_000
    size_bytes: int = 256 << 30
    ratio: int = 200
    free_bytes: int = 1 << 20
    list_bytes: int = MAX_LIST_BYTES


LIMITS = Limits()


def require_within_limits(n_files: int, size_bytes: int, limits: Limits = LIMITS) -> None:
    """Refuse to write what nobody could read.

    Raises:
        UsageError: too many files or too many bytes.
    """
    if n_files > limits.n_files:
        raise UsageError(
            f"the export would have {n_files} files, more than the {limits.n_files} that `kit import` reads"
        )
    if size_bytes > limits.size_bytes:
        sizes = f"{format_bytes(size_bytes)}, more than the {format_bytes(limits.size_bytes)}"
        raise UsageError(f"the export would have {sizes} that `kit import` reads")
