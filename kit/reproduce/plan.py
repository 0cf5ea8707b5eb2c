"""From a record to the plan of doing it again: archived sources, parameters, inputs and configuration, nothing of today."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from kit.archive import RELEASE_FILE, STATEMENT, Archive
from kit.artifact import Artifact, TreeEntry
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import IntegrityError, NotFoundError, ParameterError, UsageError
from kit.execute import Plan, ResolvedInput, Workbench
from kit.execute.sources import bundle_of
from kit.files import sha256_bytes, sha256_file
from kit.gate import Manifest, decode_manifest
from kit.graph import RELEASE, RUN, Stage
from kit.parameter import ResolvedParameter, require_value
from kit.record import Record
from kit.release import Probes
from kit.reproduce.gate import judge_again
from kit.statement import subjects_of
from kit.workspace import ReleaseContext

_COMPARED = ("record.json", "executed.ipynb", "requirements.txt")  # of a record: what a comparison rests on

Again = Mapping[str, Record]  # id of a record -> the record that did it again


def plan_again(workbench: Workbench, record: Record, again: Again, probes: Probes) -> Plan:
    """Plan to execute a record's work again.

    Args:
        workbench: project, archive and collaborators; of the project only its folder matters.
        record: a succeeded one.
        again: reproductions whose outputs are read instead of those of the records that they did again.
        probes: for a release: load and query models, check data.

    Raises:
        UsageError: the record did not succeed, so there is no result to do again.
        NotFoundError: something that went in is not in the archive.
        IntegrityError: it is, and is not what went in.
    """
    archive = workbench.archive
    require_result(record)
    require_sealed(archive, record)
    environment = read_environment_of(archive, record)
    bundle = _read_bundle(archive, record)
    stage = _read_stage(bundle, record)
    plan = Plan(
        stage=stage,
        environment=environment,
        bundle=bundle,
        code=record.code,
        parameters=_require_declared(record, stage),
        inputs=tuple(_resolve_input(archive, record, name, again) for name in stage.inputs),
        timeout_s=environment.limits.timeout_s,
        reproduces=record.id,
    )
    if stage.name == RELEASE:
        gate = judge_again(workbench, record, environment, bundle, read_manifest_of(archive, record), again, probes)
        return dataclasses.replace(plan, gate=gate)
    return dataclasses.replace(plan, release=_find_released(archive, record)) if stage.name == RUN else plan


def require_result(record: Record) -> None:
    """Refuse an execution that ended otherwise than in success.

    Raises:
        UsageError: it did.
    """
    if not record.succeeded:
        raise UsageError(f"record {record.id} is {record.status}: it has no result to do again; name a succeeded one")


def require_sealed(archive: Archive, record: Record) -> None:
    """Refuse a record whose files are no longer those that its statement names: the comparison would be with a fiction.

    Raises:
        NotFoundError: it has no statement.
        IntegrityError: one of its files was changed or removed after it was sealed.
    """
    statement = archive.read_envelope(record.id).read_statement(f"record {record.id}, {STATEMENT}")
    stated, folder = subjects_of(statement), archive.record_folder(record.id)
    for name in _COMPARED:
        path = folder / name
        found = sha256_file(path) if path.is_file() else ""
        if found != stated.get(name, ""):
            raise IntegrityError(
                f"{name} of record {record.id}: expected {stated.get(name, 'nothing')[:12]}, found {found[:12] or 'nothing'}: "
                f"it was changed after it was sealed; see `kit verify {record.id}`"
            )


def read_environment_of(archive: Archive, record: Record) -> Environment:
    """The configuration that a record was executed with, as the archive holds it, whatever the project's files say now.

    Raises:
        NotFoundError: it is not in the archive.
        IntegrityError: it is not that of the record's environment.
    """
    where = f"configuration of record {record.id}"
    try:
        content = msgspec.json.decode(archive.objects.read(record.configuration_sha256), type=dict[str, Any])
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error}; the kit that made the record did not keep it") from error
    except (IntegrityError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise IntegrityError(f"{where}: {error}") from error
    environment = decode_environment(content, where)
    if environment.name != record.environment:
        raise IntegrityError(f"{where}: is of environment {environment.name!r}, expected {record.environment!r}")
    return environment


def read_manifest_of(archive: Archive, record: Record) -> Manifest:
    """The manifest that a release record wrote.

    Raises:
        NotFoundError: it is not there.
        IntegrityError: it cannot be read.
    """
    artifact = record.output(RELEASE_FILE)
    if artifact is None:
        raise NotFoundError(f"record {record.id} wrote no {RELEASE_FILE}")
    return decode_manifest(archive.objects.read(artifact.sha256), f"record {record.id}, {RELEASE_FILE}")


def _read_bundle(archive: Archive, record: Record) -> Bundle:
    try:
        return bundle_of(archive, record)
    except IntegrityError as error:
        raise IntegrityError(f"the bundle of record {record.id}: {error}") from error


def _read_stage(bundle: Bundle, record: Record) -> Stage:
    stage = bundle.read_graph().stage(record.stage)
    sha256 = sha256_bytes(bundle.read(stage.notebook))
    if (stage.notebook, sha256) != (record.code.notebook, record.code.notebook_sha256):
        raise IntegrityError(
            f"record {record.id}: executed {record.code.notebook} {record.code.notebook_sha256[:12]}…, its bundle has "
            f"{stage.notebook} {sha256[:12]}…"
        )
    return stage


def _require_declared(record: Record, stage: Stage) -> tuple[ResolvedParameter, ...]:
    """The recorded parameters, if the notebook declares exactly these: a name is pasted as code."""
    declared, recorded = [each.name for each in stage.parameters], [each.name for each in record.parameters]
    if declared != recorded:
        raise IntegrityError(
            f"record {record.id} has parameters {recorded}, {stage.notebook} of its bundle declares {declared}"
        )
    for parameter, resolved in zip(stage.parameters, record.parameters, strict=True):
        try:
            require_value(parameter, resolved.value, "record")
        except ParameterError as error:
            raise IntegrityError(f"record {record.id}: {error}") from error
    return record.parameters


def _resolve_input(archive: Archive, record: Record, name: str, again: Again) -> ResolvedInput:
    each = next((each for each in record.inputs if each.artifact.name == name), None)
    if each is None:
        raise IntegrityError(f"record {record.id} read no {name!r}, which the notebook of its bundle reads")
    if each.record in again:
        artifact = again[each.record].output(name)
        if artifact is None:
            raise NotFoundError(
                f"input {name!r}: {again[each.record].id}, which did {each.record} again, did not write it"
            )
        return ResolvedInput(artifact, record=again[each.record].id)
    require_object(archive, each.artifact, f"input {name!r} of record {record.id}")
    return ResolvedInput(each.artifact, each.record, each.source)


def require_object(archive: Archive, artifact: Artifact, where: str) -> None:
    """Refuse an artifact whose bytes are not in the archive, or are not those that its digest names.

    Raises:
        NotFoundError: they are not there.
        IntegrityError: they were changed.
    """
    try:
        entries = archive.objects.read_tree(artifact).files if artifact.is_folder else (_as_entry(artifact),)
    except (msgspec.MsgspecError, NotFoundError) as error:
        kind = NotFoundError if isinstance(error, NotFoundError) else IntegrityError
        raise kind(f"{where}: {error}") from error
    for entry in entries:
        path = archive.objects.path(entry.sha256)
        place = f"{where}, {entry.path}" if artifact.is_folder else where
        if not path.is_file():
            raise NotFoundError(
                f"{place}: expected object {entry.sha256[:12]}…, found nothing; fetch it from where it is kept"
            )
        found = sha256_file(path)
        if found != entry.sha256:
            raise IntegrityError(f"{place}: expected object {entry.sha256[:12]}…, found {found[:12]}…: it was changed")


def _as_entry(artifact: Artifact) -> TreeEntry:
    return TreeEntry(artifact.name, artifact.sha256, artifact.size_bytes)


def _find_released(archive: Archive, record: Record) -> ReleaseContext:
    """The release that a record executed, by the digest of the release.json that it read; it may have come in a file."""
    read = next((each.artifact for each in record.inputs if each.artifact.name == RELEASE_FILE), None)
    release = archive.find_release(record.release or "")
    if read is None or not record.release:
        raise NotFoundError(f"record {record.id} names no release, or read no {RELEASE_FILE}")
    if release and release.manifest_sha256 != read.sha256:
        raise IntegrityError(f"record {record.id} executed another release than the {release.id} of this ledger")
    manifest = decode_manifest(archive.objects.read(read.sha256), f"release {record.release}")
    if manifest.configuration_sha256 != record.configuration_sha256:
        raise IntegrityError(
            f"release {record.release} froze another configuration than record {record.id} was executed with"
        )
    for artifact in manifest.artifacts:
        require_object(archive, artifact, f"{artifact.name!r} of release {record.release}")
    return ReleaseContext(record.release, manifest, "")
