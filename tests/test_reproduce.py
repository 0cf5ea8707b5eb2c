from pathlib import Path

import msgspec
import pytest
from probes import write_model
from reproductions import COMPARED, PYPROJECT, Executed, print_text, train, write_text

from kit.errors import NotFoundError, UsageError
from kit.execute import Order
from kit.ledger import Kind
from kit.parameter import ResolvedParameter, Source
from kit.pipeline import execute_stage
from kit.provenance import describe_machine, describe_software
from kit.record import Status
from kit.release import ProbeOutcome, Probes
from kit.reproduce import Code, Level, reproduce
from kit.reproduce.stage import judge_independence
from kit.signing import decode_envelope
from kit.testing import FakeEngine, make_key, make_notebook, make_project, make_workbench, write_outputs
from kit.verify import verify_archive

STAGES = ["build", "prepare", "train", "release", "run"]
CSV, NEAR = "x\n1.0\n2.0\n", "x\n1.0\n2.0000001\n"


def told(found):
    return [(str(finding.code), finding.subject, finding.detail) for finding in found.findings]


def object_of(executed, sha256):
    path = executed.bench.archive.objects.path(sha256)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_deterministic_stage_is_done_again_bit_identically(tmp_path, stage):
    report = Executed(tmp_path).again(stage)
    assert (report.exit_code, report.level, report.findings) == (0, Level.BIT_IDENTICAL, ())
    assert report.verdict == "holds: its outputs are bit-identical, metrics and cells agree"


def test_reproduction_is_a_sealed_record_that_the_ledger_tells_of(tmp_path):
    executed = Executed(tmp_path)
    found = executed.again_one("train")
    done = executed.bench.archive.read_record(found.again)
    assert (done.reproduces, done.succeeded) == (executed.records["train"].id, True)
    entries = [entry for entry in executed.bench.archive.ledger.read_entries() if entry.record == done.id]
    assert [entry.kind for entry in entries] == [Kind.START, Kind.END, Kind.REPRODUCTION]
    assert entries[-1].sha256 == found.statement_sha256
    assert verify_archive(executed.project.archive, [], []).exit_code == 0


def test_comparison_is_stated_about_the_recorded_outputs(tmp_path):
    key = make_key()
    executed = Executed(tmp_path, key=key)
    found = executed.again_one("train")
    envelope = decode_envelope(executed.bench.archive.objects.read(found.statement_sha256), "statement")
    assert [name for name, _ in envelope.signatures] == [key.public.id]
    statement = envelope.read_statement("statement")
    assert [subject["name"] for subject in statement["subject"]] == ["outputs/saved_model", "outputs/golden.json"]
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["saved_model", "golden.json", "metrics.auc", "cells.c0"]
    assert predicate["kit"]["comparison"]["level"] == "bit-identical"


def test_difference_is_stated_as_a_failure(tmp_path):
    executed = Executed(tmp_path)
    executed.engine.acts["train"] = train(0.73)
    found = executed.again_one("train")
    statement = decode_envelope(executed.bench.archive.objects.read(found.statement_sha256), "").read_statement("")
    assert (statement["predicate"]["result"], statement["predicate"]["failedTests"]) == (
        "FAILED", ["metrics.auc", "cells.c0"],
    )  # fmt: skip


def test_reproduction_is_never_the_newest_record(tmp_path):
    executed = Executed(tmp_path)
    executed.again("train")
    newest = executed.bench.archive.newest(lambda record: record.stage == "train")
    assert newest == executed.records["train"]


def test_nothing_of_today_goes_in(tmp_path):
    executed = Executed(tmp_path, prepare=read_all)
    root = executed.project.root
    (root / "data/raw.csv").write_text("x\n9\n")
    (root / "environments/dev.toml").write_text("[settings]\nregion = 'south'\n")
    (root / "notebooks/prepare.ipynb").unlink()
    assert executed.again("prepare").exit_code == 0
    assert executed.engine.jobs[-1].parameters == {}


def read_all(context):
    text = Path(context.inputs["raw.csv"]).read_text() + str(context.settings)
    Path(context.outputs["table.csv"]).write_text(text)


def test_archived_parameters_go_in(tmp_path):
    executed = Executed(tmp_path)
    parameters = (
        ResolvedParameter("epochs", 5, Source.COMMAND_LINE, "int"),
        executed.records["train"].parameters[1],
    )
    executed.copy_record("train", parameters=parameters)
    assert executed.again("train").exit_code == 0
    assert executed.engine.jobs[-1].parameters == {"epochs": 5}


def test_output_that_differs_is_named_with_its_place(tmp_path):
    executed = Executed(tmp_path, prepare=write_text("table.csv", CSV))
    executed.engine.acts["prepare"] = write_text("table.csv", "x\n1.0\n3.0\n")
    report = executed.again("prepare")
    assert (report.exit_code, report.level) == (1, Level.EXECUTED)
    assert report.verdict == "is FALSE: 1 finding contradicts it"
    detail = (
        "by table: 1 of 2 values differ in x (1), first row 1, column 'x': 2.0, now 3.0; "
        "largest difference 1 (relative 0.5)"
    )
    assert told(report) == [("OUTPUT-DIFFERS", "table.csv", detail)]


def test_output_within_its_declared_tolerance_is_equal(tmp_path):
    executed = Executed(tmp_path, '"table.csv" = { kind = "table", rtol = 1e-6 }', prepare=write_text("table.csv", CSV))
    executed.engine.acts["prepare"] = write_text("table.csv", NEAR)
    report = executed.again("prepare")
    assert (report.exit_code, report.level) == (0, Level.OUTPUTS_EQUAL)


def test_tolerance_that_was_loosened_later_does_not_count(tmp_path):
    executed = Executed(tmp_path, prepare=write_text("table.csv", CSV))
    loosened = f'{PYPROJECT}[tool.kit.compare]\n"table.csv" = {{ kind = "ignore", reason = "it varies" }}\n'
    (executed.project.root / "pyproject.toml").write_text(loosened)
    executed.engine.acts["prepare"] = write_text("table.csv", NEAR)
    assert executed.again("prepare").exit_code == 1


@pytest.mark.parametrize(
    ("compare", "note"),
    [
        ('"table.csv" = { kind = "tabel" }', "all was compared without tolerance: pyproject.toml of the bundle"),
        ('"tabel.csv" = { kind = "table" }', "the comparator of 'tabel.csv'"),
    ],
)
def test_comparator_that_says_nothing_is_noted(tmp_path, compare, note):
    executed = Executed(tmp_path, compare)
    found = executed.again_one("prepare")
    assert (found.findings, found.notes[0].startswith(note)) == ((), True), found.notes


def test_metric_that_differs_is_named(tmp_path):
    executed = Executed(tmp_path, '"cells.c0" = { kind = "ignore", reason = "says it too" }')
    executed.engine.acts["train"] = train(0.73)
    report = executed.again("train")
    assert (report.exit_code, report.level) == (1, Level.BIT_IDENTICAL)
    assert told(report) == [
        ("METRIC-DIFFERS", "auc", "by metric: 0.73, was 0.72: 0.01 away (relative 0.0139)"),
    ]


def test_metric_within_its_declared_tolerance_is_equal(tmp_path):
    executed = Executed(tmp_path, '"metrics.auc" = { kind = "metric", atol = 0.1 }')
    executed.engine.acts["train"] = train(0.73)
    assert executed.again("train").exit_code == 0


def test_cell_that_differs_is_named(tmp_path):
    executed = Executed(tmp_path, prepare=print_text("auc 0.7231\n"))
    executed.engine.acts["prepare"] = print_text("auc 0.7232\n")
    report = executed.again("prepare")
    assert report.exit_code == 1
    assert told(report) == [
        ("CELL-DIFFERS", "c0", "by text: stdout: line 1: 'auc 0.7231', now 'auc 0.7232'"),
    ]


def test_what_changes_each_time_raises_no_alarm_in_20_repeats(tmp_path):
    def act(context):
        return print_text(f"{context.record} at {id(context):#018x} took {len(context.record)}.2 s, in {context.root}")(
            context
        )

    executed = Executed(tmp_path, prepare=act)
    assert [executed.again("prepare").exit_code for _ in range(20)] == [0] * 20


def test_failed_run_names_cell_and_error(tmp_path):
    executed = Executed(tmp_path)

    def fail(context):
        raise ZeroDivisionError("division by zero")

    executed.engine.acts["train"] = fail
    report = executed.again("train")
    assert (report.exit_code, report.level) == (1, Level.NOT_EXECUTED)
    ((code, cell, detail),) = told(report)
    assert (code, cell) == ("RUN-FAILED", "c0")
    assert detail.startswith("cell 1 of executed.ipynb: ZeroDivisionError: division by zero (")
    assert report.stages[0].statement_sha256


def test_input_changed_while_it_ran_is_named(tmp_path):
    executed = Executed(tmp_path)

    def spoil(context):
        path = Path(context.inputs["table.csv"])
        path.chmod(0o644)
        path.write_text("other")
        return write_outputs(context)

    executed.engine.acts["train"] = spoil
    report = executed.again("train")
    assert report.exit_code == 1
    assert told(report)[0][0] == "INPUT-CHANGED"
    assert "input 'table.csv' was changed while the stage ran" in told(report)[0][2]


def test_output_that_is_not_written_any_more_fails_the_run(tmp_path):
    executed = Executed(tmp_path)
    executed.engine.acts["prepare"] = lambda context: {}
    assert "OutputMissing" in told(executed.again("prepare"))[0][2]


@pytest.mark.parametrize(
    ("digest", "place"),
    [
        (lambda record: record.inputs[0].artifact.sha256, "input 'table.csv' of record"),
        (lambda record: record.code.bundle_sha256, "the bundle of record"),
        (lambda record: record.configuration_sha256, "configuration of record"),
    ],
    ids=["input", "bundle", "configuration"],
)
def test_what_went_in_must_be_there_and_unchanged(tmp_path, digest, place):
    executed = Executed(tmp_path)
    path = object_of(executed, digest(executed.records["train"]))
    n_jobs = len(executed.engine.jobs)
    path.write_bytes(b"{}")
    changed = executed.again("train")
    path.unlink()
    missing = executed.again("train")
    assert [(report.exit_code, report.findings[0].code) for report in (changed, missing)] == [
        (1, Code.INPUT_CHANGED),
        (3, Code.INPUT_NOT_AVAILABLE),
    ]
    for report in (changed, missing):
        assert f"{place} {executed.records['train'].id}" in report.findings[0].detail
    assert len(executed.engine.jobs) == n_jobs


def test_output_to_compare_with_must_be_there_and_unchanged(tmp_path):
    executed = Executed(tmp_path, prepare=write_text("table.csv", CSV))
    executed.engine.acts["prepare"] = write_text("table.csv", NEAR)
    path = object_of(executed, executed.records["prepare"].outputs[0].sha256)
    path.write_bytes(NEAR.encode())
    assert [finding.code for finding in executed.again("prepare").findings] == [Code.INPUT_CHANGED]
    path.unlink()
    report = executed.again("prepare")
    assert ([finding.code for finding in report.findings], report.exit_code) == ([Code.INPUT_NOT_AVAILABLE], 3)


def test_released_artifact_must_be_there(tmp_path):
    executed = Executed(tmp_path)
    object_of(executed, executed.records["train"].output("golden.json").sha256).unlink()
    report = executed.again("run")
    assert (report.exit_code, "'golden.json' of release dev-1" in report.findings[0].detail) == (3, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": ()}, "has parameters [], notebooks/train.ipynb of its bundle declares ['epochs', 'rate']"),
        ({"inputs": ()}, "read no 'table.csv', which the notebook of its bundle reads"),
        ({"environment": "prod"}, "is of environment 'dev', expected 'prod'"),
    ],
)
def test_record_that_contradicts_its_bundle_is_not_executed(tmp_path, changes, reason):
    executed = Executed(tmp_path)
    executed.copy_record("train", **changes)
    report = executed.again("train")
    assert (report.exit_code, report.findings[0].code) == (1, Code.INPUT_CHANGED)
    assert reason in report.findings[0].detail


@pytest.mark.parametrize("name", ["record.json", "executed.ipynb", "requirements.txt"])
def test_record_that_was_edited_is_not_compared_with(tmp_path, name):
    executed = Executed(tmp_path)
    path = executed.bench.archive.record_folder(executed.records["train"].id) / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"0.72", b"0.73") + b"\n")
    report = executed.again("train", with_recorded_packages=False)
    assert (report.exit_code, report.findings[0].code) == (1, Code.INPUT_CHANGED)
    assert report.findings[0].detail.startswith(f"{name} of record {executed.records['train'].id}: expected ")


def test_sealed_notebook_that_cannot_be_read_is_named(tmp_path):
    executed = Executed(tmp_path)
    executed.copy_record("prepare", notebook=b"no notebook")
    report = executed.again("prepare")
    assert (report.exit_code, report.findings[0].code) == (1, Code.INPUT_CHANGED)
    assert "executed.ipynb is not a notebook" in report.findings[0].detail


def test_stage_without_outputs_is_told_by_its_cells(tmp_path):
    project = make_project(tmp_path, {"look": make_notebook("1", title="Look")}, {"dev": ""})
    bench = make_workbench(project, FakeEngine())
    report = reproduce(bench, execute_stage(bench, Order("look", "dev")).record.id)
    assert (report.exit_code, report.level) == (0, Level.EXECUTED)
    assert report.verdict.endswith("it has no outputs to compare")


def test_parameter_of_another_type_is_not_pasted(tmp_path):
    executed = Executed(tmp_path)
    epochs, rate = executed.records["train"].parameters
    executed.copy_record("train", parameters=(msgspec.structs.replace(epochs, value="3; import os"), rate))
    assert "parameter 'epochs' must be int" in executed.again("train").findings[0].detail


def test_release_without_its_prefix_is_told_what_to_write(tmp_path):
    executed = Executed(tmp_path)
    with pytest.raises(UsageError, match="kit reproduce release:dev-1"):
        reproduce(executed.bench, "dev-1")


def test_record_without_a_result_is_wrong_use(tmp_path):
    executed = Executed(tmp_path)
    record = executed.copy_record("train", status=Status.FAILED)
    with pytest.raises(UsageError, match=f"record {record.id} is failed: it has no result to do again"):
        executed.again("train")
    with pytest.raises(NotFoundError, match="no record is named 'nothing'"):
        executed.again("nothing")
    with pytest.raises(NotFoundError, match="'dev-9' is no release"):
        executed.again("release:dev-9")


def test_scratch_of_an_earlier_attempt_does_not_help(tmp_path):
    executed = Executed(tmp_path)
    seen = []

    def act(context):
        seen.append(sorted(path.name for path in Path(context.scratch).iterdir()))
        (Path(context.scratch) / "checkpoint").write_text("half way")
        raise RuntimeError("killed half way")

    executed.engine.acts["train"] = act
    executed.again("train")
    executed.again("train")
    assert seen == [[], []]
    assert not list((executed.project.scratch / "workspaces").iterdir())


@pytest.mark.parametrize("differs", [True, False])
def test_difference_from_what_went_on_with_earlier_attempts_says_so(tmp_path, differs):
    executed = Executed(tmp_path)
    record = executed.copy_record("train", attempts=("20260301T093000Z-train-000000",))
    if differs:
        executed.engine.acts["train"] = write_text("golden.json", "[1]", {"auc": 0.72})
    told = (
        f"{record.id} went on with the scratch folder of 20260301T093000Z-train-000000; it was done again from nothing"
    )
    assert (told in executed.again_one("train").notes) is differs


def test_interrupt_seals_the_record_and_goes_on(tmp_path):
    executed = Executed(tmp_path)

    def interrupt(context):
        raise KeyboardInterrupt

    executed.engine.acts["train"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        executed.again("train")
    (done,) = [record for record in executed.bench.archive.records() if record.reproduces]
    assert done.status is Status.INTERRUPTED


def test_nothing_to_compare_proves_nothing(tmp_path):
    compare = '"table.csv" = { kind = "ignore", reason = "a" }\n"cells.c0" = { kind = "ignore", reason = "b" }'
    executed = Executed(tmp_path, compare, prepare=write_text("table.csv", CSV))
    executed.engine.acts["prepare"] = write_text("table.csv", NEAR)
    report = executed.again("prepare")
    assert (report.exit_code, [finding.code for finding in report.findings]) == (3, [Code.NOTHING_COMPARED])


def test_causes_name_what_differs_around(tmp_path):
    executed = Executed(tmp_path)
    software = describe_software(None)
    packages = "numpy==0.1\n"
    other = msgspec.structs.replace(describe_machine(), cpu_model="another", python="CPython 3.11.0")
    executed.copy_record(
        "train", packages, machine=other, software=msgspec.structs.replace(software, kit_version="0.0.1")
    )
    found = executed.again_one("train", with_recorded_packages=False)
    causes = {(cause.kind, cause.subject) for cause in found.causes}
    assert {("package", "numpy"), ("processor", "model"), ("python", "version"), ("kit", "version")} <= causes
    assert found.notes[0].startswith(f"done again by kit {software.kit_version}")
    assert "recorded by kit 0.0.1" in found.notes[0]


def sealed(executed, host, key, boot=None):
    executed.bench.archive.key = key
    machine = msgspec.structs.replace(executed.records["train"].machine, host=host)
    process = msgspec.structs.replace(executed.records["train"].process, boot=host if boot is None else boot)
    return executed.copy_record("train", machine=machine, process=process)


@pytest.mark.parametrize(
    ("host", "is_other_key", "is_trusted", "independently", "sentence"),
    [
        ("b", True, True, True, "independently: by ben@b"),
        ("b", False, True, False, "not independently: both are signed with ana@a"),
        ("a", True, True, False, "not independently: both were executed on a"),
        ("b", True, False, False, "which is not among the trusted keys"),
    ],
)
def test_independence_needs_another_key_on_another_machine(
    tmp_path, host, is_other_key, is_trusted, independently, sentence
):
    executed = Executed(tmp_path)
    ana, ben = make_key("ana@a"), make_key("ben@b")
    before = sealed(executed, "a", ana)
    after = sealed(executed, host, ben if is_other_key else ana)
    keys = (ana.public, ben.public) if is_trusted else (ana.public,)
    found, why = judge_independence(executed.bench.archive, before, after, keys)
    assert (found, sentence in why) == (independently, True), why


@pytest.mark.parametrize(
    ("hosts", "boot", "why"),
    [
        (("a", "b"), "7f", "not independently: a and b are one machine, with the same boot id 7f"),
        (("a", "a"), "7f", "not independently: both were executed on a"),
        (("a", "b"), "", "independently: by ben@b on b, recorded by ana@a on a"),
    ],
)
def test_one_machine_is_told_by_what_is_equal(tmp_path, hosts, boot, why):
    executed = Executed(tmp_path)
    ana, ben = make_key("ana@a"), make_key("ben@b")
    before, after = sealed(executed, hosts[0], ana, boot), sealed(executed, hosts[1], ben, boot)
    found, told = judge_independence(executed.bench.archive, before, after, (ana.public, ben.public))
    assert found is why.startswith("independently")
    assert told.replace(ana.public.id, "ana@a").replace(ben.public.id, "ben@b") == why


def test_unsigned_work_is_never_independent(tmp_path):
    found = Executed(tmp_path).again_one("train")
    assert (found.independently, "is not signed" in found.independence) == (False, True)


def test_release_is_judged_as_of_then(tmp_path):
    executed = Executed(tmp_path, environment=COMPARED, train=lambda context: write_model(context, 0.72))
    first = executed.records["release"]
    executed.engine.acts["train"] = lambda context: write_model(context, 0.81)
    executed.execute()  # dev-2 is live now, and 0.72 would be too great a drop from it
    report = executed.again(first.id)
    assert (report.exit_code, report.level) == (0, Level.BIT_IDENTICAL), report.findings
    second = executed.again("release")
    assert (second.exit_code, second.level) == (0, Level.BIT_IDENTICAL), second.findings
    assert [release.id for release in executed.bench.archive.list_releases()] == ["dev-1", "dev-2"]


def test_gate_that_refuses_now_fails_the_run(tmp_path):
    report = Executed(tmp_path).again(
        "release", probes=Probes(lambda model, golden: ProbeOutcome(False, "it does not load"))
    )
    assert (report.exit_code, report.findings[0].code) == (1, Code.RUN_FAILED)
    assert "model saved_model: it does not load" in report.findings[0].detail


def test_whole_way_to_a_release_is_done_again_on_what_was_made_again(tmp_path):
    executed = Executed(tmp_path)
    report = executed.again("release:dev-1")
    assert (report.exit_code, report.level) == (0, Level.OUTPUTS_EQUAL), report.findings
    assert [stage.stage for stage in report.stages] == ["build", "prepare", "train", "release"]
    done = {stage.stage: executed.bench.archive.read_record(stage.again) for stage in report.stages}
    assert done["train"].inputs[0].record == done["prepare"].id
    assert {each.record for each in done["release"].inputs} == {done["train"].id, done["build"].id}
    assert [release.id for release in executed.bench.archive.list_releases()] == ["dev-1"]
    assert verify_archive(executed.project.archive, [], []).exit_code == 0


def test_whole_way_is_compared_stage_by_stage_although_one_differs(tmp_path):
    executed = Executed(tmp_path, train=count_rows)
    executed.engine.acts["prepare"] = write_text("table.csv", "x\n1\n2\n3\n")
    report = executed.again("release:dev-1")
    assert report.exit_code == 1
    codes = [(stage.stage, sorted({str(finding.code) for finding in stage.findings})) for stage in report.stages]
    assert codes == [
        ("build", []),
        ("prepare", ["OUTPUT-DIFFERS"]),
        ("train", ["CELL-DIFFERS", "METRIC-DIFFERS", "OUTPUT-DIFFERS"]),
        ("release", ["OUTPUT-DIFFERS"]),
    ]
    causes = [(cause.kind, cause.subject) for cause in report.stages[2].causes]
    assert causes == [("input", "table.csv")]


def count_rows(context):
    n_rows = len(Path(context.inputs["table.csv"]).read_text().splitlines())
    write_outputs(context)
    Path(context.outputs["golden.json"]).write_text(f'{{"n": {n_rows}}}')
    return {"auc": 0.7 + n_rows / 100}


def test_equal_but_not_identical_outputs_carry_the_whole_way(tmp_path):
    executed = Executed(tmp_path, '"table.csv" = { kind = "table", rtol = 1e-6 }', prepare=write_text("table.csv", CSV))
    executed.engine.acts["prepare"] = write_text("table.csv", NEAR)
    report = executed.again("release:dev-1")
    assert (report.exit_code, report.level) == (0, Level.OUTPUTS_EQUAL), report.findings


def test_whole_way_ends_where_a_stage_cannot_be_done_again(tmp_path):
    executed = Executed(tmp_path)

    def fail(context):
        raise ValueError("no")

    executed.engine.acts["prepare"] = fail
    report = executed.again("release:dev-1")
    assert (report.exit_code, report.level) == (1, Level.NOT_EXECUTED)
    assert [stage.stage for stage in report.stages] == ["build", "prepare"]
    assert report.missing == (executed.records["train"].id, executed.records["release"].id)


def test_whole_way_needs_every_record(tmp_path):
    executed = Executed(tmp_path)
    folder = executed.bench.archive.record_folder(executed.records["prepare"].id)
    folder.rename(tmp_path / "gone")
    report = executed.again("release:dev-1")
    assert (report.exit_code, report.findings[0].code) == (3, Code.INPUT_NOT_AVAILABLE)


def test_only_what_did_a_record_again_can_stand_for_it(tmp_path):
    executed = Executed(tmp_path)
    prepared, trained = executed.records["prepare"].id, executed.records["train"].id
    with pytest.raises(UsageError, match=f"{trained} did not do {prepared} again"):
        executed.again("train", again={prepared: trained})
    again = executed.again_one("prepare").again
    found = executed.again_one("train", again={prepared: again})
    assert executed.bench.archive.read_record(found.again).inputs[0].record == again


def test_odd_names_are_done_again(tmp_path):
    names = ["größe %s #1.csv", "a b.json"]
    project = make_project(tmp_path, {"prepare": make_notebook(title="P", outputs=names)}, {"dev": ""})

    def act(context):
        for path in context.outputs.values():
            Path(path).write_text("[]")

    bench = make_workbench(project, FakeEngine(prepare=act))
    record = execute_stage(bench, Order("prepare", "dev")).record
    report = reproduce(bench, record.id)
    assert (report.exit_code, [each.subject for each in report.stages[0].outputs]) == (0, names)
