"""A small project in which everything was executed, to be edited: of it `kit status` and `kit all` say the same."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

from probes import GOOD

from kit.cli.memo.keep import keep
from kit.cli.memo.looks import watch_looks
from kit.cli.memo.recall import ask, recall
from kit.execute import Workbench
from kit.pipeline import execute_all
from kit.project import find_project
from kit.status import Overview, read_overview
from kit.testing import (
    DATA,
    FakeClock,
    FakeEngine,
    encode_notebook,
    example_stages,
    make_notebook,
    make_project,
    make_workbench,
    write_outputs,
)
from kit.workspace import Context

RELEASING = DATA + '[parameters.train]\nepochs = 4\n[settings]\nlimit = 1\n[release]\nfrom = "dev"\n'
SUITE = '{"name": "%s", "expectations": []}'
HELPERS = {
    "notebooks/shared.py": "import inner\n",
    "notebooks/inner.py": "FACTOR = 2\n",
    "notebooks/unrelated.py": "FACTOR = 3\n",
    "notebooks/codes.txt": "a\n",
    "notebooks/expectations/other.json": SUITE % "other",
    "README.md": "# About\n",
    "requirements.lock": "msgspec\n",
}


def stages(code: str = "x = stage.config['limit']", prose: str = "What it is for.") -> dict[str, dict[str, object]]:
    """The example's stages; prepare imports a helper, train asks for the settings."""
    found = example_stages()
    found["prepare"] = make_notebook("import shared", title="Prepare", inputs=["raw.csv"], outputs=["table.csv"])
    train = make_notebook(
        code,
        title="Train",
        parameters="epochs: int = 3  # passes\nrate: float = 0.1  # step",
        inputs=["table.csv"],
        outputs=["saved_model", "golden.json"],
    )
    train["cells"][0]["source"] = f"# Train\n\n{prose}"
    return {**found, "train": train}


def act(context: Context) -> dict[str, float]:
    """Write outputs that are others each time."""
    write_outputs(context)
    for name in ("table.csv", "answers.csv"):
        if name in context.outputs:
            Path(context.outputs[name]).write_text(context.record, encoding="utf-8")
    return {"auc": 0.7}


class Bench:
    """A project in which everything is up to date, and what its stages say after an edit."""

    def __init__(self, folder: Path) -> None:
        self.project = find_project(folder)
        self.clock = FakeClock()
        self.notes: list[str] = []

    def workbench(self) -> Workbench:
        bench = make_workbench(find_project(self.project.root), FakeEngine(act), self.clock)
        return dataclasses.replace(bench, notify=self.notes.append, now_ns=later_ns)

    def status(self) -> Overview:
        return read_overview(self.workbench(), "dev")

    def all(self) -> dict[str, bool]:
        """Stage -> True if it was executed."""
        steps = execute_all(self.workbench(), "dev", GOOD, reuse=True)
        return {step.record.stage: not step.reused for step in steps}

    def write(self, path: str, text: str) -> None:
        (self.project.root / path).write_text(text, encoding="utf-8")

    def write_notebook(self, name: str, notebook: dict[str, object]) -> None:
        (self.project.root / f"notebooks/{name}.ipynb").write_bytes(encode_notebook(notebook))

    def remember(self, command: str) -> bool:
        """Ask `kit status` or `kit all`, which have nothing to do; True if their answer was kept."""
        question = ask((command, "--env", "dev"), later_ns)
        assert question is not None
        with watch_looks(later_ns()) as looks:
            is_up_to_date = self.status().is_up_to_date if command == "status" else not any(self.all().values())
            question.grounds = self.workbench()
        assert is_up_to_date
        question.said.append((1, "all is up to date"))
        return keep(question, looks)

    def remembers(self, command: str) -> bool:
        """True if the answer is told again."""
        question = ask((command, "--env", "dev"), later_ns)
        return question is not None and recall(question) is not None


def later_ns() -> int:
    """A moment at which whatever tests have done has settled."""
    return time.time_ns() + 3_600_000_000_000


def make_bench(folder: Path, others: Mapping[str, dict[str, object]] | None = None) -> Bench:
    """A project in which everything was executed; `others`: notebooks by name, instead of its own."""
    make_project(folder, {**stages(), **(others or {})}, {"dev": RELEASING}, HELPERS)
    bench = Bench(folder)
    assert bench.all() == dict.fromkeys(["build", "prepare", "train", "release", "run"], True)
    return bench
