"""What a person means: a release, a record, an artifact by its name, its digest or its bytes, a metric."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.archive.objects import hash_artifact
from kit.artifact import Artifact
from kit.errors import IntegrityError, KitError, NotFoundError, UndecidableError, UnknownSubjectError, UsageError
from kit.gate import Release
from kit.lineage.node import Finding, Kind, Node
from kit.lineage.walk import trace_artifact, trace_record, trace_release
from kit.record import Record

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})", re.IGNORECASE)
_SECONDS = len("20260301T093000Z")
_FORMS = (
    "expected a record or release (any unique beginning or end of its id), an artifact's name, RECORD/ARTIFACT, "
    "RECORD#METRIC, at least 8 digits of a sha256, or a path"
)


def find_subject(archive: Archive, name: str) -> Record | Release:
    """The release of exactly that id, else the record, else the release, of that unique beginning or end of an id.

    Raises:
        UnknownSubjectError: none.
        UsageError: several; names them.
    """
    release = archive.find_release(name)
    if release is not None:
        return release
    try:
        return archive.find_record(name)
    except NotFoundError:
        found = [
            each for each in archive.list_releases() if name and (each.id.startswith(name) or each.id.endswith(name))
        ]
    if not found:
        raise UnknownSubjectError(f"no record or release is named {name!r}; `kit records` and `kit releases` list them")
    if len(found) > 1:
        names = ", ".join(each.id for each in found[:5])
        raise UsageError(f"{name!r} names {len(found)} releases: {names}; write more of the id")
    return found[0]


def explain_origin(archive: Archive, target: str) -> Node:
    """The tree of origins of whatever a person names.

    Looked for in this order: a whole id of a release or record, an existing path if the target has a `/`,
    `RECORD#METRIC`, `RECORD/ARTIFACT`, an artifact's whole name, a part of an id, a digest, a path.

    Raises:
        NotFoundError: nothing is called so.
        UsageError: several are; names them.
        UndecidableError: it was not found, and something that might be it cannot be read.
    """
    if archive.has_record(target):
        return trace_record(archive, archive.read_record(target))
    path = Path(target)
    if "/" in target and _exists(path):
        return _explain_path(archive, path)
    return (
        _explain_part(archive, target)
        or _explain_name(archive, target)
        or _explain_subject(archive, target)
        or _explain_digest(archive, target)
        or (_explain_path(archive, path) if target and _exists(path) else None)
        or _give_up(archive, target)
    )


def _explain_part(archive: Archive, target: str) -> Node | None:
    """`RECORD#METRIC` and `RECORD/ARTIFACT`."""
    for separator, explain in (("#", _explain_metric), ("/", _explain_member)):
        owner, found, name = target.partition(separator)
        if found and owner and name:
            try:
                record = archive.find_record(owner)
            except NotFoundError:
                continue
            return explain(archive, record, name)
    return None


def _explain_metric(archive: Archive, record: Record, name: str) -> Node:
    if name not in record.metrics:
        raise NotFoundError(
            f"record {record.id} has no metric {name!r}; it has {', '.join(record.metrics) or 'none at all'}"
        )
    facts = {"value": record.metrics[name]}
    return Node(kind=Kind.METRIC, name=name, facts=facts, children=(trace_record(archive, record),))


def _explain_member(archive: Archive, record: Record, name: str) -> Node:
    output = record.output(name)
    if output is not None:
        return trace_artifact(archive, output, [record])
    node = next((child for child in trace_record(archive, record).children if _is_artifact(child, name)), None)
    if node is None:
        known = [*(each.name for each in record.outputs), *(each.artifact.name for each in record.inputs)]
        raise NotFoundError(
            f"record {record.id} neither wrote nor read {name!r}; it has {', '.join(known) or 'no artifact at all'}"
        )
    return node


def _is_artifact(node: Node, name: str) -> bool:
    return node.kind is Kind.ARTIFACT and node.name == name


def _explain_name(archive: Archive, name: str) -> Node | None:
    """The newest record that wrote an artifact of that name, else the newest that read it as a data source."""
    writer = archive.newest(lambda each: each.output(name) is not None)
    hidden = _list_hidden(archive, since=writer.id[:_SECONDS]) if writer else list(archive.unreadable)
    reader = None if writer else archive.newest(lambda each: _read_artifact(each, name) is not None)
    artifact = writer.output(name) if writer else _read_artifact(reader, name) if reader else None
    if artifact is None:
        return None
    node = trace_artifact(archive, artifact, [writer] if writer else [], [reader] if reader else [])
    if not hidden:
        return node
    detail = f"a newer one may exist: {'; '.join(hidden)}"
    return msgspec.structs.replace(node, finding=Finding.UNDECIDED, detail=detail)


def _list_hidden(archive: Archive, since: str) -> list[str]:
    """Why records of a time or later cannot be read; ids are in order to the second."""
    problems = []
    for record_id in (each for each in archive.list_ids() if each >= since):
        try:
            archive.read_record(record_id)
        except (KitError, OSError) as error:
            problems.append(str(error))
    return problems


def _read_artifact(record: Record, name: str) -> Artifact | None:
    return next((each.artifact for each in record.inputs if each.artifact.name == name), None)


def _explain_subject(archive: Archive, target: str) -> Node | None:
    try:
        found = find_subject(archive, target)
    except NotFoundError:
        return None
    except IntegrityError:  # a release that cannot be read is no reason against a record that can
        try:
            found = archive.find_record(target)
        except NotFoundError:
            return None
    return trace_release(archive, found) if isinstance(found, Release) else trace_record(archive, found)


def _explain_digest(archive: Archive, target: str) -> Node | None:
    match = _DIGEST.fullmatch(target)
    return _explain_bytes(archive, match[1].lower(), target) if match else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file, a folder that may not be searched
        return False


def _explain_path(archive: Archive, path: Path) -> Node:
    sha256 = hash_artifact(path.name, path.resolve())
    if sha256 is None:
        raise UsageError(f"{path} is neither a file nor a folder")
    node = _explain_bytes(archive, sha256, str(path))
    if node is not None:
        return node
    sentence = f"no record wrote or read these bytes of {path}: sha256 {sha256}"
    if archive.unreadable:
        raise UndecidableError(f"{sentence}; but not every record can be read: {'; '.join(archive.unreadable)}")
    raise NotFoundError(sentence)


def _explain_bytes(archive: Archive, prefix: str, target: str) -> Node | None:
    writers: dict[Artifact, list[Record]] = {}
    readers: dict[Artifact, list[Record]] = {}
    for record in archive.records():
        for output in record.outputs:
            if output.sha256.startswith(prefix):
                writers.setdefault(output, []).append(record)
        for each in record.inputs:
            if each.artifact.sha256.startswith(prefix):
                readers.setdefault(each.artifact, []).append(record)
    digests = {artifact.sha256 for artifact in [*writers, *readers]}
    if not digests:
        return None
    if len(digests) > 1:
        raise UsageError(
            f"{target!r} begins {len(digests)} digests: {', '.join(sorted(digests)[:5])}; write more of it"
        )
    artifact = next(iter([*writers, *readers]))
    wrote = [record for found in writers.values() for record in found]
    read = [record for found in readers.values() for record in found]
    node = trace_artifact(archive, artifact, wrote, read)
    return msgspec.structs.replace(node, facts=node.facts | {"read_by": sorted({record.id for record in read})})


def _give_up(archive: Archive, target: str) -> Node:
    sentence = f"nothing is called {target!r}; {_FORMS}"
    problems = _unreadable(archive)
    if problems:
        raise UndecidableError(f"{sentence}; but not everything can be read: {'; '.join(problems)}")
    raise NotFoundError(sentence)


def _unreadable(archive: Archive) -> list[str]:
    list(archive.records())
    problems = list(archive.unreadable)
    try:
        archive.list_releases()
    except KitError as error:
        problems.append(str(error))
    return problems
