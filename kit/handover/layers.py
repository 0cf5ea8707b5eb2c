"""Layers of an image: tar files, the same bytes for the same files, streamed and verified on the way.

Not compressed: compressed bytes differ between versions of zlib, and a layer's digest is the model's identity in a cluster.
Weights of a model hardly get smaller, and registries compress what they send if they like.

Source: OCI image specification 1.1, layer.md (github.com/opencontainers/image-spec).
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import msgspec

from kit.errors import IntegrityError, NotFoundError
from kit.files import open_regular, sha256_bytes, temporary_beside

LAYER = "application/vnd.oci.image.layer.v1.tar"


class LayerFile(msgspec.Struct, frozen=True):
    """A file of a layer: its path in the image without a slash first, where its bytes lie, and what they must be."""

    path: str
    source: Path
    sha256: str
    size_bytes: int


class Blob(msgspec.Struct, frozen=True):
    """Bytes in an image layout."""

    media_type: str
    sha256: str
    size_bytes: int

    @property
    def digest(self) -> str:
        """As references have it: `sha256:…`."""
        return f"sha256:{self.sha256}"

    @property
    def descriptor(self) -> dict[str, str | int]:
        """How other blobs refer to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


def write_layer(blobs: Path, files: Iterable[LayerFile]) -> Blob:
    """Put files into a layer, root's, readable by all, dated 1970, sorted by path.

    Args:
        blobs: the folder that holds blobs by their digest.
        files: at least one.

    Raises:
        NotFoundError: a file's bytes are not there.
        IntegrityError: they are not those that were promised, or a path leads out of the image.
    """
    chosen = sorted(files, key=lambda file: file.path)
    with temporary_beside(blobs / "layer") as temporary:
        with temporary.open("xb") as raw:
            writer = _HashingWriter(raw)
            with tarfile.open(fileobj=cast(Any, writer), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for folder in _list_folders(chosen):
                    tar.addfile(_describe(folder, tarfile.DIRTYPE, 0o755))
                for file in chosen:
                    _add(tar, file)
        blob = Blob(LAYER, writer.digest.hexdigest(), writer.size_bytes)
        temporary.rename(blobs / blob.sha256)
    return blob


def write_blob(blobs: Path, media_type: str, data: bytes) -> Blob:
    """Put bytes into an image layout."""
    blob = Blob(media_type, sha256_bytes(data), len(data))
    (blobs / blob.sha256).write_bytes(data)
    return blob


def _list_folders(files: list[LayerFile]) -> list[str]:
    """Every folder above a file, a folder before what is in it."""
    for file in files:
        path = PurePosixPath(file.path)
        if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != file.path:
            raise IntegrityError(f"{file.path!r} is no path within an image")
    folders = {str(folder) for file in files for folder in PurePosixPath(file.path).parents}
    return sorted(folders - {"."})


def _add(tar: tarfile.TarFile, file: LayerFile) -> None:
    try:
        source = open_regular(file.source)
    except FileNotFoundError:
        raise NotFoundError(f"{file.path}: its bytes {file.sha256[:12]}… are not in the archive") from None
    with source:
        reader = _HashingReader(source)
        entry = _describe(file.path, tarfile.REGTYPE, 0o644)
        entry.size = os.fstat(source.fileno()).st_size
        if entry.size == file.size_bytes:
            tar.addfile(entry, reader)
    if entry.size != file.size_bytes or reader.digest.hexdigest() != file.sha256:
        raise IntegrityError(
            f"{file.path} was changed in the archive: expected {file.size_bytes:,} bytes with the digest "
            f"{file.sha256[:12]}…, found {entry.size:,} bytes with another one"
        )


def _describe(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)  # root's, dated 1970, as TarInfo has it
    entry.type, entry.mode = kind, mode
    return entry


class _HashingReader:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _HashingWriter:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.size_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)
