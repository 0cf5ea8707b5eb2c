"""Which files belong in an export: the records, everything that they read and wrote, and the sources that they executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from kit.archive import RELEASE_FILE, Archive
from kit.artifact import TREE_MEDIA_TYPE, Artifact, media_type_of
from kit.crate.limits import LIMITS, Limits
from kit.crate.source import read_source
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import sha256_bytes, sha256_file
from kit.gate import Release, decode_manifest
from kit.lineage import read_lineage
from kit.record import Record, Status

METADATA = "ro-crate-metadata.json"
MANIFEST = "manifest-sha256.txt"
README = "README.md"
RECORDS = "records"
ARTIFACTS = "artifacts"
FOLDERS = "folders"
WORKFLOW = "workflow"
PROOF = "proof"


class CrateFile(msgspec.Struct, frozen=True):
    """One file of an export.

    Attributes:
        path: in the crate, with `/`.
        source: where its bytes lie, or the bytes themselves.
        sha256: what they must have.
        size_bytes: how many they are.
        media_type: IANA style.
    """

    path: str
    source: Path | bytes
    sha256: str
    size_bytes: int
    media_type: str

    @classmethod
    def of_bytes(cls, path: str, data: bytes, media_type: str = "") -> CrateFile:
        """A file made for the export."""
        return cls(path, data, sha256_bytes(data), len(data), media_type or media_type_of(path))


class Placed(msgspec.Struct, frozen=True):
    """An artifact's place in a crate; one place for each content, whoever read or wrote it under whatever name.

    Attributes:
        artifact: under the first of its names.
        path: of the file, or of the folder with `/` at its end.
        files: all that belong to it; for a folder its `Tree` too, which is the object that its digest names.
    """

    artifact: Artifact
    path: str
    files: tuple[CrateFile, ...]


class Contents(msgspec.Struct, frozen=True):
    """What an export holds, without its description and proof.

    Attributes:
        records: in the order in which they were executed.
        release: if it is a release's export; its records are then the release's whole lineage.
        files: of the records, by record id.
        placed: artifacts, bundles and configurations by `key_of`.
        notebooks: the notebook that a record executed, taken out of its bundle, by record id.
        reads: artifacts that an execution read, by record id: its inputs, for `run` also what its release pins.
    """

    records: tuple[Record, ...]
    release: Release | None
    files: dict[str, tuple[CrateFile, ...]]
    placed: dict[str, Placed]
    notebooks: dict[str, CrateFile]
    reads: dict[str, tuple[Artifact, ...]]

    def list_files(self) -> Iterator[CrateFile]:
        """Every file once."""
        for files in self.files.values():
            yield from files
        for placed in self.placed.values():
            yield from placed.files
        yield from self.notebooks.values()

    def list_folders(self) -> list[str]:
        """Folders that stand for something: records and folder artifacts, with `/` at the end."""
        records = [f"{RECORDS}/{record.id}/" for record in self.records]
        return [*records, *(placed.path for placed in self.placed.values() if placed.artifact.is_folder)]


def key_of(artifact: Artifact) -> str:
    """What a content is placed by: its digest, and whether that is of a file or of a folder's `Tree`."""
    return f"{artifact.sha256}{'/' if artifact.is_folder else ''}"


def collect_record(archive: Archive, record: Record) -> Contents:
    """What the export of one record holds.

    Raises:
        UsageError: it was never closed.
        NotFoundError: something that belongs to it is not in the archive.
        IntegrityError: a file was changed.
    """
    return _collect(archive, [record], None)


def collect_release(archive: Archive, release: Release) -> Contents:
    """What the export of a release holds: the record that cut it, and all whose work went into that one.

    Raises:
        NotFoundError: something that belongs to them is not in the archive.
        IntegrityError: a file was changed.
    """
    return _collect(archive, list_lineage(archive, release), release)


def list_lineage(archive: Archive, release: Release) -> list[Record]:
    """The records that a release came from, itself and the builds of its sources included, oldest first."""
    waiting = [release.record, archive.read_manifest(release).training_record]
    found: dict[str, Record] = {}
    while waiting:
        if (record_id := waiting.pop()) not in found:
            for record in read_lineage(archive, archive.read_record(record_id)):
                found[record.id] = record
                waiting += [record.code.build] if record.code.build else []
    return sorted(found.values(), key=lambda record: (record.started, record.id))


def _collect(archive: Archive, records: Sequence[Record], release: Release | None) -> Contents:
    files, placed, notebooks, reads = {}, dict[str, Placed](), {}, {}
    for record in records:
        if record.status in (Status.STARTED, Status.LOST):
            raise UsageError(f"record {record.id} was never closed ({record.status}); only a sealed record is exported")
        files[record.id] = tuple(_list_record(archive, record))
        reads[record.id] = tuple(list_reads(record, archive.objects.read))
        for artifact in (*record.outputs, *reads[record.id], *_pinned(archive, record)):
            if key_of(artifact) not in placed:
                placed[key_of(artifact)] = _place(archive, artifact)
        name = PurePosixPath(record.code.notebook).name
        notebook = read_notebook(record, archive.objects.path(record.code.bundle_sha256))
        notebooks[record.id] = CrateFile.of_bytes(f"{WORKFLOW}/{record.id}/{name}", notebook)
    return Contents(tuple(records), release, files, placed, notebooks, reads)


def list_reads(record: Record, read: Callable[[str], bytes]) -> Iterator[Artifact]:
    """Artifacts that an execution read: its inputs, and for `run` the model that its release pins.

    Args:
        record: of the execution.
        read: gives the bytes of an object.

    Raises:
        IntegrityError: it ran a release and read no release.json.
    """
    yield from (each.artifact for each in record.inputs)
    if record.release:
        manifest = next((each.artifact for each in record.inputs if each.artifact.name == RELEASE_FILE), None)
        if manifest is None:
            raise IntegrityError(
                f"record {record.id} ran {record.release} and names no {RELEASE_FILE} among its inputs"
            )
        yield from decode_manifest(read(manifest.sha256), f"record {record.id}, release.json").artifacts


def _pinned(archive: Archive, record: Record) -> Iterator[Artifact]:
    """What a record names by digest only: its sources and the effective configuration."""
    for name, sha256 in (
        ("bundle.zip", record.code.bundle_sha256),
        ("configuration.json", record.configuration_sha256),
    ):
        size_bytes = _object(archive, name, sha256).stat().st_size
        yield Artifact(name, sha256, size_bytes, media_type_of(name))


def _list_record(archive: Archive, record: Record) -> Iterator[CrateFile]:
    folder = archive.record_folder(record.id)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"record {record.id} holds {path.name!r}, which is no regular file")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            yield _describe(f"{RECORDS}/{record.id}/{name}", path, sha256_file(path), media_type_of(name))


def _place(archive: Archive, artifact: Artifact) -> Placed:
    source = _object(archive, artifact.name, artifact.sha256)
    path = place_of(artifact)
    if not artifact.is_folder:
        return Placed(artifact, path, (_describe(path, source, artifact.sha256, artifact.media_type),))
    files = [_describe(tree_place_of(artifact.sha256), source, artifact.sha256, TREE_MEDIA_TYPE)]
    for each in archive.objects.read_tree(artifact).files:
        member = _object(archive, f"{artifact.name}/{each.path}", each.sha256)
        files.append(_describe(f"{path}{each.path}", member, each.sha256, media_type_of(each.path)))
    return Placed(artifact, path, tuple(files))


def place_of(artifact: Artifact) -> str:
    """Where an artifact lies in a crate: under its name, in a folder that its content names; `/` at a folder's end."""
    if artifact.is_folder:
        return f"{FOLDERS}/{artifact.sha256[:16]}/{artifact.name}/"
    return f"{ARTIFACTS}/{artifact.sha256[:16]}/{artifact.name}"


def tree_place_of(sha256: str) -> str:
    """Where the list of a folder artifact's files lies."""
    return f"{FOLDERS}/{sha256[:16]}.tree.json"


def _describe(path: str, source: Path, sha256: str, media_type: str) -> CrateFile:
    return CrateFile(path, source, sha256, source.stat().st_size, media_type)


def _object(archive: Archive, name: str, sha256: str) -> Path:
    if not archive.objects.has(sha256):
        raise NotFoundError(
            f"{name}: object {sha256[:12]}… is not in the archive; without it the export would be incomplete"
        )
    return archive.objects.path(sha256)


def read_notebook(record: Record, bundle: Path, limits: Limits = LIMITS) -> bytes:
    """The notebook that a record executed, out of its bundle.

    Raises:
        IntegrityError: the bundle does not have the notebook that the record names.
    """
    data = read_source(bundle, record.code.notebook, limits)
    if data is None or sha256_bytes(data) != record.code.notebook_sha256:
        what = "is missing" if data is None else "is not the notebook that the record names"
        raise IntegrityError(f"record {record.id}: {record.code.notebook} in its bundle {what}")
    return data
