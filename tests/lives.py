"""A project with a way from dev over staging to production, and what people do with its releases; no kernel, no model."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from probes import EVALUATION, GOOD, write_model

from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.gate import Release
from kit.project import Project
from kit.record import Record
from kit.release import cut_release, plan_promotion, plan_release
from kit.signing import SigningKey
from kit.testing import DATA, START, FakeEngine, make_project, make_workbench
from kit.workspace import Context

STAGING = DATA + '[release]\nfrom = "dev"\n[gates]\nmetrics.auc = { min = 0.6 }\n'
PRODUCTION = (
    DATA
    + "[gates]\nmetrics.auc = { min = 0.6, max_drop = 0.01 }\n"
    + EVALUATION
    + '[policy]\npromoted_from = ["staging"]\n'
)
ENVIRONMENTS = {"dev": DATA, "staging": STAGING, "production": PRODUCTION}


class Clock:
    """Goes on by a second whenever someone looks, and by more when somebody waits."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """The time now."""
        now, self.now = self.now, self.now + timedelta(seconds=1)
        return now


class Life:
    """A project, and what people do with its releases.

    Args:
        folder: of the project.
        environments: their files.
        key: signs; None for unsigned work.
    """

    def __init__(self, folder: Path, environments: dict[str, str] | None = None, key: SigningKey | None = None) -> None:
        self.project = make_project(folder, environments=environments or ENVIRONMENTS)
        self.auc = 0.7
        self.clock = Clock()
        self.bench = self.open(key)
        self.archive = self.bench.archive

    def open(self, key: SigningKey | None, *trusted: SigningKey) -> Workbench:
        """The project as somebody with a key has it."""
        project = msgspec.structs.replace(self.project, trusted_keys=tuple(str(each.public) for each in trusted))
        return make_workbench(project, FakeEngine(train=self._train), self.clock, key)

    def _train(self, context: Context) -> dict[str, Any]:
        return write_model(context, self.auc)

    def execute(self, *stages: str, bench: Workbench | None = None, **parameters: str) -> Record:
        """Stages in dev; gives the last one's record."""
        bench = bench or self.bench
        for stage in stages:
            record = execute_plan(bench, plan_stage(bench, Order(stage, "dev", parameters)))
            assert record.succeeded
        return record

    def train(self, auc: float = 0.7, bench: Workbench | None = None) -> Record:
        """All that a release needs, with a model of some quality."""
        self.auc = auc
        return self.execute("build", "prepare", "train", bench=bench)

    def release(self, environment: str = "staging", bench: Workbench | None = None, training: str = "") -> Release:
        """A release that is admitted."""
        bench = bench or self.bench
        inputs = {"--from": training} if training else {}
        _, release = cut_release(bench, plan_release(bench, Order("release", environment, inputs=inputs), GOOD))
        assert release is not None
        return release

    def promote(self, release_id: str, environment: str = "production", bench: Workbench | None = None) -> Release:
        """A promotion that is admitted."""
        bench = bench or self.bench
        _, release = cut_release(bench, plan_promotion(bench, Order("release", environment), release_id, GOOD))
        assert release is not None
        return release

    def refusals(self, release_id: str = "", environment: str = "production") -> tuple[str, ...]:
        """Why a gate refuses a release of the newest training, or a promotion."""
        order = Order("release", environment)
        promoted = plan_promotion(self.bench, order, release_id, GOOD) if release_id else None
        plan = promoted or plan_release(self.bench, order, GOOD)
        assert plan.gate is not None
        return plan.gate.verdict.reasons

    def wait(self, **time: float) -> datetime:
        """Let time pass on the project's clock; gives the time that it is then."""
        self.clock.now += timedelta(**time)
        return self.clock.now


def change(project: Project, environment: str, text: str) -> None:
    """Write an environment's file anew."""
    (project.environments / f"{environment}.toml").write_text(text)


__all__ = ["ENVIRONMENTS", "PRODUCTION", "STAGING", "START", "Life", "change"]
