"""The members of a zip that a stranger may have made: stored regular files under plain names, nothing else is taken."""

from __future__ import annotations

import contextlib
import hashlib
import io
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from kit.errors import IntegrityError
from kit.files import CHUNK_BYTES, format_bytes

MAX_MEMBERS = 50_000
MAX_LIST_BYTES = 16 << 20  # of what is read at once: the zip's list of its members, a record, a release.json
_NAME_BYTES = 255  # what the file systems of Linux, macOS and Windows hold
_UTF8 = 0x800
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


class Members:
    """An open zip whose list of members is in order; bytes are read only when they are asked for.

    Attributes:
        sizes: bytes by name.
    """

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise IntegrityError(f"it holds {len(entries)} files, more than {MAX_MEMBERS}")
        for entry in entries:
            _require_plain(entry)
        _require_apart(entry.filename for entry in entries)
        if sum(entry.file_size for entry in entries) > size_bytes:
            raise IntegrityError("its files lie over each other: together they are larger than the zip")
        self._archive = archive
        self.sizes = {entry.filename: entry.file_size for entry in entries}

    def read(self, name: str, limit_bytes: int = MAX_LIST_BYTES) -> bytes:
        """The bytes of a member.

        Raises:
            IntegrityError: there is none of that name, it is larger than the limit, or it cannot be read.
        """
        if name not in self.sizes:
            raise IntegrityError(f"{name} is missing")
        if self.sizes[name] > limit_bytes:
            raise IntegrityError(f"{name} is larger than {format_bytes(limit_bytes)}")
        target = io.BytesIO()
        self.copy(name, target)
        return target.getvalue()

    def copy(self, name: str, target: IO[bytes]) -> str:
        """Copy a member; gives the digest of what was written.

        Raises:
            IntegrityError: it cannot be read, or is not as long as the zip's list says.
        """
        digest, size_bytes = hashlib.sha256(), 0
        for chunk in self._chunks(name):
            size_bytes += len(chunk)
            digest.update(chunk)
            target.write(chunk)
        if size_bytes != self.sizes[name]:
            raise IntegrityError(f"{name}: expected {self.sizes[name]} bytes, found {size_bytes}")
        return digest.hexdigest()

    def _chunks(self, name: str) -> Iterator[bytes]:
        with readable(name):
            file = self._archive.open(name)
        with file:
            while True:
                with readable(name):
                    chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk


@contextlib.contextmanager
def open_members(file: Path) -> Iterator[Members]:
    """Open a zip for reading.

    Raises:
        IntegrityError: it is none, or not one of stored regular files only.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_Bounded(file.open("rb", buffering=0)))
        with readable("it"):
            archive = stack.enter_context(zipfile.ZipFile(raw))
        yield Members(archive, file.stat().st_size)


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Around each call of zipfile: whatever it says of a broken zip is one error of ours."""
    try:
        yield
    except _FAULTS as error:
        raise IntegrityError(f"{what} cannot be read as a zip: {error or type(error).__name__}") from error


def _require_plain(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.split("/")
    odd = not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts)
    if odd or entry.orig_filename != name or any(len(part.encode()) > _NAME_BYTES for part in parts):
        raise IntegrityError(f"{entry.orig_filename!r} is no name of a file in it that every system can hold")
    is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    is_file = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    if not (is_stored and is_file) or entry.flag_bits & ~_UTF8:
        raise IntegrityError(
            f"{name!r} is packed, encrypted, a link or another special file; only stored files are taken"
        )


def _require_apart(names: Iterable[str]) -> None:
    """Names that stand twice, also for a system that ignores case or accents, and files that are also folders."""
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in files:
            raise IntegrityError(f"the name {name!r} stands twice")
        files.add(folded)
        parts = folded.split("/")
        folders.update("/".join(parts[:n]) for n in range(1, len(parts)))
    if both := sorted(files & folders):
        raise IntegrityError(f"{both[0]!r} is a file and also a folder")


class _Bounded(io.BufferedReader):
    """A file of which no single read gives more than some bytes: zipfile reads the whole list of members at once."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most the limit; what asks for more and gets it is refused."""
        most = MAX_LIST_BYTES + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        if len(data) > MAX_LIST_BYTES:
            raise IntegrityError(f"its list of files is larger than {format_bytes(MAX_LIST_BYTES)}")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As usual; a place before the file's start is a fault of the zip, not of the disk."""
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("a file lies before the start of the zip")
        return super().seek(offset, whence)
