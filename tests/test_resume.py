"""After a failure or a kill the same command goes on where it stopped: at the stage, and within it at the epoch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Kit
from probes import GOOD

from kit.execute import Order
from kit.pipeline import execute_all, execute_stage
from kit.project import Project, find_project
from kit.record import Failure, Record, Status
from kit.testing import (
    DATA,
    FakeEngine,
    make_notebook,
    make_project,
    make_record,
    make_workbench,
    seal_record,
    write_outputs,
)
from kit.verify import verify_archive
from kit.workspace import Context

ROOT = Path(__file__).parents[1]
RELEASING = DATA + '[gates]\nmetrics.auc = { min = 0.6 }\n[release]\nfrom = "dev"\n'


def test_pipeline_that_failed_goes_on_at_the_failed_stage(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def train(context: Context) -> Any:
        scratch = Path(context.scratch)
        seen.append([path.name for path in scratch.iterdir()])
        (scratch / "epoch-1").touch()
        if len(seen) == 1:
            raise MemoryError
        return {**write_outputs(context), "auc": 0.7}

    project = make_project(tmp_path, environments={"dev": RELEASING})
    workbench = make_workbench(project, FakeEngine(train=train))
    first = list(execute_all(workbench, "dev", GOOD, reuse=True))
    again = list(execute_all(workbench, "dev", GOOD, reuse=True))
    assert [(step.record.stage, step.record.status.value, step.reused) for step in first] == [
        ("build", "succeeded", False), ("prepare", "succeeded", False), ("train", "failed", False),
    ]  # fmt: skip
    assert [(step.record.stage, step.record.status.value, step.reused) for step in again] == [
        ("build", "succeeded", True), ("prepare", "succeeded", True), ("train", "succeeded", False),
        ("release", "succeeded", False), ("run", "succeeded", False),
    ]  # fmt: skip
    assert [step.record.id for step in again[:2]] == [step.record.id for step in first[:2]]
    assert again[2].record.attempts == (first[2].record.id,)
    assert seen == [[], ["epoch-1"]]
    assert verify_archive(workbench.archive.folder).exit_code == 0


def test_text_of_a_notebook_does_not_lose_what_a_failed_attempt_left(tmp_path: Path) -> None:
    def fail(context: Context) -> None:
        (Path(context.scratch) / "epoch-1").touch()
        raise MemoryError

    workbench = make_workbench(make_project(tmp_path), FakeEngine(prepare=fail))
    notebook = workbench.project.root / "notebooks/prepare.ipynb"

    def attempt() -> Record:
        return execute_stage(workbench, Order("prepare", "dev")).record

    failed = attempt()
    notebook.write_text(notebook.read_text().replace("What it is for.", "What it is for, and who asks."))
    (workbench.project.root / "notebooks/unrelated.py").write_text("x = 1\n")
    second = attempt()
    assert second.code.bundle_sha256 != failed.code.bundle_sha256
    assert second.attempts == (failed.id,)
    call = notebook.read_text()
    notebook.write_text(call.replace("import kit", "import kit  # a comment in the code"))
    assert attempt().attempts == ()


def test_show_tells_of_attempts_start_sweep_and_key(kit: Kit) -> None:
    failure = Failure("ConnectionError", "no answer\x1b[31m", 3)
    failed = seal_record(kit.archive, make_record(status=Status.FAILED, failure=failure, key="k" * 64))
    gone = "20260301T093000Z-train-000000"
    facts = {"key": "k" * 64, "sweep": "5" * 64, "start": "warm", "preloaded": ("numpy", "tensorflow")}
    record = seal_record(kit.archive, make_record(attempts=(gone, failed.id), **facts))
    shown = kit("show", record.id).out
    for line in (
        f"{gone}  cannot be read here",
        f"{failed.id}  failed               2026-03-01 09:30:05 UTC  ConnectionError: no answer\\x1b[31m",
        "warm, after import of numpy, tensorflow",
        "sweep      555555555555\n",
        "kkkkkkkkkkkk",
    ):
        assert line in shown
    assert kit("show", record.id, "--json").json["attempts"] == [gone, failed.id]
    plain = kit("show", failed.id).out
    assert not any(word in plain for word in ("earlier attempts", "sweep", "warm"))


# --- real processes --------------------------------------------------------------------------------------------------

WAITING = """
def wait_where_the_test_wants():
    import os, signal
    if pipe := os.environ.get("_".join(["KIT", "TEST", "PIPE"])):  # by its name it would be part of the key
        with open(pipe, "w") as file:
            file.write(str(os.getpid()))
        signal.pause()
"""
STAGES = {
    "first": make_notebook("stage.outputs['table.csv'].write_text('x')", title="First", outputs=["table.csv"]),
    "second": make_notebook(
        "print('found', sorted(path.name for path in stage.scratch.iterdir()))",
        "(stage.scratch / 'half').touch()",
        "import waiting\nwaiting.wait_where_the_test_wants()",
        "stage.outputs['model'].write_text('y')",
        title="Second", inputs=["table.csv"], outputs=["model"],
    ),
}  # fmt: skip


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    """A kit of its own, in a session of its own."""
    command = [sys.executable, "-m", "kit.cli", *arguments]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "settings"), **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, start_new_session=True)


def call(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out.decode(), err.decode()


def kill_half_way(folder: Path, pipe: Path, *arguments: str, kernel: bool) -> None:
    """Start a command, wait until its notebook waits, and kill the kernel, or kit itself, as nothing could stop."""
    process = start(folder, *arguments, KIT_TEST_PIPE=str(pipe))
    pid = int(pipe.read_text())
    os.kill(pid if kernel else process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == (1 if kernel else -signal.SIGKILL)


def records_of(project: Project, stage: str) -> list[Record]:
    """Oldest first; also those that never ended."""
    archive = make_workbench(project).archive
    found = [record for record in map(archive.read_record, archive.list_ids()) if record.stage == stage]
    return sorted(found, key=lambda record: record.started)  # two ids of one second are in no order


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.kernel
def test_killed_kit_all_goes_on_in_the_stage_that_was_killed(tmp_path: Path, pipe: Path) -> None:
    project = make_project(tmp_path / "project", STAGES, {"dev": ""}, {"notebooks/waiting.py": WAITING})
    kill_half_way(project.root, pipe, "all", kernel=False)
    code, _, err = call(project.root, "all")
    assert code == 0, err
    (first,) = records_of(project, "first")
    lost, done = records_of(project, "second")
    assert f"first: up to date: {first.id}" in err
    assert f"second: goes on with the scratch folder of {lost.id}" in err
    assert (lost.status, done.status, done.attempts) == (Status.LOST, Status.SUCCEEDED, (lost.id,))
    assert "found ['half']" in (make_workbench(project).archive.record_folder(done.id) / "log.txt").read_text()
    _, shown, _ = call(project.root, "show", done.id)
    assert "earlier attempts" in shown
    assert f"{lost.id}  lost" in shown
    assert call(project.root, "verify")[0] == 0
    assert list((project.scratch / "scratch").iterdir()) == []


def copy_example(target: Path, epochs: Path) -> Project:
    """The worked example with its sample, and a training that waits in its second epoch where a test asks for it.

    It writes the number of each epoch that it begins to a file outside.
    """
    data = target / "notebooks/data"
    data.mkdir(parents=True)
    for name in ("flights-sample", "weather", "planes", "batch"):
        shutil.copy(ROOT / f"notebooks/data/{name}.parquet", data)
    for name in ("pyproject.toml", "requirements.lock", "environments", "notebooks/expectations"):
        copy: Callable[..., Any] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    for path in [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks").glob("*.py")]:
        shutil.copy(path, target / "notebooks")
    helper = target / "notebooks/resuming.py"
    helper.write_text(helper.read_text() + WAITING + WAITS_IN_EPOCH_2.replace("EPOCHS", str(epochs)))
    return find_project(target)


WAITS_IN_EPOCH_2 = """

class Resume(Resume):
    def on_train_batch_begin(self, batch, logs=None):
        if (len(self.history), batch) == (1, 5):
            wait_where_the_test_wants()

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        with open("EPOCHS", "a") as file:
            file.write(f"{epoch + 1} ")
"""


@pytest.mark.kernel
@pytest.mark.timeout(900)
def test_training_killed_in_epoch_2_goes_on_there_to_the_same_bytes(tmp_path: Path, pipe: Path) -> None:
    project, trained = copy_example(tmp_path / "project", tmp_path / "epochs"), tmp_path / "epochs"
    train = ("train", "--env", "dev", "--cold")
    code, _, err = call(project.root, "prepare", "--env", "dev", "--cold")
    assert code == 0, err
    kill_half_way(project.root, pipe, *train, kernel=True)
    kill_half_way(project.root, pipe, *train, kernel=False)
    code, _, err = call(project.root, *train)
    assert code == 0, err
    assert trained.read_text().split() == ["1", "2", "2", "2"]
    died, lost, done = records_of(project, "train")
    assert (died.status, lost.status, done.status) == (Status.KERNEL_DIED, Status.LOST, Status.SUCCEEDED)
    assert (died.attempts, lost.attempts, done.attempts) == ((), (died.id,), (died.id, lost.id))
    _, shown, _ = call(project.root, "show", done.id)
    assert f"{died.id}  kernel-died" in shown
    assert f"{lost.id}  lost" in shown
    code, out, err = call(project.root, "reproduce", done.id, "--json")  # from nothing, undisturbed
    assert code == 0, out + err
    assert trained.read_text().split()[4:] == ["1", "2"]
    (again,) = json.loads(out)["stages"]
    assert (again["level"], again["findings"]) == ("bit-identical", [])
    assert {each["agreement"] for each in (*again["metrics"], *again["cells"])} == {"identical"}
    assert call(project.root, "verify")[0] == 0
