"""`kit status` and `kit all` say the same: what is up to date is not executed, and what is not says why."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from benches import RELEASING, SUITE, Bench, make_bench, stages

from kit.status import Overview, StageStatus, State
from kit.testing import make_notebook

COMMANDS = ("status", "all")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project in which everything was executed; to be copied."""
    return make_bench(tmp_path_factory.mktemp("made")).project.root


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
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
    command = COMMANDS[list(EDITS).index(edit) % 2]
    assert bench.status().is_up_to_date  # and the copied files are hashed
    assert bench.remember(command)
    assert bench.remembers(command)
    change(bench)
    assert not bench.remembers(command)
    overview = bench.status()
    assert {name for name, state in states(overview).items() if state is State.STALE} == executed
    assert {name for name, was in bench.all().items() if was} == executed
    told = [str(each) for each in of(overview, "train").reasons]
    for beginning in reasons_of_train:
        assert any(each.startswith(beginning) for each in told), told
    assert bench.status().is_up_to_date
    assert bench.remember("all")
    assert bench.remembers("all")


def test_helper_that_changed_is_named_with_its_lines(bench: Bench) -> None:
    bench.write("notebooks/inner.py", "FACTOR = 5\n")
    (reason,) = of(bench.status(), "prepare").reasons
    assert (reason.kind.value, reason.subject) == ("helper", "notebooks/inner.py")
    assert reason.lines == ("- FACTOR = 2", "+ FACTOR = 5")
    (waiting,) = of(bench.status(), "train").reasons
    assert str(waiting) == "input table.csv: prepare is stale itself"
