"""Opening a zip that a stranger may have made: no list of files is read whatever its size, no fault of it is a crash."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from kit.crate.limits import LIMITS, Limits
from kit.errors import IntegrityError
from kit.files import format_bytes

_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@contextlib.contextmanager
def open_zip(file: Path, limits: Limits = LIMITS) -> Iterator[zipfile.ZipFile]:
    """A zip, its list of files read and nothing else.

    Raises:
        IntegrityError: it is none, or its list is too large.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_Bounded(file.open("rb", buffering=0), limits.list_bytes))
        with readable("the file"):
            archive = stack.enter_context(zipfile.ZipFile(raw))
        yield archive


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Around each call of zipfile: whatever it says of a broken zip is one error of ours."""
    try:
        yield
    except _FAULTS as error:
        raise IntegrityError(f"{what} cannot be read as a zip: {error or type(error).__name__}") from error


def read_source(bundle: Path, name: str, limits: Limits = LIMITS) -> bytes | None:
    """One file of a bundle of sources; None if it has none of that name.

    Raises:
        IntegrityError: the bundle is no zip, or the file is packed or too large, as in no bundle that kit makes.
    """
    with open_zip(bundle, limits) as archive:
        entry = next((each for each in archive.infolist() if each.filename == name), None)
        if entry is None:
            return None
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limits.list_bytes:
            raise IntegrityError(f"{name} in the bundle is packed, or larger than {format_bytes(limits.list_bytes)}")
        with readable(f"{name} in the bundle"):
            return archive.read(entry)


class _Bounded(io.BufferedReader):
    """A file of which no single read gives more than some bytes: zipfile reads the whole list of entries at once."""

    def __init__(self, raw: io.FileIO, limit_bytes: int) -> None:
        super().__init__(raw)
        self._limit_bytes = limit_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """At most the limit; what asks for more and gets it is refused."""
        most = self._limit_bytes + 1
        if size is None or size < 0:  # in pieces, because a buffer of the size that is asked for is made at once
            data = b""
            while len(data) < most and (piece := super().read(io.DEFAULT_BUFFER_SIZE)):
                data += piece
        else:
            data = super().read(min(size, most))
        if len(data) > self._limit_bytes:
            raise IntegrityError(f"its list of files is larger than {format_bytes(self._limit_bytes)}")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As usual; a place before the file's start is a fault of the zip, not of the disk."""
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("an entry lies before the start of the file")
        return super().seek(offset, whence)
