"""One stage, executed by a fake engine: what is recorded, and what keeps it from being `succeeded`."""

import dataclasses
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.archive import Archive
from kit.check import ExpectationResult, Severity
from kit.check import Finding as CheckFinding
from kit.errors import GraphError, NotFoundError, ParameterError, PolicyError, UnknownNameError, UsageError
from kit.execute import (
    Order,
    Workbench,
    complete_record,
    describe_signature,
    execute_plan,
    plan_stage,
    read_notebook_of,
)
from kit.ledger import Kind
from kit.parameter import ResolvedParameter, Source
from kit.project import Project
from kit.record import CellStatus, Failure, Record, Status
from kit.signing import Envelope
from kit.statement import Statement
from kit.testing import (
    DATA,
    FakeEngine,
    commit_all,
    example_stages,
    fake_outcome,
    leave_check,
    make_notebook,
    make_project,
    make_record,
    make_workbench,
    write_outputs,
)
from kit.workspace import Context, create_workspace, remove_abandoned

SECRET = "hunter2-and-more"
SECRETS = DATA + '[secrets]\nTOKEN = { file = "data/token" }\n'


def execute(workbench: Workbench, stage: str = "prepare", **order: Any) -> Record:
    record = execute_plan(workbench, plan_stage(workbench, Order(stage, order.pop("environment", "dev"), **order)))
    assert workbench.archive.read_record(record.id) == record
    assert list((workbench.project.scratch / "workspaces").iterdir()) == []
    return record


def act(function: Callable[[Context], Any]) -> FakeEngine:
    return FakeEngine(prepare=function)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure_of(record: Record) -> Failure:
    assert record.status is Status.FAILED
    assert record.outputs == ()
    assert record.failure is not None
    return record.failure


def test_success_is_recorded_whole_and_no_file_of_the_user_is_touched(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    before = files_below(tmp_path)
    workbench = make_workbench(project, FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.7}))
    prepared = execute(workbench)
    trained = execute(workbench, "train", parameters={"epochs": "5"})
    after = files_below(tmp_path)
    assert {name: data for name, data in after.items() if not name.startswith(("archive/", ".kit/"))} == before
    assert (prepared.status, trained.status) == (Status.SUCCEEDED, Status.SUCCEEDED)
    (source,) = prepared.inputs
    assert (source.source, source.record, source.sha256_after) == ("data/raw.csv", "", source.artifact.sha256)
    (table,) = trained.inputs
    assert (table.record, table.artifact) == (prepared.id, prepared.output("table.csv"))
    assert trained.parameters == (
        ResolvedParameter("epochs", 5, Source.COMMAND_LINE, "int"),
        ResolvedParameter("rate", 0.1, Source.NOTEBOOK, "float"),
    )
    assert [output.name for output in trained.outputs] == ["saved_model", "golden.json"]
    assert trained.metrics == {"auc": 0.7}
    assert (trained.code.dirty, trained.code.commit, trained.code.build) == (True, None, None)
    assert trained.usage is not None
    assert trained.wall_s == trained.usage.wall_s == 1.0
    names = set(files_below(workbench.archive.record_folder(trained.id)))
    assert names == {
        "record.json", "started.json", "statement.dsse.json", "source.ipynb", "executed.ipynb", "requirements.txt"
    }  # fmt: skip
    assert read_notebook_of(trained, workbench.archive)["metadata"]["kit"]["record"] == trained.id


def test_job_has_the_stripped_notebook_the_changed_parameters_and_the_bundles_folder(tmp_path: Path) -> None:
    engine = FakeEngine()
    workbench = make_workbench(make_project(tmp_path), engine)
    execute(workbench)
    execute(workbench, "train", parameters={"epochs": "5"}, timeout_s=7.0)
    job = engine.jobs[-1]
    assert job.parameters == {"epochs": 5}
    assert job.timeout_s == 7.0
    assert job.folder.name == "notebooks"
    assert job.folder.is_relative_to(workbench.project.scratch)


def test_kernel_gets_mappings_in_the_order_that_the_record_has(tmp_path: Path) -> None:
    stages = {"train": make_notebook(title="Train", parameters="weights: dict[str, int] = {}", outputs=["m.txt"])}
    engine = FakeEngine()
    workbench = make_workbench(
        make_project(tmp_path, stages, {"dev": "[parameters]\nweights = { b = 1, a = 2 }"}), engine
    )
    record = workbench.archive.read_record(execute(workbench, "train").id)
    assert list(record.parameters[0].value) == list(engine.jobs[-1].parameters["weights"]) == ["a", "b"]


def test_missing_output_fails(tmp_path: Path) -> None:
    record = execute(make_workbench(make_project(tmp_path), act(lambda context: {"n": 1})))
    failure = failure_of(record)
    assert failure.kind == "OutputMissing"
    assert "'table.csv' was not written" in failure.message
    assert record.metrics == {"n": 1}


@pytest.mark.parametrize("how", ["changed", "removed", "became a folder"])
def test_input_that_the_stage_changed_fails(tmp_path: Path, how: str) -> None:
    def spoil(context: Context) -> None:
        write_outputs(context)
        path = Path(context.inputs["raw.csv"])
        path.unlink()
        if how == "changed":
            path.write_text("x\n9\n")
        elif how == "became a folder":
            path.mkdir()

    project = make_project(tmp_path)
    failure = failure_of(execute(make_workbench(project, act(spoil))))
    assert failure.kind == "InputChanged"
    assert "input 'raw.csv' was changed while the stage ran" in failure.message
    assert (project.root / "data/raw.csv").read_text() == "x\n1\n2\n"


def checked_project(tmp_path: Path) -> Project:
    return make_project(tmp_path, files={"notebooks/expectations/table.json": "{}"})


def test_check_that_is_due_and_was_not_made_fails(tmp_path: Path) -> None:
    failure = failure_of(execute(make_workbench(checked_project(tmp_path))))
    assert failure.kind == "CheckMissing"
    assert "call stage.check('table.csv')" in failure.message


def test_check_of_earlier_bytes_fails(tmp_path: Path) -> None:
    def write_after_check(context: Context) -> None:
        write_outputs(context)
        leave_check(context, "table.csv")
        Path(context.outputs["table.csv"]).write_text("changed")

    assert (
        failure_of(execute(make_workbench(checked_project(tmp_path), act(write_after_check)))).kind == "CheckOutdated"
    )


def test_failed_check_that_the_notebook_swallowed_fails(tmp_path: Path) -> None:
    def swallow(context: Context) -> None:
        write_outputs(context)
        bad = ExpectationResult("expect_x", {}, Severity.CRITICAL, "w", CheckFinding.FAILED, n_unexpected=2)
        leave_check(context, "table.csv", expectations=(bad,))

    record = execute(make_workbench(checked_project(tmp_path), act(swallow)))
    assert failure_of(record).kind == "CheckFailed"
    assert "2 rows are not as expected" in failure_of(record).message
    assert [check.passed for check in record.checks] == [False]


def test_passed_check_is_recorded_with_its_file(tmp_path: Path) -> None:
    def check(context: Context) -> None:
        write_outputs(context)
        leave_check(context, "table.csv")

    workbench = make_workbench(checked_project(tmp_path), act(check))
    record = execute(workbench)
    assert record.succeeded
    (file,) = (workbench.archive.record_folder(record.id) / "checks").iterdir()
    assert msgspec.json.decode(file.read_bytes()) == msgspec.to_builtins(record.checks[0], str_keys=True) | {
        "expectations": [msgspec.to_builtins(each) for each in record.checks[0].expectations],
        "errors": [],
    }


@pytest.mark.parametrize("fact", ["check-table.csv", "determinism"])
def test_unreadable_fact_fails(tmp_path: Path, fact: str) -> None:
    def spoil(context: Context) -> None:
        write_outputs(context)
        (Path(context.facts) / f"{fact}.json").write_text("{")

    assert failure_of(execute(make_workbench(make_project(tmp_path), act(spoil)))).kind == "IntegrityError"


def test_build_that_gives_another_bundle_fails(tmp_path: Path) -> None:
    def forge(context: Context) -> None:
        Path(context.outputs["bundle.zip"]).write_bytes(b"PK")

    workbench = make_workbench(make_project(tmp_path), FakeEngine(build=forge))
    assert failure_of(execute(workbench, "build")).kind == "BundleDiffers"


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMED_OUT, Status.KERNEL_DIED, Status.INTERRUPTED])
def test_engines_outcome_is_kept_even_if_every_output_is_there(tmp_path: Path, status: Status) -> None:
    def end(context: Context) -> Any:
        write_outputs(context)
        return fake_outcome(None, status, {"auc": 0.7}, Failure("Why", "because", 0))

    record = execute(make_workbench(make_project(tmp_path), act(end)))
    assert (record.status, record.failure, record.outputs) == (status, Failure("Why", "because", 0), ())
    assert record.metrics == {"auc": 0.7}
    assert [cell.status for cell in record.cells] == [CellStatus(status)]


def test_outcome_is_kept_if_an_input_cannot_be_hashed_any_more(tmp_path: Path) -> None:
    def end(context: Context) -> Any:
        path = Path(context.inputs["raw.csv"])
        path.unlink()
        path.mkdir()
        return fake_outcome(None, Status.TIMED_OUT, failure=Failure("TimedOut", "too long", 0))

    record = execute(make_workbench(make_project(tmp_path), act(end)))
    assert record.status is Status.TIMED_OUT
    assert record.inputs[0].sha256_after is None


def test_full_disk_while_collecting_never_succeeds(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path))
    plan = plan_stage(workbench, Order("prepare", "dev"))

    class FullObjects:
        def __getattr__(self, name: str) -> Any:
            return getattr(workbench.archive.objects, name)

        def put_artifact(self, name: str, source: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(source))

    full = Archive(workbench.archive.folder)
    full.objects = FullObjects()  # type: ignore[assignment]
    record = execute_plan(exchange(workbench, archive=full), plan)
    assert failure_of(record).kind == "OSError"
    assert "No space left" in failure_of(record).message
    assert workbench.archive.read_record(record.id).status is Status.FAILED
    assert [cell.status for cell in record.cells] == [CellStatus.SUCCEEDED]


def exchange(workbench: Workbench, **changes: Any) -> Workbench:
    return dataclasses.replace(workbench, **changes)


class Pressed(Archive):
    """Somebody presses Ctrl-C whenever something is stated."""

    def state(self, statement: Statement) -> Envelope:
        """Press, then go on."""
        os.kill(os.getpid(), signal.SIGINT)
        return super().state(statement)


def test_interrupt_while_a_record_is_sealed_loses_nothing_and_lets_nothing_else_begin(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path))
    pressed = dataclasses.replace(workbench, archive=Pressed(workbench.project.archive, workbench.archive.origin))
    with pytest.raises(KeyboardInterrupt):
        execute(pressed)
    (name,) = workbench.archive.list_ids()
    assert workbench.archive.read_record(name).status is Status.SUCCEEDED
    assert [entry.kind for entry in workbench.archive.ledger.read_entries()] == [Kind.START, Kind.END]


class PressedEarly(Archive):
    """Somebody presses Ctrl-C twice when an execution is announced."""

    def enter(self, kind: Kind, *arguments: Any) -> Any:
        """Press, then go on."""
        entry = super().enter(kind, *arguments)
        if kind is Kind.START:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return entry


def test_interrupt_while_an_execution_is_announced_is_recorded_and_starts_no_kernel(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path))
    archive = PressedEarly(workbench.project.archive, workbench.archive.origin)
    record = execute(dataclasses.replace(workbench, archive=archive))
    assert (record.status, workbench.engine.jobs) == (Status.INTERRUPTED, [])


def test_interrupt_is_recorded_as_interrupted(tmp_path: Path) -> None:
    def interrupt(context: Context) -> None:
        write_outputs(context)
        raise KeyboardInterrupt

    record = execute(make_workbench(make_project(tmp_path), act(interrupt)))
    assert record.status is Status.INTERRUPTED
    assert record.outputs == ()


def test_no_secret_gets_into_the_archive(tmp_path: Path) -> None:
    stages = example_stages()
    stages["prepare"] = make_notebook(
        f"x = '{SECRET}'",
        title="Leaks",
        parameters='url: str = ""  # where',
        inputs=["raw.csv"],
        outputs=["table.csv"],
    )
    files = {"data/token": f"{SECRET}\n"}
    project = make_project(tmp_path, stages, {"dev": SECRETS}, files)

    def leak(context: Context) -> Any:
        write_outputs(context)
        assert Path(context.secrets["TOKEN"].file).read_text().strip() == SECRET
        leave_check(context, "table.csv", errors=(f"cannot read {SECRET}",))
        raise ValueError(f"no answer from {SECRET}")

    engine = act(leak)
    workbench = make_workbench(project, engine)
    failed = execute(workbench, parameters={"url": f"https://u:{SECRET}@host"})
    engine.acts["prepare"] = lambda context: {**write_outputs(context), "token": SECRET, SECRET: 1}
    succeeded = execute(workbench, parameters={"url": SECRET})
    assert failed.failure == Failure("ValueError", "no answer from [secret TOKEN]", 0)
    assert failed.parameters[0].value == "https://u:[secret TOKEN]@host"
    assert succeeded.metrics == {"token": "[secret TOKEN]", "[secret TOKEN]": 1}
    assert engine.jobs[-1].parameters == {"url": SECRET}, "the notebook itself gets the value"
    sources = succeeded.code.bundle_sha256  # what the author wrote into the sources is not the record's to hide
    for name, data in files_below(workbench.archive.folder).items():
        assert SECRET.encode() not in data or name.replace("/", "").endswith(sources), name
    assert b"[secret TOKEN]" in (workbench.archive.record_folder(failed.id) / "source.ipynb").read_bytes()


def test_secret_that_is_too_short_to_hide_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"dev": SECRETS}, files={"data/token": "abc"})
    workbench = make_workbench(project)
    with pytest.raises(UsageError, match="has 3 characters"):
        execute(workbench)
    assert workbench.archive.list_ids() == []


def test_scratch_survives_a_failure_and_is_removed_on_success(tmp_path: Path) -> None:
    found: list[bool] = []

    def attempt(context: Context) -> Any:
        kept = Path(context.scratch) / "epoch-1"
        found.append(kept.exists())
        kept.touch()
        if len(found) == 1:
            raise RuntimeError("the first attempt fails")
        return write_outputs(context)

    workbench = make_workbench(make_project(tmp_path), act(attempt))
    statuses = [execute(workbench).status for _ in range(3)]
    assert statuses == [Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED]
    assert found == [False, True, False]


def test_same_work_at_the_same_time_has_a_scratch_of_its_own(tmp_path: Path) -> None:
    project, found = make_project(tmp_path), list[Path]()

    def train(context: Context) -> None:
        found.append(Path(context.scratch))
        if len(found) == 1:
            (found[0] / "mine").write_text("first")
            other = make_workbench(project, FakeEngine(train=train))
            assert execute_plan(other, plan_stage(other, Order("train", "dev"))).succeeded
            assert (found[0] / "mine").read_text() == "first"
        write_outputs(context)

    workbench = make_workbench(project, FakeEngine(train=train))
    execute(workbench, "prepare")
    assert execute(workbench, "train").succeeded
    assert found[0] != found[1]
    assert not any(folder.exists() for folder in found)


def test_other_parameters_get_another_scratch(tmp_path: Path) -> None:
    found: list[str] = []
    workbench = make_workbench(make_project(tmp_path), FakeEngine(train=lambda context: found.append(context.scratch)))
    execute_plan(workbench, plan_stage(workbench, Order("prepare", "dev")))
    for epochs in ("1", "1", "2"):
        execute(workbench, "train", parameters={"epochs": epochs})
    assert found[0] == found[1] != found[2]


def test_abandoned_workspaces_are_removed_and_living_ones_kept(tmp_path: Path) -> None:
    living, dead = (create_workspace(tmp_path / name).folder for name in ("living", "dead"))
    (dead / "owner").write_text("1 0")
    (dead / "source/file").write_text("x")
    (dead / "source").chmod(0o500)
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [living]


def test_workspace_of_another_machine_on_the_same_disk_is_kept_for_a_month(tmp_path: Path) -> None:
    new, old = (create_workspace(tmp_path / name).folder for name in ("new", "old"))
    for folder in (new, old):
        (folder / "owner").write_text("4194304 1 elsewhere")
    os.utime(old / "owner", (0.0, 0.0))
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


BUILD_POLICY = DATA + '[policy]\ncode = "build"\n'


def test_build_policy_refuses_uncommitted_sources_and_work_without_a_build(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"ci": BUILD_POLICY})
    workbench = make_workbench(project)
    with pytest.raises(PolicyError, match="there is no commit"):
        execute(workbench, "build", environment="ci")
    commit_all(project)
    with pytest.raises(PolicyError, match="no succeeded build"):
        execute(workbench, "prepare", environment="ci")
    notebook = project.root / "notebooks/train.ipynb"
    text = notebook.read_text()
    notebook.write_text(text.replace("# Train", "# Trains"))
    with pytest.raises(PolicyError, match=r"differ from the commit: notebooks/train\.ipynb"):
        execute(workbench, "build", environment="ci")
    assert workbench.archive.list_ids() == []


def test_build_policy_executes_the_built_sources_whatever_the_tree_has_become(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"ci": BUILD_POLICY})
    commit = commit_all(project)
    workbench = make_workbench(project)
    build = execute(workbench, "build", environment="ci")
    (project.root / "notebooks/helper.py").write_text("changed = True\n")
    record = execute(workbench, "prepare", environment="ci")
    assert record.code == msgspec.structs.replace(
        record.code, bundle_sha256=build.outputs[0].sha256, commit=commit, dirty=False, build=build.id
    )


def test_what_cannot_be_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, environments={"dev": DATA, "bare": "", "broken": '[data]\n"raw.csv" = "gone.csv"\n'}
    )
    workbench = make_workbench(project)
    cases: list[tuple[Order, type[Exception], str]] = [
        (Order("prepar", "dev"), UnknownNameError, "did you mean 'prepare'"),
        (Order("prepare", "dve"), UnknownNameError, "did you mean 'dev'"),
        (Order("prepare", "bare"), GraphError, r"'raw\.csv' of stage 'prepare'.*unbound.*environments/bare\.toml"),
        (Order("prepare", "broken"), NotFoundError, r"binds it to 'gone\.csv'"),
        (Order("train", "dev"), NotFoundError, "kit prepare --env dev"),
        (Order("train", "dev", {"epoch": "1"}), UnknownNameError, "did you mean 'epochs'"),
        (Order("train", "dev", {"epochs": "many"}), ParameterError, "must be int, found 'many'"),
        (Order("prepare", "dev", inputs={"raw": "x"}), UnknownNameError, r"did you mean 'raw\.csv'"),
    ]
    for order, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            plan_stage(workbench, order)
    assert workbench.archive.list_ids() == []


def test_named_record_or_path_is_read_instead_of_the_newest(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path, files={"data/other.csv": "x\n3\n"}))
    first, second = execute(workbench), execute(workbench)
    assert execute(workbench, "train").inputs[0].record == second.id
    assert execute(workbench, "train", inputs={"table.csv": first.id[-6:]}).inputs[0].record == first.id
    (other,) = execute(workbench, inputs={"raw.csv": "data/other.csv"}).inputs
    assert (other.source, other.artifact.size_bytes) == ("data/other.csv", 4)
    failed = execute(make_workbench(workbench.project, act(lambda context: None)))
    with pytest.raises(UsageError, match="is failed; only a succeeded"):
        execute(workbench, "train", inputs={"table.csv": failed.id})


def test_killed_record_shows_what_its_journal_has(tmp_path: Path) -> None:
    archive = make_workbench(make_project(tmp_path)).archive
    started = msgspec.structs.replace(make_record(), status=Status.STARTED, ended=None)
    opened = archive.open_record(started, {"source.ipynb": json.dumps(make_notebook("print(1)")).encode()})
    assert read_notebook_of(started, archive)["cells"][0]["outputs"] == []
    notebook = make_notebook("print(1)", "1/0")
    outcome = {"index": 0, "id": "cell-0", "status": "succeeded", "execution_count": 1, "duration_s": 0.1}
    lines: list[dict[str, Any]] = [
        {"kind": "header", "format": 1, "budget_bytes": 100, "notebook": notebook},
        {"kind": "cell-start", "cell": 0},
        {"kind": "output", "cell": 0, "output": {"output_type": "stream", "name": "stdout", "text": "1\n"}},
        {"kind": "cell-end", "outcome": outcome},
        {"kind": "cell-start", "cell": 1},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (opened.folder / "journal.jsonl").write_text(text + '{"kind": "outp')
    assert read_notebook_of(started, archive)["cells"][0]["outputs"][0]["text"] == "1\n"
    cells = complete_record(started, archive).cells
    assert [cell.status for cell in cells] == [CellStatus.SUCCEEDED, CellStatus.RUNNING]


def test_imported_record_is_an_input_only_if_it_is_named(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path))
    prepared = execute(workbench)
    elsewhere = dataclasses.replace(workbench, archive=Archive(workbench.archive.folder, "kit/other/0123456789abcdef"))
    imported = execute(elsewhere)
    assert (workbench.archive.is_imported(prepared), workbench.archive.is_imported(imported)) == (False, True)
    assert [each.record for each in execute(workbench, "train").inputs] == [prepared.id]
    named = execute(workbench, "train", inputs={"table.csv": imported.id})
    assert [each.record for each in named.inputs] == [imported.id]
    assert "executed for another archive" in describe_signature(workbench.archive, imported.id)
