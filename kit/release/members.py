"""The members of a zip that a stranger may have made: stored regular files under plain names, nothing else is taken."""

from __future__ import annotations

import contextlib
import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kit.errors import IntegrityError
from kit.files import CHUNK_BYTES, format_bytes
from kit.names import find_unportable
from kit.zips import MAX_LIST_BYTES, open_zip, readable

MAX_MEMBERS = 50_000
_UTF8 = 0x800
# Bytes of a zip beside names and data. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16.
_LOCAL_HEADER, _LIST_ENTRY, _END = 30, 46, 22
_LARGE_LOCAL, _LARGE_END = 20, 56 + 20


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
        if problem := find_unportable(entry.filename for entry in entries):
            raise IntegrityError(problem)
        if sum(entry.file_size for entry in entries) > size_bytes:
            raise IntegrityError("its files lie over each other: together they are larger than the zip")
        _require_nothing_else(archive, entries, size_bytes)
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
    with open_zip(file, MAX_LIST_BYTES) as archive:
        yield Members(archive, file.stat().st_size)


def _require_plain(entry: zipfile.ZipInfo) -> None:
    if entry.orig_filename != entry.filename:
        raise IntegrityError(f"{entry.orig_filename!r} is no name of a file in it that every system can hold")
    is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    is_file = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    if not (is_stored and is_file) or entry.flag_bits & ~_UTF8:
        raise IntegrityError(
            f"{entry.filename!r} is packed, encrypted, a link or another special file; only stored files are taken"
        )


def _require_nothing_else(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], size_bytes: int) -> None:
    """Refuse bytes that belong to no file of the list: other programs may find other files in them.

    So one file cannot be a good release to kit and something else to `unzip`, a shell, or whoever looks for a second list.
    """
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in ordered), archive.start_dir]
    stops = [_LOCAL_HEADER + len(each.filename.encode()) + each.file_size + each.header_offset for each in ordered]
    gaps = [start - stop for stop, start in zip([0, *stops], starts, strict=True)]
    n_list = sum(_LIST_ENTRY + len(each.filename.encode()) + len(each.extra) + len(each.comment) for each in entries)
    rest = size_bytes - archive.start_dir - n_list
    is_tight = gaps[0] == 0 and {0, _LARGE_LOCAL}.issuperset(gaps) and rest in (_END, _END + _LARGE_END)
    if not is_tight or archive.comment:
        raise IntegrityError("bytes in it belong to none of its files: in front of them, between them or behind them")
