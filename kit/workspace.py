"""Workspaces: the folder that one execution happens in, and the context file that tells its kernel what is what."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any

import msgspec

from kit.check import CheckResult
from kit.environment import SecretReference
from kit.errors import IntegrityError
from kit.files import canonical_json, remove_tree, write_atomically
from kit.gate import Manifest, Verdict
from kit.provenance import process_mark

CONTEXT_VARIABLE = "KIT_CONTEXT"
OWNER = "owner"  # a file in each folder of one process
KEPT_S = 30 * 86_400.0


class ReleaseContext(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The release that a `run` stage executes: its id, manifest, and where its artifacts lie."""

    id: str
    manifest: Manifest
    folder: str


class GateContext(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The verdict on the release that a `release` stage may cut, and the manifest that it would write."""

    verdict: Verdict
    manifest: Manifest | None


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `kit.open_stage` needs to know; paths are absolute."""

    stage: str
    environment: str
    record: str
    root: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    facts: str
    scratch: str
    bundle: str
    settings: dict[str, Any] = {}
    secrets: dict[str, SecretReference] = {}
    release: ReleaseContext | None = None
    gate: GateContext | None = None


class Workspace(msgspec.Struct, frozen=True):
    """A folder below `.kit/workspaces/`: `source/` (the unpacked bundle), `inputs/`, `outputs/`, `facts/`, `release/`."""

    folder: Path

    @property
    def source(self) -> Path:
        """The unpacked bundle."""
        return self.folder / "source"

    @property
    def inputs(self) -> Path:
        """Copies of what the stage reads."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """What the stage writes."""
        return self.folder / "outputs"

    @property
    def facts(self) -> Path:
        """What the session tells the record: checks, what was pinned."""
        return self.folder / "facts"

    @property
    def release(self) -> Path:
        """Artifacts of the release that runs."""
        return self.folder / "release"

    @property
    def bundle(self) -> Path:
        """The bundle's zip."""
        return self.folder / "bundle.zip"

    @property
    def context(self) -> Path:
        """The context file."""
        return self.folder / "context.json"

    def write_context(self, context: Context) -> None:
        """Write the context file."""
        write_atomically(self.context, canonical_json(msgspec.to_builtins(context)))

    def read_checks(self) -> list[CheckResult]:
        """The check results that the session left, by artifact name.

        Raises:
            IntegrityError: one cannot be read.
        """
        return [_read_check(path) for path in sorted(self.facts.glob("check-*.json"))]

    def read_determinism(self) -> dict[str, Any]:
        """What the session pinned; empty if nothing."""
        path = self.facts / "determinism.json"
        try:
            content: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict) if path.is_file() else {}
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise IntegrityError(f"{path.name} cannot be read: {error}") from error
        return content


def create_workspace(folder: Path) -> Workspace:
    """Make the folders of a workspace; the name must be free."""
    workspace = Workspace(folder)
    folder.mkdir(parents=True)
    mark_owner(folder)
    for part in (workspace.source, workspace.inputs, workspace.outputs, workspace.facts):
        part.mkdir()
    return workspace


def mark_owner(folder: Path) -> None:
    """Say that a folder is this process' own, see `remove_abandoned`."""
    mark = f"{os.getpid()} {process_mark(os.getpid())} {platform.node()}"
    write_atomically(folder / OWNER, mark.encode())


def remove_abandoned(folder: Path) -> None:
    """Remove the folders below another that processes made for themselves and left when they were killed.

    A process of another machine that has the same disk cannot be seen from here: it has `KEPT_S` to end. What may not be
    removed is left.
    """
    for owner in folder.glob(f"*/{OWNER}"):
        with contextlib.suppress(OSError):  # another process has just removed it, or it is another user's
            if _is_abandoned(owner):
                remove_tree(owner.parent)


def _is_abandoned(owner: Path) -> bool:
    pid, mark, host = [*owner.read_text(encoding="utf-8").split(" "), "", ""][:3]
    if host not in ("", platform.node()):
        return owner.stat().st_mtime < time.time() - KEPT_S
    return not pid.isdigit() or process_mark(int(pid)) != mark


def read_context(path: Path) -> Context:
    """Read a context file.

    Raises:
        IntegrityError: it is none; was it written by another version of kit?
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Context)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise IntegrityError(
            f"the context of this execution cannot be read: {error}; is kit the same in kernel and CLI?"
        ) from error


def write_fact(facts: Path, name: str, value: Any) -> None:
    """Leave a fact for the record."""
    write_atomically(facts / f"{name}.json", canonical_json(msgspec.to_builtins(value)))


def _read_check(path: Path) -> CheckResult:
    try:
        return msgspec.json.decode(path.read_bytes(), type=CheckResult)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise IntegrityError(f"check result {path.name} cannot be read: {error}") from error
