"""Builders and fakes for tests of kit and of projects that use it: no kernel, no patching.

project = make_project(tmp_path, {"prepare": make_notebook(outputs=["a.csv"])}, {"dev": ""})
workbench = make_workbench(project, FakeEngine(prepare=lambda context: {"n_rows": 3}))
"""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import VERDICT, Archive, open_archive
from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult, ExpectationResult, Finding, Severity
from kit.engine.values import Event, Job, Outcome, Progress, Start
from kit.environment import Environment
from kit.errors import GateRefusedError
from kit.execute import Workbench
from kit.files import Clock, sha256_bytes, sha256_file
from kit.gate import Manifest, Release, Verdict
from kit.project import Project, find_project
from kit.provenance import current_process
from kit.record import CellOutcome, CellStatus, Code, Failure, Machine, Record, Software, Status, new_record_id
from kit.redaction import Redactor
from kit.signing import SigningKey
from kit.statement import describe_verdict
from kit.workspace import CONTEXT_VARIABLE, Context, read_context, write_fact

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)

# What a fake stage does: metrics, a whole outcome, or nothing to say; an exception fails the stage.
Act = Callable[[Context], "Mapping[str, Any] | Outcome | None"]


class FakeClock:
    """A clock that starts at a fixed time and goes on by a second whenever someone looks."""

    def __init__(self, start: datetime = START, step_s: float = 1.0) -> None:
        self._next, self._step = start, timedelta(seconds=step_s)

    def __call__(self) -> datetime:
        """The time now."""
        now, self._next = self._next, self._next + self._step
        return now


class FakeEngine:
    """Executes nothing: a Python function stands for each notebook; without one, a stage writes its outputs.

    Args:
        otherwise: for stages that `acts` does not name.
        acts: stage name -> function on the context, as the kernel would read it.
    """

    def __init__(self, otherwise: Act | None = None, **acts: Act) -> None:
        self._otherwise, self.acts = otherwise or write_outputs, acts
        self.jobs: list[Job] = []

    def prepare(self, start: Start, preload: tuple[str, ...]) -> None:
        """There is no kernel to start."""

    def execute(self, job: Job, progress: Callable[[Progress], None]) -> Outcome:
        """Let the stage's function act; KeyboardInterrupt goes through, as from code of kit itself."""
        self.jobs.append(job)
        context = read_context(Path(job.variables[CONTEXT_VARIABLE]))
        progress(Progress(Event.KERNEL_READY, 0, 1, 0.0))
        try:
            result = self.acts.get(context.stage, self._otherwise)(context)
        except Exception as error:  # noqa: BLE001 - as a kernel: whatever a notebook raises is its outcome
            return fake_outcome(job, Status.FAILED, failure=Failure(type(error).__name__, str(error), 0))
        progress(Progress(Event.CELL_FINISHED, 1, 1, 0.1, 0))
        if isinstance(result, Outcome):
            return result
        return fake_outcome(job, Status.SUCCEEDED, metrics=result or {})


def fake_outcome(
    job: Job | None, status: Status, metrics: Mapping[str, Any] | None = None, failure: Failure | None = None
) -> Outcome:
    """An outcome of one cell, redacted as a real engine's is."""
    redactor = Redactor(job.secrets if job else {})
    text = "".join(traceback.format_exception_only(RuntimeError(failure.message))) if failure else "done\n"
    outputs: list[dict[str, Any]] = [{"output_type": "stream", "name": "stdout", "text": text}]
    outputs += [_scrap(name, value) for name, value in (metrics or {}).items()]
    cell = {
        "cell_type": "code",
        "id": "c0",
        "metadata": {},
        "execution_count": 1,
        "source": "act()",
        "outputs": outputs,
    }
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    cells = (CellOutcome(0, "c0", CellStatus(status), 1, 0.1),)
    if failure:
        failure = msgspec.structs.replace(failure, message=redactor.text(failure.message))
    return Outcome(status=status, notebook=redactor.value(notebook), cells=cells, failure=failure)


def _scrap(name: str, value: Any) -> dict[str, Any]:
    encoder = "text" if isinstance(value, str) else "json"
    payload = {"name": name, "data": value, "encoder": encoder, "version": 1}
    data = {f"application/scrapbook.scrap.{encoder}+json": payload}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def write_outputs(context: Context) -> dict[str, Any]:
    """Write every declared output: the bundle, the admitted release, else the output's name as text."""
    for name, path in context.outputs.items():
        if name == "bundle.zip":
            Path(path).write_bytes(Path(context.bundle).read_bytes())
        elif name == "release.json" and context.gate:
            if context.gate.manifest is None:
                raise GateRefusedError(context.environment, context.gate.verdict.reasons)
            Path(path).write_bytes(context.gate.manifest.encode())
        else:
            Path(path).write_text(f"{name} of {context.stage}\n", encoding="utf-8")
    return {}


def leave_check(context: Context, name: str, **changes: Any) -> CheckResult:
    """Leave a check's result on an input or output as `stage.check` does, without Great Expectations."""
    path = Path({**context.inputs, **context.outputs}[name])
    result = make_check(name, sha256_file(path), **changes)
    write_fact(Path(context.facts), f"check-{name}", result)
    return result


def make_notebook(
    *sources: str, parameters: str = "", inputs: Iterable[str] = (), outputs: Iterable[str] = (), title: str = ""
) -> dict[str, Any]:
    """A notebook of code cells; with a title, parameters, inputs or outputs one that is a stage."""
    names = list(inputs), list(outputs)
    cells = [_cell("code", source) for source in sources]
    if title or parameters or any(names):
        call = f"import kit\n\nstage = kit.open_stage(inputs={names[0]!r}, outputs={names[1]!r})"
        head = [_cell("markdown", f"# {title or 'A stage'}\n\nWhat it is for."), _cell("code", parameters or "# none")]
        head[1]["metadata"]["tags"] = ["parameters"]
        cells = [*head, _cell("code", call), *cells]
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


def _cell(kind: str, source: str) -> dict[str, Any]:
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **code}


def encode_notebook(notebook: Mapping[str, Any]) -> bytes:
    """A notebook's bytes."""
    return (json.dumps(notebook, indent=1) + "\n").encode()


def example_stages() -> dict[str, dict[str, Any]]:
    """The five stages of a small project: build, prepare, train, release, run."""
    return {
        "build": make_notebook(title="Build", outputs=["bundle.zip"]),
        "prepare": make_notebook(title="Prepare", inputs=["raw.csv"], outputs=["table.csv"]),
        "train": make_notebook(
            title="Train",
            parameters="epochs: int = 3  # passes over the data\nrate: float = 0.1  # step, (0, 1]",
            inputs=["table.csv"],
            outputs=["saved_model", "golden.json"],
        ),
        "release": make_notebook(
            title="Release", inputs=["bundle.zip", "saved_model", "golden.json"], outputs=["release.json"]
        ),
        "run": make_notebook(title="Run", inputs=["release.json", "raw.csv"], outputs=["answers.csv"]),
    }


def make_project(
    folder: Path,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    environments: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Project:
    """A project in a folder.

    Args:
        folder: made if it is not there.
        stages: name -> notebook; without it those of `example_stages`.
        environments: name -> TOML; without it `dev`, which binds `raw.csv`.
        files: further files, path -> text.
    """
    texts = {
        "pyproject.toml": '[tool.kit]\nname = "example"\nexclude = ["data/*"]\n',
        "data/raw.csv": "x\n1\n2\n",
        **{f"environments/{name}.toml": text for name, text in (environments or {"dev": DATA}).items()},
        **(files or {}),
    }
    for name, text in texts.items():
        _write(folder / name, text.encode())
    for name, notebook in (example_stages() if stages is None else stages).items():
        _write(folder / f"notebooks/{name}.ipynb", encode_notebook(notebook))
    return find_project(folder)


DATA = '[data]\n"raw.csv" = "data/raw.csv"\n'


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def commit_all(project: Project) -> str:
    """Put the project under git, everything committed; gives the commit."""
    identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    identity |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
    _write(project.root / ".gitignore", b"archive/\nreports/\n.kit/\ndata/\n")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run(["git", *command], cwd=project.root, env={**os.environ, **identity}, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, check=True)
    return done.stdout.decode().strip()


def make_workbench(
    project: Project, engine: Any = None, clock: Clock | None = None, key: SigningKey | None = None
) -> Workbench:
    """A workbench on the project's own archive; with a key it signs."""
    archive = open_archive(project.archive, project.name, key, index=project.index)
    return Workbench(project, archive, engine or FakeEngine(), clock or FakeClock())


def make_check(name: str, sha256: str, **changes: Any) -> CheckResult:
    """A check that passed."""
    passed = ExpectationResult(
        type="expect_table_row_count_to_be_between",
        arguments={"min_value": 1},
        severity=Severity.CRITICAL,
        why="there must be rows",
        finding=Finding.PASSED,
    )
    facts: dict[str, Any] = {
        "artifact": name,
        "artifact_sha256": sha256,
        "suite": Path(name).stem,
        "suite_sha256": sha256_bytes(b"suite"),
        "n_rows": 2,
        "expectations": (passed,),
    }
    return CheckResult(**{**facts, **changes})


def make_record(**changes: Any) -> Record:
    """A succeeded record of a stage without inputs."""
    stage, started = changes.get("stage", "train"), changes.get("started", START)
    facts: dict[str, Any] = {
        "id": new_record_id(stage, started),
        "stage": stage,
        "environment": "dev",
        "configuration_sha256": sha256_bytes(b"configuration"),
        "status": Status.SUCCEEDED,
        "started": started,
        "ended": started + timedelta(seconds=5),
        "process": current_process(),
        "parameters": (),
        "code": Code(sha256_bytes(b"bundle"), f"notebooks/{stage}.ipynb", sha256_bytes(b"nb"), None, dirty=True),
        "inputs": (),
        "machine": Machine("CPython 3.12", "Linux", "cpu", sha256_bytes(b""), 2, "host", "user", {}),
        "software": Software(sha256_bytes(b""), 0, None, "0.1.0"),
    }
    return Record(**{**facts, **changes})


def make_manifest(verdict: Verdict, **changes: Any) -> Manifest:
    """A manifest of a release into `dev` without artifacts."""
    environment = Environment(name="dev")
    facts: dict[str, Any] = {
        "environment": "dev",
        "bundle_sha256": "0" * 64,
        "commit": None,
        "training_record": "r",
        "artifacts": (),
        "lock_sha256": None,
        "configuration": environment.configuration,
        "configuration_sha256": environment.sha256,
        "metrics": {},
    }
    return Manifest(verdict=verdict, **{**facts, **changes})


def seal_record(archive: Archive, record: Record, files: Mapping[str, bytes] | None = None) -> Record:
    """Put a closed record into an archive."""
    started = msgspec.structs.replace(record, status=Status.STARTED, ended=None)
    archive.open_record(started, {}).close(record, dict(files or {}))
    return record


def seal_release(archive: Archive, manifest: Manifest, time: datetime = START) -> Release:
    """Put a record that cut a release into an archive, and number the release."""
    record = make_record(stage="release", environment=manifest.environment)
    verdict = describe_verdict(manifest.verdict, record.id, manifest.sha256)
    seal_record(archive, record, {VERDICT: archive.state(verdict).encode()})
    return archive.add_release(manifest.environment, record, time)


def make_key(name: str = "ana@laptop") -> SigningKey:
    """A new key that is kept nowhere."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return SigningKey(Ed25519PrivateKey.generate(), name)


def read_from(record: Record, artifact: Artifact) -> InputArtifact:
    """A record's output as the unchanged input of another."""
    return InputArtifact(artifact, record.id, "", artifact.sha256)
