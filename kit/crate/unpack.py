"""Reading a zip that a stranger made: no name is trusted, no size is believed, nothing is written but where it is asked.

Refused are entries that are no regular files, encrypted ones, names that lead elsewhere or that some system would not keep apart,
whatever the manifest does not name or names and lacks, and more than the limits allow, counted while reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kit.crate.contents import MANIFEST
from kit.crate.limits import LIMITS, Limits
from kit.errors import IntegrityError
from kit.files import CHUNK_BYTES, format_bytes
from kit.names import find_unportable
from kit.zips import open_zip, readable

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_ENCRYPTED = 0x1 | 0x40 | 0x2000


class Crate:
    """An open export whose names are in order; its bytes are verified when they are copied.

    Attributes:
        manifest: digests by path, of every file but the manifest.
    """

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int, limits: Limits) -> None:
        self._archive, self._limits, self._left = archive, limits, limits.size_bytes
        self._entries = _list_entries(archive, size_bytes, limits)
        self.manifest = self._read_manifest()

    def copy(self, path: str, target: IO[bytes] | None) -> None:
        """Copy a file, or only read it.

        Raises:
            IntegrityError: it does not have the digest that the manifest names, or the limits are reached.
        """
        digest = hashlib.sha256()
        for chunk in self._read(path):
            digest.update(chunk)
            if target:
                target.write(chunk)
        if digest.hexdigest() != self.manifest[path]:
            expected = f"expected the digest {self.manifest[path][:12]}…, found {digest.hexdigest()[:12]}…"
            raise IntegrityError(f"{path}: {expected}")

    def _read(self, path: str) -> Iterator[bytes]:
        entry, size_bytes = self._entries[path], 0
        with readable(path):
            file = self._archive.open(entry)
        with file:
            while True:
                with readable(path):
                    chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    return
                size_bytes += len(chunk)
                self._left -= len(chunk)
                if size_bytes > max(self._limits.free_bytes, self._limits.ratio * entry.compress_size):
                    raise IntegrityError(f"{path} unpacks to more than {self._limits.ratio} times its size in the zip")
                if self._left < 0:
                    raise IntegrityError(f"it unpacks to more than {format_bytes(self._limits.size_bytes)}")
                yield chunk

    def _read_manifest(self) -> dict[str, str]:
        if MANIFEST not in self._entries:
            raise IntegrityError(f"it has no {MANIFEST}: it is no export of kit, or of a kit before this one")
        data = b""
        for chunk in self._read(MANIFEST):
            data += chunk
            if len(data) > self._limits.list_bytes:
                raise IntegrityError(f"{MANIFEST} is larger than {format_bytes(self._limits.list_bytes)}")
        manifest = _parse_manifest(data)
        for path in sorted(manifest.keys() ^ (self._entries.keys() - {MANIFEST})):
            what = "is named by the manifest and missing" if path in manifest else "is not named by the manifest"
            raise IntegrityError(f"{path!r} {what}")
        return manifest


@contextlib.contextmanager
def open_crate(file: Path, limits: Limits = LIMITS) -> Iterator[Crate]:
    """Open an export for reading.

    Raises:
        IntegrityError: it is no zip, or not one as kit makes them; on entering, or inside while it is read.
    """
    with open_zip(file, limits.list_bytes) as archive:
        yield Crate(archive, file.stat().st_size, limits)


def _list_entries(archive: zipfile.ZipFile, size_bytes: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The regular files by path; folders are passed over, they follow from the files."""
    entries = archive.infolist()
    files = [entry for entry in entries if not entry.filename.endswith("/")]
    if max(len(files), len(entries) // 2) > limits.n_files:
        raise IntegrityError(f"it holds {len(files)} files and {len(entries)} entries, more than {limits.n_files}")
    for entry in entries:
        _require_plain_entry(entry)
    if problem := find_unportable(entry.filename for entry in files):
        raise IntegrityError(problem)
    if sum(entry.compress_size for entry in entries) > size_bytes:
        raise IntegrityError("its entries lie over each other: together they are larger than the file")
    _require_folders_of(entries, files)
    return {entry.filename: entry for entry in files}


def _require_plain_entry(entry: zipfile.ZipInfo) -> None:
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    if entry.orig_filename != name:
        raise IntegrityError(f"entry {entry.orig_filename!r} has a name that no system can hold")
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise IntegrityError(f"{name!r} is a link or another special file; only regular files are taken")
    if entry.flag_bits & _ENCRYPTED:
        raise IntegrityError(f"{name!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise IntegrityError(f"{name!r} is packed by method {entry.compress_type}; only stored and deflated are taken")


def _require_folders_of(entries: list[zipfile.ZipInfo], files: list[zipfile.ZipInfo]) -> None:
    """Folders may stand in the list, once each, if a file lies in them."""
    above: set[str] = set()
    for entry in files:
        parts = entry.filename.split("/")
        above.update("/".join(parts[:n]) + "/" for n in range(1, len(parts)))
    for entry in entries:
        if entry.filename.endswith("/"):
            if entry.filename not in above or entry.file_size:
                raise IntegrityError(f"{entry.filename!r} is a folder of no file, or stands twice")
            above.discard(entry.filename)


def _parse_manifest(data: bytes) -> dict[str, str]:
    manifest: dict[str, str] = {}
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{MANIFEST} is no UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in manifest:
            raise IntegrityError(
                f"{MANIFEST}, line {number}: expected a digest, two blanks and a new name, found {line[:99]!r}"
            )
        manifest[match[2]] = match[1]
    return manifest
