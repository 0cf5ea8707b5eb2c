"""The files of two source bundles beside each other."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping

import msgspec

from kit.diff.facts import pair_names, presence
from kit.diff.lines import diff_lines
from kit.diff.values import Change, FileDiff
from kit.errors import IntegrityError
from kit.files import sha256_bytes

MAX_TEXT_BYTES = 1_000_000
MAX_FILES_BYTES = 1 << 30


class SourceFile(msgspec.Struct, frozen=True):
    """One file of a bundle; `text` is None if it is too large to show or no UTF-8."""

    sha256: str
    text: str | None = None


def read_sources(bundle: bytes) -> dict[str, SourceFile]:
    """The files of a bundle by path.

    Raises:
        IntegrityError: it is no zip that kit made.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_FILES_BYTES:
                raise IntegrityError(f"the bundle unpacks to over {MAX_FILES_BYTES:,} bytes")
            return {info.filename: _read(archive.read(info)) for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise IntegrityError(f"the bundle is no zip that kit made: {error}") from error


def _read(data: bytes) -> SourceFile:
    try:
        text = data.decode("utf-8") if len(data) <= MAX_TEXT_BYTES and b"\0" not in data else None
    except UnicodeDecodeError:
        text = None
    return SourceFile(sha256_bytes(data), text)


def diff_files(
    before: Mapping[str, SourceFile] | None, after: Mapping[str, SourceFile] | None, told: Collection[str] = ()
) -> tuple[FileDiff, ...]:
    """The files that differ; nothing if a bundle is not known.

    Args:
        before: of the first.
        after: of the second.
        told: paths whose lines are told elsewhere, as a notebook's cells are.
    """
    if before is None or after is None:
        return ()
    found = []
    for path, old, new in pair_names(before, after):
        change = presence(path, before, after) or Change.CHANGED
        if old == new:
            continue
        texts = [side.text if side else "" for side in (old, new)]
        hidden = path in told or path.endswith(".ipynb") or None in texts
        found.append(FileDiff(path, change, () if hidden else diff_lines(texts[0] or "", texts[1] or "")))
    return tuple(found)
