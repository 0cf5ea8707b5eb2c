"""Executing a plan: workspace, kernel, what came out, the sealed record."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import VERDICT, OpenRecord
from kit.archive.objects import hash_artifact
from kit.artifact import InputArtifact
from kit.bundle import unpack_bundle
from kit.check import CheckResult
from kit.engine.signals import Interruption
from kit.engine.values import Job, Outcome
from kit.environment import SecretReference
from kit.errors import KitError, UsageError
from kit.execute.judge import first_failure
from kit.execute.plan import Plan, Workbench
from kit.execute.scratch import Scratch, hold_scratch
from kit.files import canonical_json, format_time, remove_tree
from kit.notebook import read_notebook
from kit.provenance import current_process, describe_machine, describe_software, requirements_text
from kit.record import Failure, Record, Status, Usage, new_record_id
from kit.redaction import Redactor
from kit.scraps import read_scraps
from kit.statement import describe_verdict
from kit.workspace import CONTEXT_VARIABLE, Context, Workspace, create_workspace, remove_abandoned

MIN_SECRET_LENGTH = 4
WORKSPACES, SCRATCH = "workspaces", "scratch"  # below .kit/


def execute_plan(workbench: Workbench, plan: Plan, retried: tuple[str, ...] = ()) -> Record:
    """Execute a stage and seal its record, whatever happens.

    Args:
        workbench: project, archive and collaborators.
        plan: what to execute.
        retried: ids of the unsuccessful executions of this plan that this one is a further attempt of, oldest first.

    Returns:
        The closed record: succeeded only if every cell did, every declared output was written, inputs stayed as they
        were, and every check that is due passed on exactly these bytes.
    """
    workbench.engine.prepare(plan.start, plan.preload)  # an interpreter starts while kit prepares the rest
    secrets = read_secrets(absolute_references(plan.environment.secrets, workbench.project.root))
    remove_abandoned(workbench.project.scratch / WORKSPACES)
    with hold_scratch(workbench.project.scratch / SCRATCH, plan, workbench.archive, workbench.notify) as scratch:
        record = _execute(workbench, plan, scratch, secrets, tuple(dict.fromkeys((*scratch.attempts, *retried))))
        if record.succeeded:
            scratch.clear()
    return record


def _execute(
    workbench: Workbench, plan: Plan, scratch: Scratch, secrets: Mapping[str, str], attempts: tuple[str, ...]
) -> Record:
    redactor = Redactor(secrets)
    started = _describe_start(workbench, plan, attempts, redactor)
    notebook = plan.bundle.read(plan.stage.notebook)
    files = {
        "source.ipynb": redactor.text(notebook.decode()).encode(),
        "requirements.txt": requirements_text().encode(),
    }
    pressed = Interruption()  # however often Ctrl-C is pressed, what was announced is sealed
    with pressed:
        opened = workbench.archive.open_record(started, files)
    workspace = Workspace(workbench.project.scratch / WORKSPACES / started.id)
    outcome: Outcome | None = None
    with contextlib.ExitStack() as stack:
        try:
            create_workspace(workspace.folder)
            _raise_interrupt(pressed)
            scratch.take(started.id)
            _fill(workbench, plan, workspace, started.id, scratch.files)
            job = _make_job(plan, workspace, opened, read_notebook(notebook, plan.stage.notebook), secrets)
            outcome = workbench.engine.execute(job, lambda progress: workbench.on_progress(plan.stage.name, progress))
            if outcome.start_note:
                workbench.notify(f"{plan.stage.name}: {outcome.start_note}")
            closed = _collect(workbench, plan, workspace, started, outcome)
        except KeyboardInterrupt:
            failure = Failure("KeyboardInterrupt", "interrupted while kit prepared or collected the execution")
            closed = _close(workbench, started, outcome, Status.INTERRUPTED, failure)
        except (KitError, OSError) as error:
            closed = _close(workbench, started, outcome, Status.FAILED, Failure(type(error).__name__, str(error)))
        finally:
            stack.enter_context(pressed)
            remove_tree(workspace.folder)
        record = _seal(workbench, plan, opened, _redact(closed, redactor), outcome)
    if record.status is not Status.INTERRUPTED:
        _raise_interrupt(pressed)  # nothing else begins
    return record


def _raise_interrupt(pressed: Interruption) -> None:
    if pressed.is_requested:
        raise KeyboardInterrupt


def absolute_references(references: Mapping[str, SecretReference], root: Path) -> dict[str, SecretReference]:
    """Secret references with the project's folder before relative files, so that kit and kernel read the same file."""
    return {
        name: SecretReference(file=str(root / Path(each.file).expanduser())) if each.file else each
        for name, each in references.items()
    }


def read_secrets(references: Mapping[str, SecretReference]) -> dict[str, str]:
    """The values of those secrets that can be resolved here; the others fail when a stage asks for them.

    Raises:
        UsageError: a value is too short to be kept out of texts.
    """
    secrets = {}
    for name, reference in references.items():
        value = read_secret(reference)
        if value is None:
            continue
        if len(value) < MIN_SECRET_LENGTH:
            raise UsageError(
                f"secret {name!r} has {len(value)} characters; kit keeps secrets of at least "
                f"{MIN_SECRET_LENGTH} out of records, a shorter one would blank ordinary text"
            )
        secrets[name] = value
    return secrets


def read_secret(reference: SecretReference) -> str | None:
    """The value that a reference leads to; None if there is none here."""
    if reference.env:
        return os.environ.get(reference.env)
    try:
        return Path(reference.file).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _describe_start(workbench: Workbench, plan: Plan, attempts: tuple[str, ...], redactor: Redactor) -> Record:
    now = workbench.clock()
    names = plan.bundle.names()
    lock = plan.bundle.read(workbench.project.lock) if workbench.project.lock in names else None
    record = Record(
        id=new_record_id(plan.stage.name, now),
        stage=plan.stage.name,
        environment=plan.environment.name,
        configuration_sha256=plan.environment.sha256,
        status=Status.STARTED,
        started=now,
        process=current_process(),
        parameters=plan.parameters,
        code=plan.code,
        inputs=tuple(each.recorded for each in plan.inputs),
        machine=describe_machine(),
        software=describe_software(lock),
        release=plan.release.id if plan.release else None,
        reproduces=plan.reproduces,
        drift=plan.drift,
        key=plan.key,
        sweep=plan.sweep,
        attempts=attempts,
    )
    return _redact(record, redactor)


def _fill(workbench: Workbench, plan: Plan, workspace: Workspace, record_id: str, scratch: Path | None) -> None:
    objects = workbench.archive.objects
    scratch = scratch or workspace.folder / SCRATCH
    scratch.mkdir(exist_ok=True)
    unpack_bundle(plan.bundle.data, workspace.source)
    workspace.bundle.write_bytes(plan.bundle.data)
    for each in plan.inputs:
        objects.copy_artifact(each.artifact, workspace.inputs / each.artifact.name)
    if plan.release:
        for artifact in plan.release.manifest.artifacts:
            workspace.release.mkdir(exist_ok=True)
            objects.copy_artifact(artifact, workspace.release / artifact.name)
    release = plan.release and msgspec.structs.replace(plan.release, folder=str(workspace.release))
    workspace.write_context(
        Context(
            stage=plan.stage.name,
            environment=plan.environment.name,
            record=record_id,
            root=str(workspace.source),
            inputs={name: str(workspace.inputs / name) for name in plan.stage.inputs},
            outputs={name: str(workspace.outputs / name) for name in plan.stage.outputs},
            facts=str(workspace.facts),
            scratch=str(scratch),
            bundle=str(workspace.bundle),
            settings=plan.environment.settings,
            secrets=absolute_references(plan.environment.secrets, workbench.project.root),
            release=release,
            gate=plan.gate,
        )
    )


def _make_job(
    plan: Plan, workspace: Workspace, opened: OpenRecord, notebook: dict[str, Any], secrets: Mapping[str, str]
) -> Job:
    return Job(
        notebook=notebook,
        parameters={each.name: _as_recorded(each.value) for each in plan.parameters if each.source != "notebook"},
        folder=(workspace.source / plan.stage.notebook).parent,
        variables={**plan.variables, CONTEXT_VARIABLE: str(workspace.context)},
        journal=opened.folder,
        secrets=dict(secrets),
        timeout_s=plan.timeout_s,
        output_budget_bytes=plan.environment.limits.output_bytes,
        start=plan.start,
        preload=plan.preload,
    )


def _as_recorded(value: Any) -> Any:
    """A value with its mappings in the order that the record has, so that whoever does it again gives the kernel the same."""
    return json.loads(canonical_json(value))


def _collect(workbench: Workbench, plan: Plan, workspace: Workspace, started: Record, outcome: Outcome) -> Record:
    inputs = tuple(_rehash(each, workspace) for each in started.inputs)
    checks = tuple(workspace.read_checks())
    facts: dict[str, Any] = {
        "inputs": inputs,
        "checks": checks,
        "metrics": read_scraps(outcome.notebook),
        "determinism": workspace.read_determinism(),
    }
    if outcome.status is not Status.SUCCEEDED:
        return _close(workbench, started, outcome, outcome.status, outcome.failure, **facts)
    missing = [name for name in plan.stage.outputs if not (workspace.outputs / name).exists()]
    if missing:
        sentence = f"declared output {', '.join(map(repr, missing))} was not written; write to stage.outputs[…]"
        return _close(workbench, started, outcome, Status.FAILED, Failure("OutputMissing", sentence), **facts)
    outputs = tuple(
        workbench.archive.objects.put_artifact(name, workspace.outputs / name) for name in plan.stage.outputs
    )
    failure = first_failure(plan, inputs, outputs, checks, facts["metrics"], workspace.outputs)
    status = Status.FAILED if failure else Status.SUCCEEDED
    return _close(workbench, started, outcome, status, failure, outputs=() if failure else outputs, **facts)


def _rehash(each: InputArtifact, workspace: Workspace) -> InputArtifact:
    try:
        now = hash_artifact(each.artifact.name, workspace.inputs / each.artifact.name)
    except (KitError, OSError):
        now = None  # emptied, made a link, unreadable: it is no longer what it was
    return msgspec.structs.replace(each, sha256_after=now)


def _close(
    workbench: Workbench,
    started: Record,
    outcome: Outcome | None,
    status: Status,
    failure: Failure | None,
    **facts: Any,
) -> Record:
    ended = workbench.clock()
    usage = Usage(
        wall_s=round((ended - started.started).total_seconds(), 3),
        kernel_cpu_s=outcome.kernel_cpu_s if outcome else None,
        peak_memory_bytes=outcome.peak_memory_bytes if outcome else None,
    )
    if outcome:
        facts |= {"cells": outcome.cells, "start": outcome.start, "preloaded": outcome.preloaded}
    return msgspec.structs.replace(started, ended=ended, status=status, failure=failure, usage=usage, **facts)


def _redact(record: Record, redactor: Redactor) -> Record:
    if not redactor:
        return record
    parameters = tuple(msgspec.structs.replace(p, value=redactor.value(p.value)) for p in record.parameters)
    failure = record.failure and msgspec.structs.replace(
        record.failure, kind=redactor.text(record.failure.kind), message=redactor.text(record.failure.message)
    )
    checks = msgspec.convert(redactor.value(msgspec.to_builtins(record.checks)), tuple[CheckResult, ...])
    return msgspec.structs.replace(
        record,
        parameters=parameters,
        failure=failure,
        checks=checks,
        metrics=redactor.value(record.metrics),
        determinism=redactor.value(record.determinism),
        drift=tuple(map(redactor.text, record.drift)),
    )


def _seal(workbench: Workbench, plan: Plan, opened: OpenRecord, record: Record, outcome: Outcome | None) -> Record:
    files = {f"checks/{check.artifact}.json": canonical_json(msgspec.to_builtins(check)) for check in record.checks}
    if plan.gate:
        admitted = plan.gate.manifest.sha256 if record.succeeded and plan.gate.manifest else None
        verdict = describe_verdict(plan.gate.verdict, record.id, admitted)
        files[VERDICT] = workbench.archive.state(verdict).encode()
    if outcome:
        notebook = {
            **outcome.notebook,
            "metadata": {**outcome.notebook.get("metadata", {}), "kit": _notebook_mark(record)},
        }
        files["executed.ipynb"] = (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    opened.close(record, files)
    return record


def _notebook_mark(record: Record) -> dict[str, Any]:
    return {"record": record.id, "stage": record.stage, "status": record.status, "started": format_time(record.started)}
