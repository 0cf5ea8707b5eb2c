"""The command line: exit codes, JSON, help that begins with an example; nothing here executes a notebook."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from commands import Kit
from probes import GOOD

from kit.artifact import Artifact
from kit.files import sha256_bytes
from kit.record import Failure, Process, Status
from kit.testing import (
    DATA,
    FakeEngine,
    example_stages,
    make_notebook,
    make_project,
    make_record,
    make_workbench,
    seal_record,
    write_outputs,
)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    project = make_project(
        tmp_path, environments={"dev": DATA, "bare": "", "signed": DATA + "[policy]\nsigned = true\n"}
    )
    monkeypatch.chdir(project.root / "notebooks")
    return Kit(project, capsys)


def test_help_begins_with_an_example_and_lists_stages_first(kit: Kit) -> None:
    help_ = kit("--help")
    assert help_.code == 0
    assert help_.out.splitlines()[0] == "Example: kit all --env dev"
    names = [line.split()[0] for line in help_.out.split("Commands:")[1].splitlines() if line.strip()]
    assert names[:5] == ["build", "prepare", "train", "release", "run"]
    assert {"all", "records", "show", "open", "releases", "report", "lab"} <= set(names)


def test_stage_help_shows_each_parameter_with_help_type_and_default(kit: Kit) -> None:
    help_ = kit("train", "--help")
    text = " ".join(help_.out.split())
    assert help_.code == 0
    assert help_.out.splitlines()[0] == "Example: kit train --env dev --epochs 3"
    assert "--epochs int passes over the data [default: 3]" in text
    assert "--rate float step, (0, 1] [default: 0.1]" in text
    assert "Reads table.csv; writes saved_model, golden.json." in text
    assert "--release" not in text
    assert "--release" in kit("run", "--help").out


@pytest.mark.parametrize("command", ["all", "records", "show", "open", "releases", "report", "lab"])
def test_every_command_begins_its_help_with_an_example(kit: Kit, command: str) -> None:
    help_ = kit(command, "--help")
    assert help_.code == 0
    assert help_.out.startswith(f"Example: kit {command}")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["trian"], 2, "did you mean 'train'"),
        (["recrods"], 2, "did you mean 'records'"),
        (["train", "--env", "dve"], 2, "did you mean 'dev'"),
        (["train", "--epochs", "many"], 2, "parameter 'epochs' must be int, found 'many'"),
        (["train", "--eposch", "3"], 2, "--epochs"),
        (["train"], 1, "run `kit prepare --env dev` first"),
        (["prepare", "--env", "bare"], 2, "environments/bare.toml does not bind it"),
        (["prepare", "--env", "signed"], 1, "policy.signed"),
        (["prepare", "--input", "raw.csv"], 2, "--input must be NAME=RECORD or NAME=PATH"),
        (["prepare", "--input", "raw.csv=gone.csv"], 1, "no such file or folder"),
        (["release"], 1, "takes no releases"),
        (["run"], 1, "nothing is live in environment 'dev'"),
        (["run", "--release", "dev-7"], 2, "release 'dev-7' does not exist"),
        (["show", "abcdef"], 2, "no record is named 'abcdef'"),
        (["open", "abcdef"], 2, "no record is named 'abcdef'"),
        (["records", "--status", "succeded"], 2, "did you mean 'succeeded'"),
        (["records", "--sort", "age"], 2, "--sort"),
        (["all", "--env", "dve"], 2, "did you mean 'dev'"),
    ],
)
def test_wrong_call_ends_with_its_code_and_one_sentence_also_as_json(
    kit: Kit, arguments: list[str], code: int, sentence: str
) -> None:
    called = kit(*arguments)
    assert called.code == code
    assert sentence in called.err
    assert called.out == ""
    as_json = kit(*arguments, "--json")
    assert as_json.code == code
    assert sentence in as_json.json["error"]["message"]
    assert kit.archive.list_ids() == []


def test_outside_of_a_project_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kit: Kit
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    monkeypatch.chdir(outside)
    assert kit("--help").code == 0
    called = kit("records")
    assert (called.code, "lies in no kit project" in called.err) == (2, True)


def test_error_in_a_notebook_is_not_reported_as_a_missing_stage(kit: Kit) -> None:
    (kit.project.root / "notebooks/train.ipynb").write_text("{")
    for arguments in (["train"], ["prepare"], ["records"]):
        called = kit(*arguments)
        if arguments != ["records"]:
            assert called.code == 2
            assert "notebooks/train.ipynb is not a notebook" in called.err
            assert "does not exist" not in called.err
    assert kit("records").code == 0


def test_records_are_filtered_sorted_and_printed_as_json(kit: Kit) -> None:
    train = seal_record(kit.archive, make_record(metrics={"auc": 0.71234}))
    failed = make_record(stage="prepare", environment="ci", status=Status.FAILED, failure=Failure("E", "because", 3))
    seal_record(kit.archive, failed)
    called = kit("records")
    assert called.code == 0
    lines = called.out.splitlines()
    assert lines[0].split()[:4] == ["record", "stage", "environment", "status"]
    assert len(lines) == 4
    assert "auc 0.7123" in called.out
    assert [each["id"] for each in kit("records", "--json").json] == sorted([train.id, failed.id], reverse=True)
    for arguments, expected in (
        (["--stage", "train"], train),
        (["--env", "ci"], failed),
        (["--status", "failed"], failed),
        (["--limit", "1", "--sort", "stage"], failed),
    ):
        assert [each["id"] for each in kit("records", *arguments, "--json").json] == [expected.id]
    assert "1 more; use --limit" in kit("records", "--limit", "1").out


def test_record_that_cannot_be_read_is_named_and_the_others_listed(kit: Kit) -> None:
    good, bad = seal_record(kit.archive, make_record()), seal_record(kit.archive, make_record())
    file = kit.archive.record_folder(bad.id) / "record.json"
    file.chmod(0o644)
    file.write_text("{")
    called = kit("records", "--json")
    assert [each["id"] for each in called.json] == [good.id]
    assert f"not listed: record {bad.id}" in called.err
    assert kit("show", bad.id).code == 1


def test_show_tells_what_happened_first_and_takes_any_end_of_the_id(kit: Kit) -> None:
    output = Artifact("table.csv", sha256_bytes(b"x"), 1, "text/csv")
    failed = make_record(status=Status.FAILED, failure=Failure("ValueError", "no rows", 3), outputs=(output,))
    seal_record(kit.archive, failed)
    called = kit("show", failed.id[-6:])
    assert called.code == 0
    assert called.out.splitlines()[:2] == [
        f"{failed.id}  FAILED",
        "  ValueError in cell 4 of executed.ipynb: no rows",
    ]
    assert "table.csv" in called.out
    assert kit("show", failed.id[-6:], "--json").json["failure"]["message"] == "no rows"


def test_killed_execution_reads_lost_and_shows_what_it_had_put_out(kit: Kit) -> None:
    record = make_record(stage="train")
    machine = msgspec.structs.replace(record.machine, host=socket.gethostname())
    process = Process(os.getpid(), "0", record.process.boot)
    lost = msgspec.structs.replace(record, status=Status.STARTED, ended=None, machine=machine, process=process)
    opened = kit.archive.open_record(lost, {})
    lines = [
        {"kind": "header", "format": 1, "budget_bytes": 100, "notebook": make_notebook("fit()", "1/0")},
        {"kind": "cell-start", "cell": 0},
        {"kind": "output", "cell": 0, "output": {"output_type": "stream", "name": "stdout", "text": "epoch 1 done\n"}},
    ]
    (opened.folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    called = kit("show", record.id)
    assert called.code == 0
    assert called.out.startswith(f"{record.id}  LOST")
    assert "epoch 1 done" in called.out
    assert "0 of 2 succeeded" in called.out
    shown = kit("show", record.id, "--json").json
    assert (shown["status"], [cell["status"] for cell in shown["cells"]]) == ("lost", ["running", "not-run"])
    assert kit("records", "--status", "lost", "--json").json[0]["id"] == record.id


def test_releases_say_which_is_live(kit: Kit) -> None:
    from kit.execute import Order, execute_plan, plan_stage
    from kit.release import cut_release, plan_release

    (kit.project.environments / "staging.toml").write_text(DATA + '[release]\nfrom = "dev"\n')
    engine = FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.7})
    workbench = make_workbench(kit.project, engine)
    for stage in ("build", "prepare", "train"):
        execute_plan(workbench, plan_stage(workbench, Order(stage, "dev")))
    order = Order("release", "staging")
    for _ in range(2):
        cut_release(workbench, plan_release(workbench, order, GOOD))
    called = kit("releases")
    assert [line.split()[:2] for line in called.out.splitlines()[2:]][1] == ["staging-2", "live"]
    assert [each["id"] for each in kit("releases", "--env", "staging", "--json").json] == ["staging-1", "staging-2"]
    assert kit("releases", "--env", "dev", "--json").json == []
    shown = kit("show", "staging-1")
    assert shown.out.startswith("staging-1  cut 2026-03-01")
    assert "no limit" not in shown.out
    assert kit("show", "staging-1", "--json").json["manifest"]["metrics"] == {"auc": 0.7}


def test_interrupt_ends_with_130(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.cli.records.open_workbench", interrupt)
    assert kit("records").code == 130


def test_full_disk_or_forbidden_folder_is_one_sentence(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "archive")

    monkeypatch.setattr("kit.cli.records.open_workbench", refuse)
    called = kit("records", "--json")
    assert called.code == 1
    assert "Permission denied" in called.json["error"]["message"]
    assert "Permission denied" in called.err


def test_all_stages_of_the_example_have_commands(kit: Kit) -> None:
    for stage in example_stages():
        assert kit(stage, "--help").code == 0


def test_help_loads_nothing_heavy(kit: Kit) -> None:
    program = "import sys\nfrom kit.cli import main\ntry:\n    main(['--help'])\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    heavy = {"papermill", "nbformat", "nbclient", "nbconvert", "great_expectations", "pandas", "numpy", "tensorflow"}
    assert "  train " in done.stdout
    assert not loaded & {*heavy, "dask", "scrapbook", "jupyter_client", "zmq", "IPython", "jsonschema"}


@pytest.mark.parametrize("arguments", [["records"], ["show", "x"], ["--help"]])
def test_output_that_a_terminal_cannot_show_is_written_out(kit: Kit, arguments: list[str]) -> None:
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "kit.cli", *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_interrupt_is_told_in_json_too(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.cli.records.open_workbench", interrupt)
    called = kit("records", "--json")
    assert (called.code, called.json["error"]["kind"]) == (130, "InterruptedByUserError")


def test_help_is_there_although_a_notebook_cannot_be_read(kit: Kit) -> None:
    (kit.project.root / "notebooks/broken.ipynb").write_text("{bad")
    called = kit("--help")
    assert called.code == 0
    assert "records" in called.out
    assert "the project's stages cannot be listed: notebooks/broken.ipynb is not a notebook" in called.err
