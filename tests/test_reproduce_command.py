"""`kit reproduce` as a command; all but the last test execute nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Kit
from reproductions import Executed

from kit.cli.reproduce import _print_report as print_report
from kit.compare import Agreement, Cause, Comparison
from kit.reproduce import Code, Finding, Level, Report, Reproduction
from kit.testing import make_notebook, make_project

SAME = Comparison("a.csv", "table", Agreement.IDENTICAL)
OTHER = Comparison("b\x1b[2J.csv", "table(rtol=1e-06)", Agreement.DIFFERENT, "row 0")
CELLS = (Comparison("cells.a", "text", Agreement.IDENTICAL), Comparison("cells.b", "text", Agreement.EQUAL))


@pytest.fixture
def executed(tmp_path: Path) -> Executed:
    return Executed(tmp_path)


@pytest.fixture
def call(executed: Executed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Kit]:
    monkeypatch.chdir(executed.project.root / "notebooks")
    return Kit(executed.project, capsys)


def lose_input(executed):
    record = executed.records["train"]
    executed.bench.archive.objects.path(record.inputs[0].artifact.sha256).unlink()
    return record


def test_help_begins_with_an_example(call):
    assert call("reproduce", "--help").out.startswith("Example: kit reproduce 4f09c1")
    assert "--with " not in call("reproduce", "--help").out


def test_claim_that_cannot_be_decided_here_exits_with_3(executed, call):
    record = lose_input(executed)
    called = call("reproduce", record.id[-6:])
    assert called.code == 3
    assert called.out.splitlines()[0] == f"train: {record.id}"
    assert called.out.splitlines()[1].startswith("INPUT-NOT-AVAILABLE input 'table.csv' of record")
    assert called.out.splitlines()[-1] == "the claim cannot be decided here: something that it needs is missing"


def test_json_has_stable_keys(executed, call):
    record = lose_input(executed)
    called = call("reproduce", record.id, "--json")
    assert called.code == 3
    assert list(called.json) == ["exit_code", "independently", "level", "missing", "stages", "verdict"]
    (stage,) = called.json["stages"]
    assert set(stage) == {
        "again", "causes", "cells", "findings", "independence", "independently", "level", "metrics", "notes", "outputs",
        "record", "stage", "statement_sha256",
    }  # fmt: skip
    assert stage["findings"][0]["code"] == "INPUT-NOT-AVAILABLE"


def test_whole_way_says_what_was_not_done(executed, call):
    record = executed.records["build"]
    executed.bench.archive.objects.path(record.configuration_sha256).unlink()
    called = call("reproduce", "release:dev-1")
    assert called.code == 3
    assert f"{executed.records['train'].id}: not done again, as what it reads was not" in called.out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing"], 1, "no record is named 'nothing'"),
        (["release:dev-9"], 1, "'dev-9' is no release"),
        ([], 2, "Missing argument"),
        (["x", "--env", "other"], 2, "'other' is not one of"),
        (["x", "--with", "a"], 2, "--with must be RECORD=RECORD"),
    ],
)
def test_wrong_use_says_what_to_do(call, arguments, code, sentence):
    called = call("reproduce", *arguments)
    assert (called.code, sentence in called.err) == (code, True), called.err


def test_changed_input_exits_with_1(executed, call):
    record = executed.records["train"]
    path = executed.bench.archive.objects.path(record.inputs[0].artifact.sha256)
    path.chmod(0o644)
    path.write_text("other")
    called = call("reproduce", record.id)
    assert (called.code, "INPUT-CHANGED" in called.out, "the claim is FALSE" in called.out) == (1, True, True)


def test_findings_and_causes_are_printed_a_line_each(capsys):
    stage = Reproduction(
        record="r1",
        stage="train",
        again="r2",
        level=Level.EXECUTED,
        independence="not independently: why",
        outputs=(SAME, OTHER),
        cells=CELLS,
        findings=(Finding(Code.OUTPUT_DIFFERS, "b\x1b[2J.csv", "by table: row 0"),),
        causes=(Cause("package", "numpy", "1", "2"),),
        notes=("other kit",),
    )
    print_report(Report("r1", (stage, stage)))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[:13] == [
        "train: r1, done again as r2",
        "what          compared by        agreement",
        "────────────  ─────────────────  ────────────────────",
        "a.csv         table              identical",
        "b\\x1b[2J.csv  table(rtol=1e-06)  different",
        "2 cells                          1 identical, 1 equal",
        "OUTPUT-DIFFERS b\\x1b[2J.csv: by table: row 0",
        "differs around it: package 'numpy' was 1, is 2",
        "note: other kit",
        "note: not independently: why",
        "level executed: it could be done again, but its outputs are not shown to be equal",
        "",
        "train: r1, done again as r2",
    ]
    assert out.splitlines()[-2:] == [
        "r1: 2 stages, lowest level executed",
        "the claim is FALSE: 2 findings contradict it",
    ]


SOURCES = (
    "import random, time\nstarted = time.time()\nrandom.seed(seed)\nvalue = random.random()",
    "print(f'{value:.6f} of {object()} at {time.ctime()} took {time.time() - started:.3f} s')\nstage.metric('value', value)",
    "for n in range(3):\n    print(f'\\r{n + 1}/3 [00:00<00:00, {n}.5it/s]', end='')",
    "stage.outputs['value.json'].write_text(f'[{value}]')",
)


@pytest.mark.kernel
def test_real_deterministic_notebook_raises_no_alarm_and_a_random_one_does(tmp_path, monkeypatch, capsys):
    notebook = make_notebook(*SOURCES, title="Draw", parameters="seed: int = 7  # of the draw", outputs=["value.json"])
    project = make_project(tmp_path, {"draw": notebook}, {"dev": ""})
    monkeypatch.chdir(project.root)
    kit = Kit(project, capsys)
    record = kit("draw", "--seed", "3", "--json").json["record"]["id"]
    for _ in range(3):
        called = kit("reproduce", record, "--json")
        assert (called.code, called.json["level"]) == (0, "bit-identical"), called.out
    (project.root / "notebooks/draw.ipynb").write_text(
        (project.root / "notebooks/draw.ipynb").read_text().replace("random.seed(seed)", "random.seed()")
    )
    other = kit("draw", "--json").json["record"]["id"]
    called = kit("reproduce", other, "--json")
    codes = sorted({finding["code"] for finding in called.json["stages"][0]["findings"]})
    assert (called.code, codes) == (1, ["CELL-DIFFERS", "METRIC-DIFFERS", "OUTPUT-DIFFERS"])
