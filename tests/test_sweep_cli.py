"""`kit sweep` on the command line: what it refuses, what it prints, and real sweeps of real kernels."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Kit

from kit.cli.live import LiveSweep
from kit.cli.sweep import exit_code_of
from kit.engine.values import Event, Progress
from kit.execute.events import PlanEnded, PlanEvent, PlanNoted, PlanProgressed, PlanStarted
from kit.project import Project
from kit.provenance import process_mark
from kit.record import Failure, Status
from kit.report.sweep import PointView, SweepView
from kit.sweep import read_sweep
from kit.testing import make_notebook, make_project, make_record, make_workbench

PARAMETERS = """\
units: int = 32  # width of the layer
rate: float = 0.1
seed: int = 7
"""
CELLS = """\
import time
if units == 0: raise ValueError("no units")
if units > 100: time.sleep(1000)
stage.outputs["model"].write_text("m")
stage.metric("auc", units * rate)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    stages = {
        "build": make_notebook(title="Build", outputs=["bundle.zip"]),
        "train": make_notebook(CELLS, title="Train", parameters=PARAMETERS, outputs=["model"]),
    }
    return make_project(tmp_path, stages, {"dev": ""})


@pytest.fixture
def kit(project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.chdir(project.root)
    return Kit(project, capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian", "--grid", "units=1"], "stage 'trian' does not exist; did you mean 'train'?"),
        (["build", "--grid", "units=1"], "stage 'build' cannot be swept; there is 'train'"),
        (["train"], "--grid is missing, such as `kit sweep train --grid units=1,2`"),
        (["train", "--grid", "unit=1"], "did you mean 'units'"),
        (["train", "--grid", "units=1", "--units", "2"], "is an axis of --grid and fixed to 2"),
        (
            ["train", "--grid", "units=1", "--seed", "2"],
            "give --random N too (the stage's own parameter is --parameter-seed)",
        ),
        (["train", "--grid", "units=1..5"], "say with --random N"),
        (["train", "--grid", "units=1", "--workers", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_use_is_said_before_anything_is_executed(kit: Kit, arguments: list[str], sentence: str) -> None:
    called = kit("sweep", *arguments)
    assert (called.code, called.out) == (2, "")
    assert sentence in called.err
    assert kit.archive.list_ids() == []


def test_help_has_an_example_and_the_stages_own_parameters(kit: Kit) -> None:
    assert "train" in kit("sweep", "--help").out
    text = kit("sweep", "train", "--help").out
    assert text.startswith("Example: kit sweep train --grid units=1,2\n")
    assert re.search(r"--units int +width of the layer", text)
    assert "--parameter-seed int" in text


def make_view(*statuses: str) -> SweepView:
    points = (
        PointView({"units": i}, "r", status, 0.5 if status == "succeeded" else None)
        for i, status in enumerate(statuses)
    )
    return SweepView("sweep-1", "train", "dev", "auc", False, ("units",), tuple(points))


def test_exit_code_tells_success_failure_and_interruption() -> None:
    assert exit_code_of(make_view("succeeded", "succeeded")) == 0
    assert exit_code_of(make_view("succeeded", "failed")) == 1
    assert exit_code_of(make_view("succeeded", "lost")) == 1
    assert exit_code_of(make_view("failed", "interrupted")) == 130
    assert exit_code_of(make_view("succeeded", "waiting")) == 130
    given_up = (PointView({"x": 1}, "", "failed", None), PointView({"x": 2}, "", "waiting", None))
    assert exit_code_of(SweepView("s", "t", "dev", "", False, ("x",), given_up)) == 1
    no_metric = SweepView("s", "t", "dev", "", False, ("x",), (PointView({"x": 1}, "r", "succeeded", None),))
    assert (exit_code_of(no_metric), exit_code_of(no_metric, needs_best=True)) == (0, 1)


EVENTS: list[PlanEvent] = [
    PlanEnded("0", make_record(), reused=True),
    PlanNoted("1 at a time instead of 2: \x1b[2J"),
    PlanStarted("1"),
    PlanStarted("2"),
    PlanProgressed("1", Progress(Event.CELL_FINISHED, 1, 4, 0.5)),
    PlanNoted("1 at a time instead of 2: \x1b[2J"),
    PlanEnded("1", make_record(status=Status.FAILED, failure=Failure("ValueError", "no \x1b[31munits", 0))),
    PlanEnded("2", None, failure=Failure("KeyboardInterrupt", "interrupted before it could answer")),
]


def show_all(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    live = LiveSweep("sweep-1, train in dev", [f"units={n}" for n in range(4)])
    for event in EVENTS:
        live.show(event)
    live.close()
    return stream.getvalue()


def test_each_point_that_ends_is_a_line_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show_all(monkeypatch, io.StringIO()).splitlines() == [
        "1 of 4: units=0: succeeded",
        "1 at a time instead of 2: \\x1b[2J",
        "2 of 4: units=1: failed: ValueError: no \\x1b[31munits",
        "3 of 4: units=2: interrupted: KeyboardInterrupt: interrupted before it could answer",
        "sweep-1, train in dev: 1 reused, 1 failed, 1 interrupted, 1 waiting, 0 s",
    ]


def test_lines_are_redrawn_in_place_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("kit.cli.live.REDRAWN_S", -1.0)
    screen: list[str] = []
    for part in re.split(r"(\x1b\[\d+F\x1b\[J|\n)", show_all(monkeypatch, Terminal())):
        if up := re.match(r"\x1b\[(\d+)F", part):
            del screen[-int(up[1]) :]
        elif part not in ("", "\n"):
            assert len(part) < 60 or "interrupted" in part
            screen.append(part)
    assert screen == [
        "1 at a time instead of 2: \\x1b[2J",
        "2 of 4: units=1: failed: ValueError: no \\x1b[31munits",
        "sweep-1, train in dev: 1 reused, 1 failed, 1 interrupted, 1 waiting, 0 s",
    ]


@pytest.mark.kernel
def test_sweep_with_a_failing_point_gives_a_table_a_page_and_exit_code_1(kit: Kit) -> None:
    called = kit("sweep", "train", "--grid", "units=1,2,0,4", "--rate", "0.5", "--workers", "2")
    assert called.code == 1
    header, _, *rows = [re.split(r"  +", line.strip()) for line in called.out.split("\n\n")[0].splitlines()]
    assert header == ["units", "auc", "status", "seconds", "record"]
    assert [row[:3] for row in rows[:3]] == [
        ["4", "2", "succeeded"],
        ["2", "1", "succeeded"],
        ["1", "0.5", "succeeded"],
    ]
    assert rows[3][:2] == ["0", "failed"]
    page = Path(re.findall("page: (.+)", called.out)[0])
    assert page.is_file()
    assert "4 of 4" in called.err
    assert "ValueError: no units" in called.err
    again = kit("sweep", "train", "--grid", "units=1,2,4", "--rate", "0.5", "--best")
    assert (again.code, again.out.strip()) == (0, rows[0][4])
    as_json = kit("sweep", "train", "--grid", "units=1,2,4", "--rate", "0.5", "--lowest", "--metric", "acu", "--json")
    assert as_json.json["sweep"]["points"][0]["status"] == "succeeded"
    assert as_json.json["best"] is None
    assert "metric 'acu' does not exist; did you mean 'auc'?" in as_json.err


@pytest.fixture
def started(project: Project) -> Iterator[Any]:
    """Starts `kit sweep` in a process of its own, which is gone afterwards."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kit.cli", "sweep", "train", *arguments]
        processes.append(
            subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if re.search(pattern, line):
            return
    raise AssertionError(f"{pattern} was not printed")


def list_below(pid: int) -> list[int]:
    """Process ids of everything that a process started, and that these did."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except FileNotFoundError:
        return []
    children = [int(child) for text in texts for child in text.split()]
    return [*children, *(each for child in children for each in list_below(child))]


def wait_for_open_record(project: Project) -> None:
    """Until a kernel executes: a journal is there."""
    while not list(project.archive.glob("records/*.open/journal.jsonl")):
        threading.Event().wait(0.01)


@pytest.mark.kernel
def test_interrupted_sweep_seals_what_it_executes_and_goes_on_with_the_same_command(
    project: Project, started: Any
) -> None:
    grid = ["--grid", "units=1,101,102,103", "--workers", "1", "--cold"]
    process = started(*grid)
    wait_for_line(process, "units=1: succeeded")
    wait_for_open_record(project)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    archive = make_workbench(project).archive
    sweep = read_sweep(archive, re.findall("sweep: (.+)", out)[0])
    assert [record and record.status for record in sweep.records] == [
        Status.SUCCEEDED,
        Status.INTERRUPTED,
        None,
        None,
    ]
    again = started(*grid)
    wait_for_line(again, "units=1: succeeded")
    wait_for_open_record(project)
    assert len(archive.list_ids()) == 3, "the first point is not executed again"


@pytest.mark.kernel
def test_killed_sweep_leaves_no_process(project: Project, started: Any) -> None:
    process = started("--grid", "units=101,102", "--workers", "2", "--cold")
    while len(list(project.archive.glob("records/*.open/journal.jsonl"))) < 2:
        threading.Event().wait(0.01)
    below = list_below(process.pid)
    assert len(below) >= 4, "two workers, two kernels"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for pid in below:
        while process_mark(pid):
            os.sched_yield()
    archive = make_workbench(project).archive
    assert {record.status for record in archive.records()} == {Status.LOST}
