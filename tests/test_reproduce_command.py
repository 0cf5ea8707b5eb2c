"""`kit reproduce` as a command; all but the last test execute nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest
from commands import Kit
from reproductions import Executed

from kit.cli.console import open_workbench
from kit.cli.reproduce import _open_quietly as open_quietly
from kit.cli.reproduce import _print_report as print_report
from kit.cli.reproduce import reproduce_command, tell_surroundings
from kit.compare import Agreement, Cause, Comparison
from kit.files import sha256_bytes
from kit.ledger import Kind
from kit.provenance import describe_software
from kit.record import Status
from kit.release import ProbeOutcome, Probes
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
        (["nothing"], 2, "no record is named 'nothing'"),
        (["release:dev-9"], 2, "'dev-9' is no release"),
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


def around(*causes, findings=()):
    return Reproduction(
        record="r1", stage="train", again="r2", level=Level.BIT_IDENTICAL, causes=causes, findings=findings
    )


def notes_of(stage, capsys):
    print_report(Report("r1", (stage,)))
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]


def test_what_was_not_the_same_is_said_although_the_claim_holds(capsys):
    stage = around(
        Cause("package", "six", "1.17.0", "1.16.0"),
        Cause("package", "new", None, "2"),
        Cause("python", "version", "CPython 3.11.9", "CPython 3.11.2"),
        Cause("processor", "model", "Xeon", "EPYC"),
        Cause("processor", "flags_sha256", "a" * 64, "b" * 64),
        Cause("threads", "n_cpus", 4, 2),
        Cause("threads", "OMP_NUM_THREADS", "1", None),
        Cause("seed", "seed", 7, 8),
        Cause("kit", "version", "1", "2"),
    )
    assert notes_of(stage, capsys) == [
        "note: with other packages: six 1.17.0, here 1.16.0; new missing, here 2",
        "note: with another Python: CPython 3.11.9, here CPython 3.11.2",
        f"note: on another processor: Xeon, here EPYC; flags_sha256 {'a' * 12}, here {'b' * 12}",
        "note: with other threads: n_cpus 4, here 2; OMP_NUM_THREADS 1, here missing",
        "note: with another seed: seed 7, here 8",
    ]


def test_of_many_other_packages_a_few_are_named_and_the_rest_counted(capsys):
    causes = [Cause("package", f"p{n}", "1", "2") for n in range(17)]
    (note,) = notes_of(around(*causes), capsys)
    assert note.startswith("note: with other packages: p0 1, here 2; p1 1, here 2; ")
    assert note.endswith("p4 1, here 2 and 12 more")
    assert notes_of(around(), capsys) == []
    assert notes_of(around(*causes, findings=(Finding(Code.RUN_FAILED, "", "x"),)), capsys) == []


def test_single_things_are_counted_as_such(capsys):
    print_report(Report("r1", (msgspec.structs.replace(around(), metrics=(SAME,), cells=(SAME,)),)))
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[3:5]] == ["1 metric", "1 cell  "]


def test_current_packages_are_named_in_a_claim_that_holds(executed, call):
    recorded = "six==0.1\n"
    software = msgspec.structs.replace(describe_software(None), packages_sha256=sha256_bytes(recorded.encode()))
    record = executed.copy_record("train", recorded, software=software)
    found = executed.again_one("train", with_recorded_packages=False)
    (note,) = [note for note in tell_surroundings(found.causes) if note.startswith("with other packages: ")]
    assert (found.record, found.findings, note.endswith(" more")) == (record.id, (), True)


def test_refusal_is_said_by_the_outer_kit_alone(executed, call):
    record = executed.copy_record("train", status=Status.FAILED)
    inner, outer = call("reproduce", record.id, "--json", "--inner"), call("reproduce", record.id, "--json")
    assert (inner.code, inner.json, inner.err) == (outer.code, outer.json, "")
    assert (outer.code, "it has no result to do again" in outer.err) == (2, True)


@pytest.mark.parametrize(("open_it", "n_lines"), [(lambda: open_workbench(appends=True), 1), (open_quietly, 0)])
def test_checkpoint_is_said_by_the_outer_kit_alone(executed, call, capsys, open_it, n_lines):
    record = executed.records["train"]
    with click.Context(reproduce_command):
        open_it().archive.enter(Kind.END, record, "0" * 64, record.started)
    assert sum("checkpoint" in line for line in capsys.readouterr().err.splitlines()) == n_lines


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


def test_result_of_a_reproduction_can_be_seen_again(executed, call):
    found = executed.again_one("train")
    original, again = call("show", found.record), call("show", found.again)
    (line,) = [line for line in original.out.split("done again\n")[1].splitlines() if found.again in line]
    row = re.split("  +", line.strip())
    assert (row[:3], row[4:]) == ([found.again, "bit-identical", "holds"], ["not signed", found.independence])
    assert row[3].startswith("by ")
    assert f"compared    level bit-identical; holds; {found.independence}; comparison not signed" in again.out
    assert f"does again  {found.record}" in again.out
    assert "done again" not in again.out
    assert "done again" not in call("show", executed.records["build"].id).out


def test_show_gives_reproductions_as_json(executed, call):
    found = executed.again_one("train")
    original, again = call("show", found.record, "--json").json, call("show", found.again, "--json").json
    assert [each["again"] for each in original["done_again"]] == [found.again]
    assert original["metrics"] == again["metrics"]
    assert (original["compared"], again["done_again"]) == (None, [])
    assert again["compared"] == original["done_again"][0]
    assert set(again["compared"]) == {
        "again", "exit_code", "independence", "independently", "level", "problem", "record", "sha256", "signer",
        "standing", "time", "who",
    }  # fmt: skip


def test_reproduction_without_a_comparison_says_so(executed, call):
    record = executed.copy_record("train", reproduces=executed.records["train"].id)
    assert "compared    the ledger tells of no comparison" in call("show", record.id).out


def test_record_is_shown_although_the_ledger_cannot_be_read(executed, call):
    found = executed.again_one("train")
    told = next(executed.bench.archive.tell(Kind.REPRODUCTION))
    path = executed.bench.archive.ledger.path(told.seq)
    path.chmod(0o644)
    path.write_text("no entry")
    called = call("show", found.record)
    assert (called.code, called.out.startswith(found.record)) == (0, True)
    assert "kit: what did it again cannot be told: " in called.err
    assert call("open", found.record, "--no-browser").code == 0


def test_records_mark_reproductions(executed, call):
    found = executed.again_one("train")
    stages = {line.split("  ")[0]: re.split("  +", line)[1] for line in call("records").out.splitlines()[2:]}
    assert (stages[found.again], stages[found.record]) == ("train (again)", "train")
    reproduces = {each["id"]: each["reproduces"] for each in call("records", "--json").json}
    assert reproduces[found.again] == found.record


def test_pages_tell_of_reproductions_and_refusals_only_of_releases(executed, call):
    found = executed.again_one("train")
    executed.again("release", probes=Probes(lambda *_: ProbeOutcome(False, "it answers otherwise")))
    index = Path(call("report").out.strip())
    pages = index.parent / "records"
    assert '<h2 id="again">Done again</h2>' in (pages / f"{found.record}.html").read_text()
    assert '<p class="again">Does <a href=' in (pages / f"{found.again}.html").read_text()
    text = index.read_text()
    assert text.count('<span class="tag" title="does') == 2
    assert "it answers otherwise" not in text
    assert call("open", found.record, "--no-browser").code == 0
    assert '<h2 id="again">Done again</h2>' in (pages / f"{found.record}.html").read_text()


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
