"""Is there a record already that says what an execution would say? Only one that nobody has touched since counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from kit.archive import STATEMENT, Archive
from kit.artifact import Artifact, media_type_of
from kit.digests import Digests, stamp_of
from kit.environment import Environment
from kit.errors import KitError
from kit.execute.carried import find_carried_change
from kit.execute.plan import Plan, Workbench
from kit.execute.signed import find_unsigned
from kit.execute.sources import BUNDLE
from kit.files import read_regular, sha256_bytes
from kit.graph import BUILD
from kit.ledger import Kind
from kit.record import Record
from kit.statement import OUTPUTS, subjects_of


def find_reusable(workbench: Workbench, plan: Plan) -> Record | None:
    """The record that makes an execution needless; None if there is none, or what is there cannot be relied on.

    It is the newest succeeded one of the stage and environment, if its key is the plan's: what comes after reads the newest
    one, so an older one of the same key is of no use, but for a point of a sweep, whose result nobody reads by being new.
    Records of a kit that knew no keys are never taken. Why the newest one does not count is told to `workbench.notify`.

    Args:
        workbench: project, archive and collaborators.
        plan: what would be executed; never one that does a record again.
    """
    if plan.reproduces or not plan.key:
        return None
    archive, stage, name = workbench.archive, plan.stage.name, plan.environment.name
    try:
        record = archive.newest_of(stage, name, plan.key if plan.sweep else "")
    except (KitError, OSError) as error:
        workbench.notify(f"{stage}: whether a record is up to date cannot be told: {error}; it is executed")
        return None
    if record is None or record.key != plan.key:
        return None
    problem = find_fault(workbench, record, plan.environment)
    changed = "" if plan.sweep else find_carried_change(archive, record, plan)
    if changed and not problem:
        problem = f"a release of it would take along another {changed}"
    if problem:
        workbench.notify(f"{stage}: {record.id} has the same key and is not taken: {problem}; it is executed again")
    return None if problem else record


def find_fault(workbench: Workbench, record: Record, environment: Environment) -> str:
    """Why a succeeded record cannot stand for an execution in an environment; empty if it can.

    Args:
        workbench: its archive holds it.
        record: as the archive gave it.
        environment: its policy may demand a clean build, and signed work.
    """
    if environment.policy.code == "build":
        if record.code.dirty:
            return 'it was executed from uncommitted sources (policy.code = "build")'
        if record.code.build is None and record.stage != BUILD:
            return 'it was not executed from a build (policy.code = "build")'
    try:
        problem = find_damage(workbench.archive, record, workbench.digests)
        if not problem and environment.policy.signed:
            problem = find_unsigned(workbench.archive, record, workbench.trusted_keys)
    except (KitError, OSError) as error:
        return str(error)
    return problem


def find_damage(archive: Archive, record: Record, digests: Digests) -> str:
    """What is no longer as the ledger and the statement of a record say; empty if nothing is.

    Args:
        archive: holds it.
        record: as the archive gave it.
        digests: of objects that have not changed since they were hashed.

    Raises:
        KitError: its statement or an object cannot be read.
        OSError: the same.
    """
    folder = archive.record_folder(record.id)
    if folder.is_symlink():
        return "its folder is a link"
    end = next((entry for entry in archive.tell_of(record.id) if entry.kind is Kind.END), None)
    if end is None or sha256_bytes(read_regular(folder / STATEMENT)) != end.sha256:
        return f"the ledger does not name its {STATEMENT}"
    stated = subjects_of(archive.read_envelope(record.id).read_statement(f"record {record.id}, {STATEMENT}"))
    data = read_regular(folder / "record.json")
    if sha256_bytes(data) != stated.get("record.json") or data != record.encode():
        return "its record.json is not the one that was sealed"
    sealed = {name: sha256 for name, sha256 in stated.items() if not name.startswith(OUTPUTS)}
    return find_broken(archive, list_needed(record), digests, folder, sealed)


def list_needed(record: Record) -> list[Artifact]:
    """What must be in the archive for a record to be traced and executed again.

    Data that the environment binds is not among it: who plans with it has just looked whether it is there.
    """
    sources = Artifact(BUNDLE, record.code.bundle_sha256, 0, media_type_of(BUNDLE))
    configuration = Artifact("configuration", record.configuration_sha256, 0, media_type_of("configuration"))
    produced = (each.artifact for each in record.inputs if each.record)
    return [*record.outputs, *produced, sources, configuration]


def find_broken(
    archive: Archive, artifacts: Iterable[Artifact], digests: Digests, folder: Path, sealed: Mapping[str, str] = {}
) -> str:
    """Which bytes of some artifacts, or of sealed files, are others than they were, or gone; empty if none are.

    Args:
        archive: its objects hold the artifacts.
        artifacts: that a record wrote or rests on.
        digests: of files that have not changed since they were hashed.
        folder: of that record, under which these are remembered together.
        sealed: files in it, path to digest.

    Raises:
        IntegrityError: a folder's list of files was changed.
        OSError: a file cannot be read.
    """
    files = ((name, name, folder / name, sha256) for name, sha256 in sealed.items())
    objects = (
        (n, sha256, archive.objects.path(sha256), sha256)
        for each in artifacts
        for n, sha256 in list_objects(archive, each)
    )
    with digests.notes(folder) as notes:
        for name, key, path, sha256 in chain(files, objects):
            try:
                found = notes.sha256(key, str(path), stamp_of(path.lstat()))
            except FileNotFoundError:
                return f"{name!r} is not in the archive any more"
            if found != sha256:
                return f"{name!r} was changed in the archive: expected {sha256[:12]}…, found {found[:12]}…"
    return ""


def list_objects(archive: Archive, artifact: Artifact) -> list[tuple[str, str]]:
    """(name, digest) of the objects that an artifact is made of; of a folder its list of files first.

    Raises:
        NotFoundError: the list is not in the archive.
        IntegrityError: it was changed there.
    """
    files = archive.objects.read_tree(artifact).files if artifact.is_folder else ()
    return [(artifact.name, artifact.sha256), *((f"{artifact.name}/{each.path}", each.sha256) for each in files)]
