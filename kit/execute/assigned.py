"""A plan that another process of this machine executes: what it is told, and what it answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import Archive, read_origin
from kit.engine.values import Progress
from kit.errors import IntegrityError
from kit.execute.attempts import execute_with_retries
from kit.execute.plan import Plan, Workbench
from kit.project import find_project
from kit.signing import find_signing_key

TARGET = "kit.execute.assigned:execute_assignment"


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan on its way to another process.

    Attributes:
        root: the project's folder.
        memory: file that remembers what was seen of the archive's ledger; empty for none.
        plan: without the bundle's bytes, which are in the archive, and the parts of its key.
    """

    root: str
    memory: str
    plan: Plan


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was said meanwhile: a sentence for people, or how far it is."""

    note: str = ""
    progress: Progress | None = None


class Executed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The id of the record that has the result."""

    record: str


def assign_plan(workbench: Workbench, plan: Plan) -> Assignment:
    """What another process needs to execute a plan; what is decided in it stays decided, whatever happens to the sources."""
    bundle = msgspec.structs.replace(plan.bundle, data=b"")
    memory = str(workbench.archive.memory or "")
    return Assignment(str(workbench.project.root), memory, dataclasses.replace(plan, bundle=bundle, parts=None))


def execute_assignment(assignment: Assignment, report: Callable[[Any], None]) -> Executed:
    """What a worker process is told to call, see `kit.executors`; it reports `Said`."""
    return execute_assigned(_open_workbench(assignment.root, assignment.memory), assignment, report)


def execute_assigned(workbench: Workbench, assignment: Assignment, report: Callable[[Any], None]) -> Executed:
    """Execute an assigned plan on a workbench.

    Raises:
        NotFoundError: the bundle is not in the archive.
        IntegrityError: it was changed there.
    """
    plan, listening = (
        assignment.plan,
        dataclasses.replace(
            workbench,
            notify=lambda note: report(Said(note=note)),
            on_progress=lambda _, progress: report(Said(progress=progress)),
        ),
    )
    data = _read_bundle(workbench.archive, plan.code.bundle_sha256)
    plan = dataclasses.replace(plan, bundle=msgspec.structs.replace(plan.bundle, data=data))
    return Executed(execute_with_retries(listening, plan).id)


@lru_cache(1)
def _read_bundle(archive: Archive, sha256: str) -> bytes:
    return archive.objects.read(sha256)


@lru_cache(1)
def _open_workbench(root: str, memory: str) -> Workbench:
    from kit.engine import PapermillEngine

    project = find_project(Path(root))
    if str(project.root) != root:
        raise IntegrityError(f"{root} is no project any more")
    archive = Archive(
        project.archive, read_origin(project.archive), find_signing_key(), Path(memory) if memory else None
    )
    return Workbench(project, archive, PapermillEngine())
