"""Writing a release file: one zip, the same bytes for the same release; large files are copied in pieces, verified on the way."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from kit.archive import RELEASE_FILE, STATEMENT, VERDICT, Archive
from kit.artifact import Artifact
from kit.bundle import Bundle
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.execute.sources import BUNDLE
from kit.files import copy_stream, open_regular, read_regular, sha256_bytes, sync_file, sync_folder, temporary_beside
from kit.gate import Manifest, Release
from kit.release.contents import ARTIFACTS, LOCK, MARKER, README, SUMS, Marker, open_contents, record_file
from kit.release.difference import readable_release
from kit.release.guide import describe_release_file
from kit.release.installed import find_lock
from kit.release.verdict import short

_EPOCH = (1980, 1, 1, 0, 0, 0)


class Exported(msgspec.Struct, frozen=True):
    """A release file that was written.

    Attributes:
        path: of the file.
        release: id.
        sha256: of the file.
        n_files: in it.
        size_bytes: of it.
        signers: ids of the keys that signed verdict, cut and training; empty where one of them is not signed.
    """

    path: str
    release: str
    sha256: str
    n_files: int
    size_bytes: int
    signers: tuple[str, ...]


class _Member(msgspec.Struct, frozen=True):
    """A file to be written: its bytes, or the object that holds them."""

    name: str
    sha256: str
    size_bytes: int
    source: bytes | Path


def export_release(archive: Archive, release: Release, target: Path, project: str, *, force: bool = False) -> Exported:
    """Put a release into one file that runs and is served without the project, its archive and git.

    Args:
        archive: only read.
        release: to be exported; every byte of it is verified.
        target: the file; put in its place when it is whole.
        project: its name, for people.
        force: replace a file that is there.

    Raises:
        UsageError: there is a file, or no folder for one.
        NotFoundError: a record that belongs to the release is not in the archive.
        IntegrityError: something is not what was released.
    """
    if target.exists() and not force:
        raise UsageError(f"{target} is there already: choose another name, or give --force to replace it")
    if not target.parent.is_dir() or target.is_dir():
        raise UsageError(f"{target} is a folder, or there is no folder {target.parent} to put {target.name} into")
    with readable_release(release.environment):
        manifest = archive.read_manifest(release)
        members = _complete([*_list_members(archive, release, manifest, project)])
        with temporary_beside(target) as temporary:
            sha256 = _write(temporary, members)
            with open_contents(temporary):  # what nobody could open is not handed out
                pass
            sync_file(temporary)
            temporary.replace(target)
    sync_folder(target.parent)
    signers = _list_signers(archive, release, manifest)
    return Exported(str(target), release.id, sha256, len(members), target.stat().st_size, signers)


def _list_members(archive: Archive, release: Release, manifest: Manifest, project: str) -> Iterator[_Member]:
    """All files but the list of digests."""
    bundle = Bundle(archive.objects.read(manifest.bundle_sha256))
    lock = find_lock(bundle, manifest)
    cut, training = (archive.read_record(each) for each in (release.record, manifest.training_record))
    yield _of_bytes(MARKER, Marker(project, archive.origin, release).encode())
    yield _of_bytes(README, describe_release_file(release, manifest, cut, training, bundle, project).encode())
    yield _of_bytes(RELEASE_FILE, archive.objects.read(release.manifest_sha256))
    yield _of_bytes(VERDICT, _read_file(archive, release.record, VERDICT))
    yield _of_bytes(BUNDLE, bundle.data)
    if lock:
        yield _of_bytes(LOCK, lock[1])
    for record_id in dict.fromkeys((release.record, manifest.training_record)):
        for name in ("record.json", STATEMENT):
            yield _of_bytes(record_file(record_id, name), _read_file(archive, record_id, name))
    for artifact in manifest.artifacts:
        yield from _list_artifact(archive, artifact)


def _of_bytes(name: str, data: bytes) -> _Member:
    return _Member(name, sha256_bytes(data), len(data), data)


def _read_file(archive: Archive, record_id: str, name: str) -> bytes:
    path = archive.record_folder(record_id) / name
    if not path.is_file():
        raise NotFoundError(f"record {record_id} has no {name}")
    return read_regular(path)


def _list_artifact(archive: Archive, artifact: Artifact) -> Iterator[_Member]:
    objects = archive.objects
    path = f"{ARTIFACTS}/{artifact.name}"
    if not artifact.is_folder:
        yield _Member(path, artifact.sha256, artifact.size_bytes, objects.path(artifact.sha256))
        return
    for entry in objects.read_tree(artifact).files:
        yield _Member(f"{path}/{entry.path}", entry.sha256, entry.size_bytes, objects.path(entry.sha256))


def _complete(members: Sequence[_Member]) -> list[_Member]:
    """With the list of digests, the marker first, the rest by name."""
    ordered = sorted(members, key=lambda member: (member.name != MARKER, member.name))
    lines = [f"{member.sha256}  {member.name}\n" for member in ordered]
    return [ordered[0], _of_bytes(SUMS, "".join(lines).encode()), *ordered[1:]]


def _write(path: Path, members: Sequence[_Member]) -> str:
    """Stored, not deflated, because compressed bytes differ between versions of zlib; gives the digest of the file."""
    with path.open("xb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.name, _EPOCH)
            entry.create_system = 3  # Unix, whatever system makes it
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = member.size_bytes  # so that large ones get the headers of zip64
            with _open(member) as source, archive.open(entry, "w") as target:
                _copy(member, source, target)
    with path.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def _open(member: _Member) -> IO[bytes]:
    if isinstance(member.source, bytes):
        return io.BytesIO(member.source)
    try:
        return open_regular(member.source)
    except FileNotFoundError as error:
        raise NotFoundError(f"{member.name}: object {short(member.sha256)} is not in the archive") from error
    except OSError as error:
        raise IntegrityError(
            f"{member.name}: object {short(member.sha256)} cannot be read: {error.strerror}"
        ) from error


def _copy(member: _Member, source: IO[bytes], target: IO[bytes]) -> None:
    sha256, _ = copy_stream(source, target)
    if sha256 != member.sha256:
        raise IntegrityError(
            f"{member.name} was changed in the archive: expected {short(member.sha256)}, found {short(sha256)}"
        )


def _list_signers(archive: Archive, release: Release, manifest: Manifest) -> tuple[str, ...]:
    names = ((release.record, VERDICT), (release.record, STATEMENT), (manifest.training_record, STATEMENT))
    signers = [[key for key, _ in archive.read_envelope(record, name).signatures] for record, name in names]
    return tuple(sorted({key for keys in signers for key in keys})) if all(signers) else ()
