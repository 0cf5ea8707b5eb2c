import json
from pathlib import Path
from typing import Any

import pytest
from kernels import make_notebook, open_full

from kit.engine import Job, PapermillEngine, assemble_notebook
from kit.engine.assembly import fold_text
from kit.engine.journal import RESERVE_BYTES, Journal
from kit.engine.papermill import require_names
from kit.errors import IntegrityError, ParameterError
from kit.record import CellOutcome, CellStatus, Status
from kit.redaction import Redactor


def make_journal(folder: Path, secrets: dict[str, str] | None = None, budget_bytes: int = 10_000_000) -> Journal:
    journal = Journal(folder, Redactor(secrets or {}), budget_bytes)
    journal.write_header(make_notebook("a", "b"))
    journal.start_cell(0, "1 of 2", "a")
    return journal


def display(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


def finish(journal: Journal, index: int = 0) -> None:
    journal.finish_cell(CellOutcome(index, f"c{index}", CellStatus.SUCCEEDED, index + 1, 0.5))
    journal.close()


def outputs_of(folder: Path, index: int = 0) -> list[dict[str, Any]]:
    return assemble_notebook(folder)[0]["cells"][index]["outputs"]


def test_streams_are_joined_and_the_outcome_is_the_kernels(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    for text in ("a", "b\n"):
        journal.add_stream("stdout", text)
    journal.add_stream("stderr", "c")
    finish(journal)
    notebook, cells = assemble_notebook(tmp_path)
    assert notebook["cells"][0]["execution_count"] == 1
    assert notebook["cells"][0]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "ab\n"},
        {"output_type": "stream", "name": "stderr", "text": "c"},
    ]
    assert cells == (
        CellOutcome(0, "c0", CellStatus.SUCCEEDED, 1, 0.5),
        CellOutcome(1, "c1", CellStatus.NOT_RUN),
    )


def test_displays_are_updated_and_cleared(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    journal.add_stream("stdout", "gone")
    journal.clear_output(wait=True)
    journal.add_output(display("first"), "d")
    journal.update_display("d", {"text/plain": "second"}, {})
    finish(journal)
    assert outputs_of(tmp_path) == [display("second")]


@pytest.mark.parametrize("n_bytes", [1, 20, 60])
def test_torn_last_line_is_not_read(tmp_path: Path, n_bytes: int) -> None:
    journal = make_journal(tmp_path)
    journal.add_stream("stdout", "kept\n")
    journal.add_stream("stdout", "torn" * 100)
    journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-n_bytes])
    notebook, cells = assemble_notebook(tmp_path)
    assert notebook["cells"][0]["outputs"][0]["text"] == "kept\n"
    assert [cell.status for cell in cells] == [CellStatus.RUNNING, CellStatus.NOT_RUN]


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"kind":"output"}\n')
    with pytest.raises(IntegrityError, match="no header"):
        assemble_notebook(tmp_path)


def test_output_over_the_budget_is_cut_and_said(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, budget_bytes=1000)
    for _ in range(10):
        journal.add_stream("stdout", "ä" * 100)
    finish(journal)
    first, said = outputs_of(tmp_path)
    assert len(first["text"].encode()) == 1000
    assert said["text"] == "[kit: 0.001 MB of output over the budget of 0.001 MB were cut]\n"
    assert assemble_notebook(tmp_path)[1][0].cut_bytes == 1000
    assert said["text"] in (tmp_path / "log.txt").read_text()


def test_small_results_and_errors_survive_a_flood(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, budget_bytes=1000)
    journal.add_stream("stdout", "x" * 5000)
    journal.add_output(display("metric"))
    journal.add_output(display("y" * RESERVE_BYTES))
    journal.add_output({"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t" * 300_000]})
    finish(journal)
    kinds = [(output["output_type"], output.get("data")) for output in outputs_of(tmp_path)]
    assert kinds == [("stream", None), ("display_data", {"text/plain": "metric"}), ("error", None), ("stream", None)]
    assert (tmp_path / "journal.jsonl").stat().st_size < 300_000


def test_cleared_output_does_not_count_but_is_not_endless_either(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, budget_bytes=1000)
    for _ in range(1000):
        journal.clear_output(wait=False)
        journal.add_stream("stdout", "x" * 900)
    finish(journal)
    assert (tmp_path / "journal.jsonl").stat().st_size < 100_000


def test_secret_split_over_messages_streams_and_outputs_is_never_written(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, {"PASSWORD": "hunter2-hunter2"})
    for text in ("it is hunter2", "-hun", "ter2 there\n"):
        journal.add_stream("stdout", text)
    journal.add_stream("stdout", "hunter2")
    journal.add_stream("stderr", "-hunter2")
    journal.add_output(display("'hunter2-hunter2'"))
    journal.add_output({"output_type": "error", "ename": "E", "evalue": "hunter2-hunter2", "traceback": []})
    finish(journal)
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "hunter2-hunter2" not in written
    assert outputs_of(tmp_path)[0]["text"].startswith("it is [secret PASSWORD] there\n")


def test_half_surrogates_do_not_stop_the_journal(tmp_path: Path) -> None:
    journal = make_journal(tmp_path)
    journal.add_stream("stdout", "\ud800 ä 漢 😀\n")
    finish(journal)
    assert outputs_of(tmp_path)[0]["text"] == "? ä 漢 😀\n"


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Redactor({}), 10_000_000, open_full(2000))
    journal.write_header(make_notebook("a"))
    journal.start_cell(0, "1 of 1", "a")
    journal.add_stream("stdout", "kept\n")
    with pytest.raises(OSError, match="No space"):
        journal.add_stream("stdout", "x" * 5000)
    finish(journal)
    assert outputs_of(tmp_path)[0]["text"] == "kept\n"
    assert all(json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines())


def test_full_disk_before_the_kernel_starts_fails(tmp_path: Path) -> None:
    engine = PapermillEngine(open_full(10))
    outcome = engine.execute(Job(notebook=make_notebook("1"), folder=tmp_path, journal=tmp_path))
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert "No space left" in outcome.failure.message
    assert [cell.status for cell in outcome.cells] == [CellStatus.NOT_RUN]


@pytest.mark.parametrize("name", ["x; import os", "class", "1a", ""])
def test_name_that_would_be_code_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="identifier"):
        require_names({name: 1})


@pytest.mark.parametrize(
    ("text", "folded"),
    [("10%\r50%\r100%\n", "100%\n"), ("a\r\nb\r\n", "a\nb\n"), ("abc\b\bX\n\bY", "aX\nY"), ("plain", "plain")],
)
def test_progress_bars_are_folded(text: str, folded: str) -> None:
    assert fold_text(text) == folded
