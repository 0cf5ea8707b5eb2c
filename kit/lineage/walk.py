"""Walking back from an artifact, a record or a release, as a list for gates and as a tree for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact, InputArtifact
from kit.errors import IntegrityError, KitError
from kit.execute.sources import BUNDLE
from kit.files import format_time
from kit.gate import Manifest, Release
from kit.lineage.node import Finding, Kind, Node, artifact_node, environment_node, manifest_facts, record_node
from kit.record import Record

MAX_DEPTH = 100  # records on one path; real ones have under ten, and a tree must fit the stack of whoever prints it
RELEASE_FILE = "release.json"


def read_lineage(archive: Archive, record: Record) -> list[Record]:
    """A record and all records that its inputs came from, nearest first.

    Raises:
        NotFoundError: one is gone.
        IntegrityError: one cannot be read, or does not have the output that was read from it.
    """
    found = {record.id: record}
    waiting = [record]
    while waiting:
        for each in (reader := waiting.pop(0)).inputs:
            if not each.record:
                continue
            producer = found.get(each.record) or archive.read_record(each.record)
            if not _wrote(producer, each.artifact):
                raise IntegrityError(
                    f"record {producer.id} did not write the {each.artifact.name!r} that {reader.id} read"
                )
            if producer.id not in found:
                found[producer.id] = producer
                waiting.append(producer)
    return list(found.values())


def trace_record(archive: Archive, record: Record) -> Node:
    """A record as a tree; never raises for what it finds on the way."""
    return _Walker(archive).describe_record(record)


def trace_artifact(
    archive: Archive, artifact: Artifact, writers: Sequence[Record], readers: Sequence[Record] = ()
) -> Node:
    """An artifact as a tree.

    Args:
        archive: where the records lie.
        artifact: what is asked about.
        writers: records that wrote these bytes; the first is told in full, the others are named.
        readers: records that read them; if no one wrote them, these tell where they lay.
    """
    walker = _Walker(archive)
    children = [walker.describe_record(record) for record in writers[:1]]
    children += [record_node(record, repeated=True, detail="wrote the same bytes") for record in writers[1:]]
    if not writers:
        read = (each for record in readers for each in record.inputs if each.artifact.sha256 == artifact.sha256)
        origins = {each.origin: each for each in read}
        children = [walker.describe_origin(each) for each in origins.values()]
    return artifact_node(archive, artifact, children=tuple(children))


def trace_release(archive: Archive, release: Release) -> Node:
    """A release as a tree; never raises for what it finds on the way."""
    return _Walker(archive).describe_release(release)


class _Walker:
    """Tells each record once in full; a second mention, or a circle of them, refers to the first."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._told: set[str] = set()
        self._path: list[str] = []

    def find_record(self, record_id: str, role: str, deny: Callable[[Record], str]) -> Node:
        """The record of an id; `deny` says why it cannot be what it is taken for, if it cannot."""
        if record_id in self._path:
            detail = "is an origin of itself, which no execution can be: this archive was tampered with"
            return Node(kind=Kind.RECORD, name=record_id, finding=Finding.CONTRADICTS, detail=detail, repeated=True)
        if len(self._path) >= MAX_DEPTH:
            detail = f"not followed: more than {MAX_DEPTH} records lie on this path"
            return Node(kind=Kind.RECORD, name=record_id, finding=Finding.UNDECIDED, detail=detail)
        try:
            record = self._archive.read_record(record_id)
        except (KitError, OSError) as error:
            detail = f"{role} cannot be read: {error}"
            return Node(kind=Kind.RECORD, name=record_id, finding=Finding.UNDECIDED, detail=detail)
        node = self.describe_record(record)
        if denied := deny(record):
            return msgspec.structs.replace(node, finding=Finding.CONTRADICTS, detail=denied)
        return node

    def describe_record(self, record: Record) -> Node:
        """A record with its code, its environment and its inputs."""
        if record.id in self._told:
            return record_node(record, repeated=True)
        self._told.add(record.id)
        self._path.append(record.id)
        children = [self._describe_code(record), environment_node(record)]
        if record.release:
            children.append(self._describe_released(record.release))
        children += [
            artifact_node(self._archive, each.artifact, changed=_changed(each), children=(self.describe_origin(each),))
            for each in record.inputs
        ]
        self._path.pop()
        return record_node(record, children=tuple(children))

    def describe_origin(self, each: InputArtifact) -> Node:
        """The record or the location that an input came from."""
        if each.record:
            return self.find_record(each.record, "its producer", lambda record: _denial(record, each.artifact))
        return Node(kind=Kind.SOURCE, name=each.source or "(not recorded)")

    def describe_release(self, release: Release) -> Node:
        """A release with the record that cut it and the training that it releases."""
        facts = {
            "environment": release.environment,
            "time": format_time(release.time),
            "who": release.who,
            "record": release.record,
            "manifest_sha256": release.manifest_sha256,
        }
        try:
            manifest = self._archive.read_manifest(release)
        except (KitError, OSError) as error:
            detail = f"its release.json cannot be read: {error}"
            return Node(kind=Kind.RELEASE, name=release.id, facts=facts, finding=Finding.UNDECIDED, detail=detail)
        facts |= manifest_facts(manifest)
        released = Artifact(RELEASE_FILE, release.manifest_sha256, len(manifest.encode()), "application/json")
        training = self.find_record(manifest.training_record, "the training", lambda r: _deny_training(r, manifest))
        cut = self.find_record(release.record, "the record that cut it", lambda r: _denial(r, released))
        return Node(kind=Kind.RELEASE, name=release.id, facts=facts, children=(training, cut))

    def _describe_released(self, release_id: str) -> Node:
        try:
            release = self._archive.find_release(release_id)
        except (KitError, OSError) as error:
            detail = f"the releases cannot be read: {error}"
            return Node(kind=Kind.RELEASE, name=release_id, finding=Finding.UNDECIDED, detail=detail)
        if release is None:
            detail = "there is no such release here"
            return Node(kind=Kind.RELEASE, name=release_id, finding=Finding.UNDECIDED, detail=detail)
        return self.describe_release(release)

    def _describe_code(self, record: Record) -> Node:
        code = record.code
        facts = msgspec.to_builtins(code) | {"in_archive": self._archive.objects.has(code.bundle_sha256)}
        children: tuple[Node, ...] = ()
        if code.build is not None:
            children = (self.find_record(code.build, "its build", lambda build: _deny_build(build, record)),)
        return Node(kind=Kind.CODE, name=code.bundle_sha256, facts=facts, children=children)


def _wrote(record: Record, artifact: Artifact) -> bool:
    output = record.output(artifact.name)
    return output is not None and output.sha256 == artifact.sha256


def _denial(record: Record, artifact: Artifact) -> str:
    if _wrote(record, artifact):
        return ""
    output = record.output(artifact.name)
    found = f"it wrote {output.sha256[:12]} under that name" if output else "it wrote nothing of that name"
    return f"did not write {artifact.name} {artifact.sha256[:12]}: {found}"


def _deny_training(record: Record, manifest: Manifest) -> str:
    denied = [sentence for each in manifest.artifacts if (sentence := _denial(record, each))]
    if record.code.bundle_sha256 != manifest.bundle_sha256:
        denied.append(f"executed bundle {record.code.bundle_sha256[:12]}, released is {manifest.bundle_sha256[:12]}")
    return "; ".join(denied)


def _deny_build(build: Record, record: Record) -> str:
    output = build.output(BUNDLE)
    if output is not None and output.sha256 == record.code.bundle_sha256:
        return ""
    return f"did not write the bundle {record.code.bundle_sha256[:12]} that {record.id} executed"


def _changed(each: InputArtifact) -> bool:
    return each.sha256_after is not None and each.sha256_after != each.artifact.sha256
