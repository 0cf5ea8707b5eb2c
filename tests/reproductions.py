"""Builders for tests of reproductions: a project that was executed once, by a fake engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from probes import EVALUATION, GOOD

from kit.engine.values import Outcome
from kit.execute import Workbench
from kit.pipeline import execute_all
from kit.provenance import requirements_text
from kit.record import Record, Status, new_record_id
from kit.reproduce import Report, Reproduction, reproduce
from kit.signing import SigningKey
from kit.testing import DATA, FakeEngine, fake_outcome, make_project, make_workbench, write_outputs
from kit.workspace import Context

DEV = f'{DATA}[settings]\nregion = "north"\n[release]\nfrom = "dev"\n[gates]\nmetrics.auc = {{ min = 0.5 }}\n'
COMPARED = (
    DEV.replace("min = 0.5", "min = 0.5, max_drop = 0.1") + EVALUATION
)  # trainings must then write a model's text
PYPROJECT = '[tool.kit]\nname = "example"\nexclude = ["data/*"]\n'


def train(auc: float = 0.72) -> Any:
    """A training that says how well it did."""

    def act(context: Context) -> Mapping[str, Any]:
        write_outputs(context)
        return {"auc": auc}

    return act


def write_text(name: str, text: str, metrics: Mapping[str, Any] | None = None) -> Any:
    """A stage that writes one output."""

    def act(context: Context) -> Mapping[str, Any]:
        write_outputs(context)
        Path(context.outputs[name]).write_text(text, encoding="utf-8")
        return metrics or {}

    return act


def print_text(text: str) -> Any:
    """A stage that prints."""

    def act(context: Context) -> Outcome:
        write_outputs(context)
        outcome = fake_outcome(None, Status.SUCCEEDED)
        outcome.notebook["cells"][0]["outputs"][0]["text"] = text
        return outcome

    return act


class Executed:
    """A project all of whose stages were executed once.

    Args:
        folder: of the project.
        compare: the content of `[tool.kit.compare]`.
        key: that the archive is signed with.
        environment: its file.
        acts: of the fake engine.
    """

    def __init__(
        self, folder: Path, compare: str = "", key: SigningKey | None = None, environment: str = DEV, **acts: Any
    ) -> None:
        files = {"pyproject.toml": f"{PYPROJECT}[tool.kit.compare]\n{compare}\n"}
        self.project = make_project(folder, environments={"dev": environment}, files=files)
        self.engine = FakeEngine(**{"train": train(), **acts})
        self.bench: Workbench = make_workbench(self.project, self.engine, key=key)
        self.records: dict[str, Record] = {}
        self.execute()

    def execute(self) -> None:
        """Execute all stages."""
        for step in execute_all(self.bench, "dev", probes=GOOD):
            assert step.record.succeeded, step.record.failure
            self.records[step.record.stage] = step.record

    def again(self, subject: str, **options: Any) -> Report:
        """Do a stage's record, or a release, again."""
        name = self.records[subject].id if subject in self.records else subject
        return reproduce(self.bench, name, **{"probes": GOOD, **options})

    def again_one(self, stage: str, **options: Any) -> Reproduction:
        """Do a stage's record again."""
        (found,) = self.again(stage, **options).stages
        return found

    def copy_record(self, stage: str, packages: str = "", notebook: bytes = b"", **changes: Any) -> Record:
        """Another record of a stage, with some facts changed; put into the archive as if it had been executed so."""
        original = self.records[stage]
        record = msgspec.structs.replace(original, id=new_record_id(stage, original.started), **changes)
        folder = self.bench.archive.record_folder(original.id)
        files = {"executed.ipynb": notebook or (folder / "executed.ipynb").read_bytes()}
        files["requirements.txt"] = (packages or requirements_text()).encode()
        started = msgspec.structs.replace(record, status=Status.STARTED, ended=None)
        self.bench.archive.open_record(started, {}).close(record, files)
        self.records[stage] = record
        return record
