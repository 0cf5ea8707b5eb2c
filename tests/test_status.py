"""`kit status` and `kit all` say the same: what is up to date is not executed, and what is not says why."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from probes import GOOD

from kit.execute import Workbench
from kit.pipeline import execute_all
from kit.project import find_project
from kit.status import Overview, StageStatus, State, read_overview
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
        return dataclasses.replace(bench, notify=self.notes.append)

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project in which everything was executed; to be copied."""
    folder = tmp_path_factory.mktemp("made")
    make_project(folder, stages(), {"dev": RELEASING}, HELPERS)
    assert Bench(folder).all() == dict.fromkeys(["build", "prepare", "train", "release", "run"], True)
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    shutil.copytree(made, tmp_path / "project")
    return Bench(tmp_path / "project")


def states(overview: Overview) -> dict[str, State]:
    return {each.stage: each.state for each in overview.stages}


def of(overview: Overview, stage: str) -> StageStatus:
    return next(each for each in overview.stages if each.stage == stage)


def test_nothing_changed_nothing_is_executed(bench: Bench) -> None:
    n_records = len(bench.workbench().archive.list_ids())
    assert bench.status().is_up_to_date
    assert set(bench.all().values()) == {False}
    assert len(bench.workbench().archive.list_ids()) == n_records


OTHER_RUN = make_notebook("print(1)", title="Run", inputs=["release.json", "raw.csv"], outputs=["answers.csv"])
Edit = Callable[[Bench], None]
EDITS: dict[str, tuple[Edit, set[str], list[str]]] = {
    "markdown": (
        lambda b: b.write_notebook("train", stages(prose="Other words.")["train"]),
        {"build"},
        [],
    ),
    "code": (
        lambda b: b.write_notebook("train", stages("x = 2 * stage.config['limit']")["train"]),
        {"build", "train", "release", "run"},
        ["cell 4"],
    ),
    "cell tag and output": (
        lambda b: b.write_notebook("train", _dress(stages()["train"])),
        {"build"},
        [],
    ),
    "helper": (
        lambda b: b.write("notebooks/inner.py", "FACTOR = 5\n"),
        {"build", "prepare", "train", "release", "run"},
        [],
    ),
    "unrelated helper": (lambda b: b.write("notebooks/unrelated.py", "FACTOR = 5\n"), {"build"}, []),
    "file beside the notebooks": (
        lambda b: b.write("notebooks/codes.txt", "b\n"),
        {"build", "prepare", "train", "release", "run"},
        ["file notebooks/codes.txt: "],
    ),
    "file elsewhere": (lambda b: b.write("README.md", "# Other\n"), {"build"}, []),
    "parameter": (
        lambda b: b.write("environments/dev.toml", RELEASING.replace("epochs = 4", "epochs = 5")),
        {"train", "release", "run"},
        ["parameter epochs: 4 → 5 (environment)"],
    ),
    "default that is not used": (
        lambda b: b.write_notebook("train", _with_default("epochs", 7)),
        {"build"},
        [],
    ),
    "default that is used": (
        lambda b: b.write_notebook("train", _with_default("rate", 0.2)),
        {"build", "train", "release", "run"},
        ["parameter rate: 0.1 → 0.2 (notebook)"],
    ),
    "setting": (
        lambda b: b.write("environments/dev.toml", RELEASING.replace("limit = 1", "limit = 2")),
        {"train", "release", "run"},
        ["setting limit: 1 → 2"],
    ),
    "description of the environment": (
        lambda b: b.write("environments/dev.toml", 'description = "other"\n' + RELEASING),
        {"release", "run"},
        [],
    ),
    "lock": (
        lambda b: b.write("requirements.lock", "msgspec\nclick\n"),
        {"build", "prepare", "train", "release", "run"},
        ["lock: "],
    ),
    "suite of another artifact": (
        lambda b: b.write("notebooks/expectations/other.json", SUITE % "more"),
        {"build"},
        [],
    ),
    "data": (
        lambda b: b.write("data/raw.csv", "x\n3\n"),
        {"prepare", "train", "release", "run"},
        [],
    ),
    "touched data": (lambda b: (b.project.root / "data/raw.csv").touch(), set(), []),
    "notebook that runs a release": (
        lambda b: b.write_notebook("run", OTHER_RUN),
        {"build", "train", "release", "run"},
        ["carried notebooks/run.ipynb: "],
    ),
}  # fmt: skip


def _dress(notebook: dict[str, object]) -> dict[str, object]:
    cell = notebook["cells"][3]
    cell["metadata"]["tags"] = ["mine"]
    cell["id"], cell["execution_count"] = "other", 5
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    return notebook


def _with_default(name: str, value: object) -> dict[str, object]:
    notebook = stages()["train"]
    old = {"epochs": "epochs: int = 3", "rate": "rate: float = 0.1"}[name]
    source = notebook["cells"][1]["source"]
    notebook["cells"][1]["source"] = source.replace(old, f"{old.rpartition(' ')[0]} {value}")
    return notebook


@pytest.mark.parametrize("edit", EDITS)
def test_status_and_all_agree_after_an_edit(bench: Bench, edit: str) -> None:
    change, executed, reasons_of_train = EDITS[edit]
    change(bench)
    overview = bench.status()
    assert {name for name, state in states(overview).items() if state is State.STALE} == executed
    assert {name for name, was in bench.all().items() if was} == executed
    told = [str(each) for each in of(overview, "train").reasons]
    for beginning in reasons_of_train:
        assert any(each.startswith(beginning) for each in told), told
    assert bench.status().is_up_to_date
    assert set(bench.all().values()) == {False}


def test_helper_that_changed_is_named_with_its_lines(bench: Bench) -> None:
    bench.write("notebooks/inner.py", "FACTOR = 5\n")
    (reason,) = of(bench.status(), "prepare").reasons
    assert (reason.kind.value, reason.subject) == ("helper", "notebooks/inner.py")
    assert reason.lines == ("- FACTOR = 2", "+ FACTOR = 5")
    (waiting,) = of(bench.status(), "train").reasons
    assert str(waiting) == "input table.csv: prepare is stale itself"
