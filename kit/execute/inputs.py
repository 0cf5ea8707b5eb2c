"""Which exact artifacts a stage will read: the newest succeeded record's, the environment's data, or those named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact, InputArtifact
from kit.digests import Digests
from kit.environment import Environment
from kit.errors import NotFoundError, PolicyError, UnknownNameError, UsageError
from kit.graph import Graph, Stage
from kit.record import Record


class ResolvedInput(msgspec.Struct, frozen=True):
    """An input that is in the archive's objects, and where it came from."""

    artifact: Artifact
    record: str = ""
    source: str = ""

    @property
    def recorded(self) -> InputArtifact:
        """As the record has it, before the kernel starts."""
        return InputArtifact(self.artifact, self.record, self.source)


def resolve_inputs(
    stage: Stage,
    graph: Graph,
    environment: Environment,
    archive: Archive,
    root: Path,
    named: Mapping[str, str],
    digests: Digests | None = None,
) -> tuple[ResolvedInput, ...]:
    """Decide and archive what a stage reads.

    Args:
        stage: its signature.
        graph: of the same bundle.
        environment: binds the data sources; its newest succeeded records provide the rest.
        archive: data sources are copied into its objects.
        root: the project's folder, to which data locations are relative.
        named: input name -> record id or path, as the command line has it.
        digests: what is known of files, see `Objects.put_artifact`.

    Raises:
        UnknownNameError: `named` has a name that is no input.
        NotFoundError: no succeeded record, or no file; says which command makes it.
        PolicyError: only signed work may go in, and a path stands for a record.
    """
    for name in named:
        if name not in stage.inputs:
            raise UnknownNameError("input", name, stage.inputs, stage.where)
    newest = cache(lambda producer: newest_success(archive, producer, environment.name, stage.name))
    resolved = []
    for name in stage.inputs:
        producer = graph.producer_of(name)
        if name in named and (producer is None or (root / named[name]).exists()):
            if producer is not None and environment.policy.signed:
                raise PolicyError(
                    f"environments/{environment.name}.toml demands signed work (policy.signed), but input {name!r} is to come "
                    f"from {named[name]!r} instead of a record of stage {producer.name!r}"
                )
            resolved.append(archive_source(name, named[name], archive, root, "the command line", digests=digests))
        elif producer is None:
            where = f"environments/{environment.name}.toml"
            advice = f"; give it with --input {name}=PATH"
            resolved.append(archive_source(name, environment.data[name], archive, root, where, advice, digests))
        elif name in named:
            resolved.append(from_record(name, archive.find_record(named[name])))
        else:  # all that one producer wrote comes from one record, whatever ends while we look
            resolved.append(from_record(name, newest(producer.name)))
    return tuple(resolved)


def newest_success(archive: Archive, stage: str, environment: str, reader: str) -> Record:
    """The newest succeeded record of a stage in an environment; an imported one must be named to be taken.

    Raises:
        NotFoundError: there is none; names the command that makes one.
    """
    record = archive.newest_of(stage, environment)
    if record is None:
        raise NotFoundError(
            f"stage {reader!r} needs a succeeded record of stage {stage!r} in environment {environment!r}, there is none; "
            f"run `kit {stage} --env {environment}` first"
        )
    return record


def from_record(name: str, record: Record) -> ResolvedInput:
    """An input that is a succeeded record's output.

    Raises:
        NotFoundError: that record has no such output.
        UsageError: that record did not succeed.
    """
    if not record.succeeded:
        raise UsageError(
            f"input {name!r}: record {record.id} is {record.status}; only a succeeded record's output can be read"
        )
    artifact = record.output(name)
    if artifact is None:
        raise NotFoundError(
            f"input {name!r}: record {record.id} has no such output; it wrote "
            f"{', '.join(each.name for each in record.outputs) or 'nothing'}"
        )
    return ResolvedInput(artifact, record=record.id)


def archive_source(
    name: str, location: str, archive: Archive, root: Path, who: str, advice: str = "", digests: Digests | None = None
) -> ResolvedInput:
    """Copy a data source into the archive's objects; one that is known to be there as it is now is not read.

    Raises:
        NotFoundError: there is nothing at that location.
    """
    path = root / location
    if not path.exists():
        raise NotFoundError(
            f"input {name!r}: {who} binds it to {location!r}, but there is no such file or folder{advice}"
        )
    return ResolvedInput(archive.objects.put_artifact(name, path.resolve(), digests), source=location)
