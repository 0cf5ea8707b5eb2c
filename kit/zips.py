"""Opening a zip that a stranger may have made: no list of files is read whatever its size, no fault of it is a crash."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from kit.errors import IntegrityError
from kit.files import format_bytes

MAX_LIST_BYTES = 16 << 20  # of what is read at once: a zip's list of its files, a record, a release.json

_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@contextlib.contextmanager
def open_zip(file: Path, list_bytes: int = MAX_LIST_BYTES) -> Iterator[zipfile.ZipFile]:
    """A zip, its list of files read and nothing else.

    Raises:
        IntegrityError: it is none, or its list is too large.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_Bounded(file.open("rb", buffering=0), list_bytes))
        with readable("it"):
            archive = stack.enter_context(zipfile.ZipFile(raw))
        yield archive


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Around each call of zipfile: whatever it says of a broken zip is one error of ours."""
    try:
        yield
    except _FAULTS as error:
        raise IntegrityError(f"{what} cannot be read as a zip: {error or type(error).__name__}") from error


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
            raise zipfile.BadZipFile("a file lies before the start of the zip")
        return super().seek(offset, whence)
