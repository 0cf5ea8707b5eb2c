"""The sources that a stage executes in: the working tree as it is, what was built, or what a record executed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from kit.archive import Archive
from kit.bundle import Bundle, make_bundle
from kit.environment import Environment
from kit.errors import NotFoundError, PolicyError
from kit.graph import BUILD
from kit.project import Project
from kit.record import Record

BUNDLE = "bundle.zip"
_AS_RECORDED = ("(as recorded)",)  # stands for what a record's sources had changed beside the commit


@dataclass(frozen=True)
class Sources:
    """What a stage will execute in, and the id of the build that it comes from; None for the working tree as it is."""

    bundle: Bundle
    build: str | None = None


def choose_sources(project: Project, archive: Archive, environment: Environment, stage: str) -> Sources:
    """The sources that a stage executes in: the working tree as it is, or where the policy says so what was built.

    Raises:
        PolicyError: only a build may execute, and there is none, or what is to be built is not committed.
        ProjectError: a source cannot be bundled.
    """
    if environment.policy.code == "worktree":
        return Sources(make_bundle(project, tracked_only=False))
    if stage == BUILD:
        return Sources(_bundle_commit(project, environment))
    record = archive.newest(is_clean_build, BUILD)
    if record is None:
        raise PolicyError(
            f'environment {environment.name!r} executes only what a clean build made (policy.code = "build"), and the '
            f"archive has no succeeded build of committed sources: commit, then run `kit build --env ci`"
        )
    return Sources(bundle_of(archive, record), record.id)


def _bundle_commit(project: Project, environment: Environment) -> Bundle:
    bundle = make_bundle(project, tracked_only=True)
    if bundle.is_dirty:
        changes = ", ".join(bundle.changes[:5]) + (" …" if len(bundle.changes) > 5 else "")
        raise PolicyError(
            f'environment {environment.name!r} builds committed sources only (policy.code = "build"), but '
            f"{'there is no commit' if bundle.commit is None else f'these differ from the commit: {changes}'}; commit first"
        )
    return bundle


def is_clean_build(record: Record) -> bool:
    """True for a succeeded build of exactly a commit's sources."""
    return record.stage == BUILD and record.succeeded and not record.code.dirty and record.output(BUNDLE) is not None


def bundle_of(archive: Archive, record: Record) -> Bundle:
    """The sources that a record executed.

    Raises:
        NotFoundError: they are not in the archive.
        IntegrityError: they were changed there.
    """
    try:
        data = archive.objects.read(record.code.bundle_sha256)
    except NotFoundError as error:
        raise NotFoundError(f"the bundle of record {record.id} is gone: {error}") from error
    return Bundle(data, record.code.commit, _AS_RECORDED if record.code.dirty else ())


@lru_cache(4)
def look_into_bundle(archive: Archive, sha256: str, commit: str | None, is_dirty: bool) -> Bundle:
    """Sources to look at, not to execute: verified when a process asks for them first, and read once.

    Args:
        archive: holds them.
        sha256: of the zip.
        commit: see `Bundle`.
        is_dirty: see `Bundle`.

    Raises:
        NotFoundError: they are not in the archive.
        IntegrityError: they were changed there.
    """
    return Bundle(archive.objects.read(sha256), commit, _AS_RECORDED if is_dirty else ())
