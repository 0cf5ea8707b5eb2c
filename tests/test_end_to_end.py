"""kit as people call it: a subprocess, papermill, real kernels; what is left when it is killed or interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kit.project import Project
from kit.record import Record, Status
from kit.testing import DATA, make_notebook, make_project, make_workbench

pytestmark = pytest.mark.kernel

SECRET = "correct-horse-battery"
ENVIRONMENT = (
    DATA
    + """
[parameters.train]
rate = 0.5
[secrets]
TOKEN = { env = "KIT_TEST_TOKEN" }
[gates]
metrics.score = { min = 0.1 }
[release]
from = "dev"
"""
)
STAGES = {
    "build": make_notebook(
        "import shutil\nshutil.copyfile(stage.bundle, stage.outputs['bundle.zip'])",
        "assert kit.lint_notebooks(stage.root) == []\nassert len(kit.stage_graph(stage.root).stages) == 5",
        title="Build",
        outputs=["bundle.zip"],
    ),
    "prepare": make_notebook(
        "token = stage.secret('TOKEN')\nprint('using', token)",
        "import helper\nstage.outputs['table.csv'].write_text(helper.double(stage.inputs['raw.csv'].read_text()))",
        "stage.metric('n_rows', 2)\nstage.metric('used', token)",
        title="Prepare",
        inputs=["raw.csv"],
        outputs=["table.csv"],
    ),
    "train": make_notebook(
        "stage.outputs['saved_model'].mkdir()\n(stage.outputs['saved_model'] / 'weights').write_text(str(rate))",
        "stage.outputs['golden.json'].write_text('[]')",
        "stage.metric('score', rate * epochs)",
        title="Train",
        parameters="epochs: int = 3  # passes\nrate: float = 0.1  # step",
        inputs=["table.csv"],
        outputs=["saved_model", "golden.json"],
    ),
    "release": make_notebook(
        "for row in stage.gate.evidence:\n    print(row.kind, row.finding, row.detail)",
        "stage.cut_release()",
        title="Release",
        inputs=["bundle.zip", "saved_model", "golden.json"],
        outputs=["release.json"],
    ),
    "run": make_notebook("1", title="Run", inputs=["release.json"], outputs=["answers.csv"]),
    # waits for a reader of its pipe, so that the test knows without waiting where it stands
    "wait": make_notebook(
        "print('finished before the end')",
        "open(pipe, 'w').write('here')\nimport signal\nsignal.pause()",
        title="Wait",
        parameters="pipe: str = ''  # a named pipe",
        outputs=["never.csv"],
    ),
}
HELPER = "def double(text: str) -> str:\n    return text * 2\n"


def make_example(folder: Path, *stages: str) -> Project:
    chosen = {name: STAGES[name] for name in stages}
    environment = ENVIRONMENT if "train" in stages else ""
    return make_project(folder, chosen, {"dev": environment}, {"notebooks/helper.py": HELPER})


def start(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from kit.cli import main; main()", *arguments]
    environment = {**os.environ, "KIT_TEST_TOKEN": SECRET}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=pipe, stderr=pipe, start_new_session=True
    )


def kit(project: Project, *arguments: str) -> tuple[int, Any, str]:
    """(exit code, JSON on stdout, text on stderr)."""
    process = start(project, *arguments, "--json")
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out), err.decode()


def newest(project: Project) -> Record:
    archive = make_workbench(project).archive
    return archive.read_record(archive.list_ids()[-1])  # also one that never ended


def test_stages_execute_in_real_kernels_and_no_secret_stays(tmp_path: Path) -> None:
    project = make_example(tmp_path, "build", "prepare", "train", "release", "run")
    code, result, err = kit(project, "all")
    records = [(each["stage"], each["status"]) for each in result["records"]]
    assert records == [("build", "succeeded"), ("prepare", "succeeded"), ("train", "succeeded"), ("release", "failed")]
    assert code == 1, err
    archive = make_workbench(project).archive
    found = {record.stage: record for record in archive.records()}
    released, trained, prepared = (found[stage] for stage in ("release", "train", "prepare"))
    assert trained.metrics == {"score": 1.5}
    assert prepared.metrics == {"n_rows": 2, "used": "[secret TOKEN]"}
    assert [cell.status.value for cell in trained.cells] == ["succeeded"] * len(trained.cells)
    assert released.failure is not None
    assert released.failure.kind == "GateRefusedError"
    assert "model saved_model" in released.failure.message, "a folder with a text in it is no SavedModel"
    assert "prepare: cell 5 of 5 done" in err
    log = (archive.record_folder(prepared.id) / "log.txt").read_text()
    assert "using [secret TOKEN]" in log
    for path in project.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert Path(result["report"]).is_file()
    assert (project.reports / "records" / f"{released.id}.html").is_file()


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[Project, subprocess.Popen[bytes]]:
    """A `kit wait` that has put out one line and now waits for ever."""
    project = make_example(tmp_path / "project", "wait")
    os.mkfifo(tmp_path / "pipe")
    process = start(project, "wait", "--pipe", str(tmp_path / "pipe"))
    assert (tmp_path / "pipe").read_text() == "here"
    return project, process


def test_killed_kit_leaves_a_lost_record_with_what_was_finished(
    waiting: tuple[Project, subprocess.Popen[bytes]],
) -> None:
    project, process = waiting
    assert newest(project).status is Status.STARTED
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    record = newest(project)
    assert record.status is Status.LOST
    code, shown, _ = kit(project, "show", record.id)
    assert code == 0
    assert [cell["status"] for cell in shown["cells"]][-2:] == ["succeeded", "running"]
    process = start(project, "show", record.id)
    out, _ = process.communicate(timeout=60)
    assert "LOST" in out.decode()
    assert "finished before the end" in out.decode()
    code, page, _ = kit(project, "open", record.id, "--no-browser")
    assert code == 0
    assert "finished before the end" in Path(page["page"]).read_text()
    assert list((project.scratch / "workspaces").iterdir()) != [], "the next execution removes it"


def test_ctrl_c_leaves_an_interrupted_record_and_130(waiting: tuple[Project, subprocess.Popen[bytes]]) -> None:
    project, process = waiting
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    record = newest(project)
    assert record.status is Status.INTERRUPTED
    assert [cell.status.value for cell in record.cells][-2:] == ["succeeded", "interrupted"]
    assert list((project.scratch / "workspaces").iterdir()) == []
