"""What becomes of a command whose output nobody reads any more: it does its work, and its exit code says so."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Kit

from kit.cli.console import ProgressLine, main_metric, print_progress
from kit.cli.live import LiveSweep
from kit.cli.terminal import align, clip, width_of
from kit.engine.values import Event, Progress
from kit.testing import make_project, make_record, seal_record


class GoneTerminal(io.StringIO):
    """A stream whose other end is gone."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_that_nobody_sees_stops_nothing(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setattr(sys, "stderr", GoneTerminal(is_terminal=is_terminal))
    ProgressLine()("train", Progress(Event.CELL_FINISHED, 1, 2, 0.5))
    print_progress("a sentence")
    LiveSweep("sweep", ["n=1"]).say("a sentence")


def test_reader_that_is_gone_is_told_by_the_exit_code(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kit.cli", "records"]
    done = subprocess.run(command, cwd=project.root, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 141


def test_first_metric_is_the_same_before_and_after_a_record_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = Kit(make_project(tmp_path), capsys)
    record = make_record(metrics={"zeta": 1.0, "alpha": 2.0})
    seal_record(kit.archive, record)
    assert main_metric(record, ()) == main_metric(kit.archive.read_record(record.id), ()) == "alpha 2"


@pytest.mark.parametrize("command", [("all",), ("prepare",)])
def test_warm_and_cold_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    kit = Kit(make_project(tmp_path), capsys)
    monkeypatch.chdir(tmp_path)
    called = kit(*command, "--warm", "--cold")
    assert (called.code, called.err) == (2, "kit: --warm and --cold contradict each other: give one\n")


@pytest.mark.parametrize(
    ("text", "clipped"),
    [
        ("abc", "abc"),
        ("abcdefgh", "abcd…"),
        ("漢字", "漢字"),
        ("漢字漢字", "漢字…"),
        ("a漢字漢", "a漢…"),
        ("e\u0301" * 5, "e\u0301" * 5),
    ],
)
def test_line_is_cut_by_the_cells_that_it_takes(text: str, clipped: str) -> None:
    assert clip(text, 5) == clipped
    assert width_of(clipped) <= 5


def test_columns_are_aligned_by_the_cells_that_they_take() -> None:
    assert align([["漢字", "1"], ["abc", "2"]], "") == ["漢字  1", "abc   2"]
