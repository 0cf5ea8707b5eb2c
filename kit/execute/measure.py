"""What a stage would read, without keeping anything in the archive: for a look at what is up to date."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from kit.archive import Archive
from kit.archive.objects import walk_folder
from kit.artifact import TREE_MEDIA_TYPE, Artifact, Tree, TreeEntry, media_type_of
from kit.digests import Digests
from kit.environment import Environment
from kit.errors import NotFoundError, UsageError
from kit.execute.inputs import ResolvedInput, from_record, newest_success
from kit.graph import Graph, Stage


def measure_inputs(
    stage: Stage, graph: Graph, environment: Environment, archive: Archive, root: Path, digests: Digests
) -> tuple[ResolvedInput, ...]:
    """What a stage reads, see `resolve_inputs`; data sources are hashed where they lie.

    Args:
        stage: its signature.
        graph: of the same bundle.
        environment: binds the data sources; its newest succeeded records provide the rest.
        archive: is only read.
        root: the project's folder, to which data locations are relative.
        digests: of files that have not changed since they were hashed.

    Raises:
        NotFoundError: no succeeded record, or no file; says which command makes it.
    """
    newest = cache(lambda producer: newest_success(archive, producer, environment.name, stage.name))
    found = []
    for name in stage.inputs:
        producer = graph.producer_of(name)
        if producer is None:
            artifact = measure_source(name, environment.data[name], root, digests, environment.name)
            found.append(ResolvedInput(artifact, source=environment.data[name]))
        else:
            found.append(from_record(name, newest(producer.name)))
    return tuple(found)


def measure_source(name: str, location: str, root: Path, digests: Digests, environment: str) -> Artifact:
    """A data source as an artifact.

    Args:
        name: that the environment binds.
        location: where to.
        root: the project's folder, to which it is relative.
        digests: of files that have not changed since they were hashed.
        environment: its name, for messages.

    Raises:
        NotFoundError: there is nothing at that location.
        UsageError: it is an empty folder, or holds a link or a special file.
    """
    path = (root / location).resolve()
    if path.is_file():
        return Artifact(name, digests.sha256(path), path.stat().st_size, media_type_of(name))
    if not path.exists():
        raise NotFoundError(
            f"input {name!r}: environments/{environment}.toml binds it to {location!r}, but there is no such file or folder"
        )
    if not path.is_dir():
        raise UsageError(f"artifact {name!r} must be a regular file or a folder of them")
    stamps = walk_folder(path, name)
    with digests.notes(path) as notes:
        known = {each: notes.sha256(each, f"{path}/{each}", stamp) for each, stamp in stamps.items()}
    tree = Tree(tuple(TreeEntry(each, known[each], stamp.size_bytes) for each, stamp in stamps.items()))
    return Artifact(name, tree.sha256, tree.size_bytes, TREE_MEDIA_TYPE)
