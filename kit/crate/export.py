"""Writing an export: one zip, the same bytes for the same archive; large files are copied in pieces and verified on the way."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import stat
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from kit.archive import STATEMENT, Archive
from kit.crate.contents import (
    MANIFEST,
    METADATA,
    README,
    Contents,
    CrateFile,
    collect_record,
    collect_release,
)
from kit.crate.licence import read_licence
from kit.crate.limits import require_within_limits
from kit.crate.metadata import describe_contents
from kit.crate.proof import make_proof
from kit.crate.stated import require_stated
from kit.errors import IntegrityError, UsageError
from kit.files import copy_stream, open_regular, sync_file, sync_folder, temporary_beside
from kit.gate import Release
from kit.names import find_unportable
from kit.record import Record
from kit.signing import PublicKey

GUIDE = "check-an-export.md"  # the page of that name in docs/, so that each export brings it along
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Export(msgspec.Struct, frozen=True):
    """What was exported.

    Attributes:
        path: of the zip.
        records: ids, in the order of execution.
        release: id; empty for a record's export.
        signers: ids of the keys that signed the records' statements.
        unsigned: records that no key signed, so that nothing says who executed them.
        n_files: how many files are in it.
        size_bytes: of the zip.
    """

    path: str
    records: tuple[str, ...]
    release: str
    signers: tuple[str, ...]
    unsigned: tuple[str, ...]
    n_files: int
    size_bytes: int


def export_crate(
    archive: Archive, subject: Record | Release, target: Path, project: str, keys: Sequence[PublicKey] = ()
) -> Export:
    """Put a record, or a release with all that it came from, into a zip that can be checked without kit.

    Args:
        archive: only read.
        subject: what to export.
        target: the zip; must not be there.
        project: its name, for readers.
        keys: public keys to put beside what they signed.

    Raises:
        UsageError: the target is there already, the record was never closed, or a name cannot be held by every system.
        NotFoundError: something that belongs to it is not in the archive.
        IntegrityError: something was changed.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: choose another name, or remove it")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} to put {target.name} into")
    contents = collect_release(archive, subject) if isinstance(subject, Release) else collect_record(archive, subject)
    signers = _require_sound(archive, contents)
    files = _complete(archive, contents, project, keys)
    with temporary_beside(target) as temporary:
        _write(temporary, files, contents.list_folders())
        sync_file(temporary)
        temporary.rename(target)
    sync_folder(target.parent)
    return Export(
        path=str(target),
        records=tuple(record.id for record in contents.records),
        release=contents.release.id if contents.release else "",
        signers=tuple(sorted({key for keys in signers.values() for key in keys})),
        unsigned=tuple(record_id for record_id, keys in signers.items() if not keys),
        n_files=len(files),
        size_bytes=target.stat().st_size,
    )


def _require_sound(archive: Archive, contents: Contents) -> dict[str, list[str]]:
    """Refuse records that their statements are not about; gives the ids of the keys that signed each."""
    signers = {}
    for record in contents.records:
        digests = {file.path.split("/", 2)[2]: file.sha256 for file in contents.files[record.id]}
        if STATEMENT not in digests:
            raise IntegrityError(f"record {record.id} has no {STATEMENT}; without it nobody could check the export")
        envelope = archive.read_envelope(record.id)
        require_stated(record, envelope, digests)
        signers[record.id] = [name for name, _ in envelope.signatures]
    return signers


def _complete(archive: Archive, contents: Contents, project: str, keys: Sequence[PublicKey]) -> list[CrateFile]:
    """All files: description, manifest, then the rest by path."""
    guide = importlib.resources.files("kit.crate").joinpath(GUIDE).read_bytes()
    extra = [CrateFile.of_bytes(README, guide), *make_proof(archive, contents.records, keys)]
    licence = read_licence(archive.objects.path(contents.records[-1].code.bundle_sha256))
    metadata = describe_contents(contents, extra, project, licence)
    description = CrateFile.of_bytes(METADATA, metadata, "application/ld+json")
    rest = sorted([*contents.list_files(), *extra], key=lambda file: file.path)
    lines = [f"{file.sha256}  {file.path}\n" for file in (description, *rest)]
    files = [description, CrateFile.of_bytes(MANIFEST, "".join(lines).encode()), *rest]
    if problem := find_unportable(file.path for file in files):
        raise UsageError(f"this cannot be exported: {problem}")
    require_within_limits(len(files), sum(file.size_bytes for file in files))
    return files


def _write(path: Path, files: Iterable[CrateFile], folders: Iterable[str]) -> None:
    """Stored, not deflated, because compressed bytes differ between versions of zlib."""
    with path.open("xb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for folder in folders:  # those that are described, because a checker looks for them by name
            entry = zipfile.ZipInfo(folder, _EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10  # 0x10: a folder, for MS-DOS
            archive.writestr(entry, b"")
        for file in files:
            entry = zipfile.ZipInfo(file.path, _EPOCH)
            entry.create_system = 3  # Unix, whatever system makes it
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = file.size_bytes  # so that large ones get the headers of zip64
            with _open(file) as source, archive.open(entry, "w") as target:
                _copy(file, source, target)


def _open(file: CrateFile) -> contextlib.AbstractContextManager[IO[bytes]]:
    return io.BytesIO(file.source) if isinstance(file.source, bytes) else open_regular(file.source)


def _copy(file: CrateFile, source: IO[bytes], target: IO[bytes]) -> None:
    sha256, _ = copy_stream(source, target)
    if sha256 != file.sha256:
        raise IntegrityError(
            f"{file.path} was changed in the archive: expected the digest {file.sha256[:12]}…, found {sha256[:12]}…"
        )
