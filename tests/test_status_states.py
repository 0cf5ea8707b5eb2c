"""How stages stand besides being up to date or stale, what is live among them, and what `kit status` prints."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import Kit
from lives import STAGING, Life, change
from probes import GOOD, write_model

from kit.archive import Archive
from kit.check import CheckResult
from kit.execute import Order, Workbench, plan_stage
from kit.execute.surroundings import look_around
from kit.expectations import CheckRequest
from kit.files import sha256_file
from kit.pipeline import execute_all, execute_stage
from kit.record import Failure, Status
from kit.release import give_waiver, judge_release, judge_run, roll_back
from kit.status import StageStatus, State, read_overview
from kit.status.explain import explain_change
from kit.testing import (
    DATA,
    START,
    FakeClock,
    FakeEngine,
    commit_all,
    encode_notebook,
    example_stages,
    leave_check,
    make_check,
    make_project,
    make_record,
    make_workbench,
    write_outputs,
)
from kit.workspace import Context


def look(workbench: Workbench, environment: str = "dev") -> dict[str, StageStatus]:
    return {each.stage: each for each in read_overview(workbench, environment).stages}


def states(workbench: Workbench, environment: str = "dev") -> dict[str, str]:
    return {name: each.state.value for name, each in look(workbench, environment).items()}


def bring_up(workbench: Workbench, environment: str = "dev") -> dict[str, bool]:
    """Stage -> True if it was executed."""
    steps = execute_all(workbench, environment, GOOD, reuse=True)
    return {step.record.stage: not step.reused for step in steps}


def test_without_an_archive_nothing_ever_was(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    workbench = Workbench(project, Archive(project.archive), FakeEngine())
    found = look(workbench)
    assert {name: each.state for name, each in found.items()} == dict.fromkeys(
        ["build", "prepare", "train"], State.NEVER
    )
    assert not project.archive.exists()
    assert "run `kit prepare --env dev` first" in str(found["train"].reasons[0])


def test_failed_stage_says_cell_and_error_until_its_code_changes(tmp_path: Path) -> None:
    def fail(context: Context) -> None:
        raise ValueError("no rows")

    project = make_project(tmp_path)
    list(execute_all(make_workbench(project, FakeEngine(prepare=fail)), "dev"))
    prepare = look(make_workbench(project))["prepare"]
    assert (prepare.state, prepare.failure) == (State.FAILED, Failure("ValueError", "no rows", 0))
    assert prepare.latest != prepare.record == ""
    (project.root / "data/raw.csv").write_text("x\n9\n", encoding="utf-8")
    assert states(make_workbench(project))["prepare"] == "never"
    assert bring_up(make_workbench(project)) == {"build": False, "prepare": True, "train": True}


def test_failure_after_a_success_of_other_parameters_is_told(tmp_path: Path) -> None:
    def fail(context: Context) -> None:
        raise ValueError("no")

    project = make_project(tmp_path)
    bring_up(make_workbench(project))
    change(project, "dev", DATA + "[parameters.train]\nepochs = 9\n")
    list(
        execute_all(make_workbench(project, FakeEngine(train=fail), FakeClock(START + timedelta(1))), "dev", reuse=True)
    )
    train = look(make_workbench(project))["train"]
    assert (train.state, str(train.reasons[0])) == (State.FAILED, "parameter epochs: 3 → 9 (environment)")


def test_running_stage_says_so(tmp_path: Path) -> None:
    seen: list[str] = []

    def watch(context: Context) -> dict[str, Any]:
        seen.append(states(make_workbench(project))["prepare"])
        return write_outputs(context)

    project = make_project(tmp_path)
    execute_stage(make_workbench(project, FakeEngine(prepare=watch)), Order("prepare", "dev"))
    assert seen == ["running"]


def test_killed_execution_has_failed(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    workbench = make_workbench(project)
    execute_stage(workbench, Order("build", "dev"))
    key = workbench.archive.newest_of("build", "dev").key
    gone = make_record(stage="build", key=key, started=START + timedelta(1), status=Status.STARTED, ended=None)
    gone = msgspec.structs.replace(gone, process=msgspec.structs.replace(gone.process, mark="other"))
    gone = msgspec.structs.replace(gone, machine=msgspec.structs.replace(gone.machine, host=_host()))
    workbench.archive.open_record(gone, {})
    assert look(workbench)["build"].state is State.UP_TO_DATE  # what is there still says what an execution would say
    (project.root / "README.md").write_text("new", encoding="utf-8")
    stale = look(workbench)["build"]
    assert (stale.state, stale.latest) == (State.STALE, gone.id)


def _host() -> str:
    import socket

    return socket.gethostname()


def test_missing_data_and_broken_cells_are_told(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    bring_up(make_workbench(project))
    (project.root / "data/raw.csv").unlink()
    found = look(make_workbench(project))
    assert (found["prepare"].state, found["train"].state) == (State.BLOCKED, State.STALE)
    assert "there is no such file or folder" in str(found["prepare"].reasons[0])
    notebook = example_stages()["train"]
    notebook["cells"].append({**notebook["cells"][2], "id": "more", "source": "this is no Python"})
    (project.root / "notebooks/train.ipynb").write_bytes(encode_notebook(notebook))
    (project.root / "data/raw.csv").write_text("x\n1\n2\n", encoding="utf-8")
    (cell, *_) = look(make_workbench(project))["train"].reasons
    assert (str(cell), cell.lines) == ("cell 4: is new", ("+ this is no Python",))


def test_same_bytes_from_a_stage_that_is_executed_again_leave_the_next_one_up_to_date(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    bring_up(make_workbench(project))
    (project.root / "data/raw.csv").write_text("x\n9\n", encoding="utf-8")
    assert states(make_workbench(project)) == {"build": "up to date", "prepare": "stale", "train": "stale"}
    assert bring_up(make_workbench(project)) == {"build": False, "prepare": True, "train": False}
    assert read_overview(make_workbench(project), "dev").is_up_to_date


def test_where_only_builds_execute_a_stale_build_makes_the_others_stale_by_what_it_would_make(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"ci": DATA + '[policy]\ncode = "build"\n'})
    commit_all(project)
    assert bring_up(make_workbench(project), "ci") == {"build": True, "prepare": True, "train": True}
    assert bring_up(make_workbench(project), "ci") == {"build": False, "prepare": False, "train": False}
    notebook = example_stages()["train"]
    notebook["cells"].append({**notebook["cells"][2], "id": "more", "source": "x = 1"})
    (project.root / "notebooks/train.ipynb").write_bytes(encode_notebook(notebook))
    blocked = look(make_workbench(project), "ci")
    assert [each.state.value for each in blocked.values()] == ["blocked", "up to date", "up to date"]
    assert "commit first" in str(blocked["build"].reasons[0])
    commit_all(project)
    assert states(make_workbench(project), "ci") == {"build": "stale", "prepare": "up to date", "train": "stale"}
    assert bring_up(make_workbench(project), "ci") == {"build": True, "prepare": False, "train": True}


def test_commit_of_the_same_sources_makes_a_build_and_nothing_else(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"ci": DATA + '[policy]\ncode = "build"\n'})
    commit_all(project)
    bring_up(make_workbench(project), "ci")
    (project.root / "README.md").write_text("new", encoding="utf-8")
    commit_all(project)
    assert str(look(make_workbench(project), "ci")["build"].reasons[0]).startswith("file README.md")
    assert bring_up(make_workbench(project), "ci") == {"build": True, "prepare": False, "train": False}


def _reasons(life: Life, environment: str, stage: str = "release") -> tuple[str, ...]:
    judge = judge_release if stage == "release" else judge_run
    standing = judge(life.bench, Order(stage, environment))
    assert standing.is_current is (not standing.reasons)
    return standing.reasons


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """Something is live in staging, and was run."""
    made = Life(tmp_path)
    made.train()
    made.release()
    execute_stage(made.bench, Order("run", "staging"))
    return made


def test_what_is_live_is_up_to_date_until_something_is_trained(life: Life) -> None:
    assert _reasons(life, "staging") == _reasons(life, "staging", "run") == ()
    assert bring_up(life.bench, "staging") == {"release": False, "run": False}
    first = life.archive.newest_of("train", "dev")
    second = life.execute("train", epochs="9")
    assert _reasons(life, "staging") == (f"staging-1 was cut from {first.id}, now it is {second.id}",)
    assert states(life.bench, "staging") == {"release": "stale", "run": "stale"}
    assert bring_up(life.bench, "staging") == {"release": True, "run": True}
    assert bring_up(life.bench, "staging") == {"release": False, "run": False}


def test_rollback_is_told_and_makes_release_and_run_stale(life: Life) -> None:
    life.execute("train", epochs="9")
    life.release()
    roll_back(life.bench, "staging", "it answers badly")
    (reason,) = _reasons(life, "staging")
    assert reason.startswith("staging-1, live again by a rollback of 2026-03-01, was cut from")
    assert _reasons(life, "staging", "run") == ()  # the newest run is one of staging-1


def test_changed_limits_make_release_and_run_stale(life: Life) -> None:
    change(life.project, "staging", STAGING.replace("min = 0.6", "min = 0.65"))
    (reason,) = _reasons(life, "staging")
    assert (
        reason == "environments/staging.toml differs from what staging-1 froze, in: gates.metrics.auc.min: 0.6 -> 0.65"
    )
    assert _reasons(life, "staging", "run") == (reason,)


def test_changed_data_makes_a_run_stale(life: Life) -> None:
    (life.project.root / "data/raw.csv").write_text("x\n9\n", encoding="utf-8")
    run = look(life.bench, "staging")["run"]
    assert run.state is State.STALE
    assert [str(each).partition(": ")[0] for each in run.reasons] == ["input raw.csv"]
    assert bring_up(life.bench, "staging") == {"release": False, "run": True}


@pytest.mark.parametrize("name", ["saved_model", "golden.json"])
def test_damaged_model_is_not_up_to_date(life: Life, name: str) -> None:
    path = life.archive.objects.path(life.archive.newest_of("train", "dev").output(name).sha256)
    path.chmod(0o644)
    path.write_text("other", encoding="utf-8")
    for stage in ("release", "run"):
        assert f"'{name}' was changed in the archive" in _reasons(life, "staging", stage)[0]


def test_expired_waiver_is_not_up_to_date(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.train(auc=0.5)
    give_waiver(life.bench, "staging", "metric:auc", "a first try", START.date())
    life.release()
    execute_stage(life.bench, Order("run", "staging"))
    assert bring_up(life.bench, "staging") == {"release": False, "run": False}
    life.wait(days=2)
    assert "metric:auc" in _reasons(life, "staging")[0]
    assert "metric:auc" in _reasons(life, "staging", "run")[0]


def test_promotion_is_up_to_date_and_only_its_run_is_brought_up(life: Life) -> None:
    life.promote("staging-1")
    assert bring_up(life.bench, "production") == {"run": True}
    assert bring_up(life.bench, "production") == {"run": False}
    assert states(life.bench, "production") == {"run": "up to date"}


def test_nothing_live_is_told(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert states(life.bench, "production") == {"run": "never"}
    life.train()
    assert states(life.bench, "staging") == {"release": "never", "run": "never"}


def test_release_whose_gate_judged_other_data_is_not_up_to_date(tmp_path: Path) -> None:
    expectation = {
        "type": "expect_table_row_count_to_be_between",
        "kwargs": {"min_value": 1},
        "meta": {"why": "there must be rows"},
    }
    life = Life(tmp_path)
    engine = FakeEngine(prepare=_check_raw, run=_check_raw, train=lambda context: write_model(context, 0.7))
    life.bench = dataclasses.replace(life.bench, engine=engine)
    suites = life.project.root / "notebooks/expectations"
    suites.mkdir()
    (suites / "raw.json").write_text(json.dumps({"name": "raw", "expectations": [expectation]}), encoding="utf-8")
    life.train()
    probes = dataclasses.replace(GOOD, check=_pass_all)
    step = execute_stage(life.bench, Order("release", "staging"), probes=probes)
    assert step.reasons == ()
    assert _reasons(life, "staging") == ()
    (life.project.root / "data/raw.csv").write_text("x\n9\n", encoding="utf-8")
    (reason,) = _reasons(life, "staging")
    assert reason.startswith("bound data 'raw.csv': ")


def _check_raw(context: Context) -> dict[str, Any]:
    leave_check(context, "raw.csv", suite_sha256=sha256_file(Path(context.root) / "notebooks/expectations/raw.json"))
    return write_outputs(context)


def _pass_all(requests: Sequence[CheckRequest]) -> list[CheckResult]:
    return [make_check(each.name, each.sha256 or "", suite_sha256=sha256_file(Path(each.suite))) for each in requests]


def test_explicit_release_and_run_always_happen(life: Life) -> None:
    again = execute_stage(life.bench, Order("release", "staging", reuse=True), probes=GOOD)
    assert (again.reused, again.release.id) == (False, "staging-2")
    assert not execute_stage(life.bench, Order("run", "staging", reuse=True)).reused


def test_packages_python_and_kit_are_told_with_both_versions(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path, files={"requirements.lock": "msgspec\n"}))
    record = execute_stage(workbench, Order("prepare", "dev")).record
    plan = plan_stage(workbench, Order("prepare", "dev"))
    assert plan.parts is not None
    installed = {**look_around().packages, "msgspec": "99", "click": "99"}
    kit = {**plan.parts.kit, "version": "99"}
    other = {"packages": "other", "python": "CPython 9.9.9", "kit": kit, "variables": {"KERAS_BACKEND": "jax"}}
    changed = dataclasses.replace(plan, key="other", parts=msgspec.structs.replace(plan.parts, **other))
    told = [str(each) for each in explain_change(workbench.archive, record, changed, "requirements.lock", installed)]
    assert told == [
        f"package msgspec: {look_around().packages['msgspec']} → 99",
        f"python: {plan.parts.python} → CPython 9.9.9",
        f"kit version: {plan.parts.kit['version']} → 99",
        "variable KERAS_BACKEND: nothing → jax",
    ]


def test_what_the_archive_cannot_tell_is_said(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path))
    record = execute_stage(workbench, Order("prepare", "dev")).record
    plan = dataclasses.replace(plan_stage(workbench, Order("prepare", "dev")), key="other")
    (reason,) = explain_change(workbench.archive, record, plan, "requirements.lock", look_around().packages)
    assert str(reason) == f"record {record.id}: has another key, and the archive does not tell why"
    bundle = workbench.archive.objects.path(record.code.bundle_sha256)
    bundle.unlink()
    (reason,) = explain_change(workbench.archive, record, plan, "requirements.lock", look_around().packages)
    assert "what it was made of cannot be read: the bundle of record" in str(reason)
    older = msgspec.structs.replace(record, key="")
    (reason,) = explain_change(workbench.archive, older, plan, "requirements.lock", look_around().packages)
    assert str(reason) == f"record {record.id}: has no key, an older kit made it"


def test_status_prints_a_table_and_why(kit: Kit) -> None:
    bring_up(make_workbench(kit.project))
    called = kit("status")
    assert called.code == 0
    assert [line.split()[:2] for line in called.out.splitlines()[2:]] == [
        ["build", "up"],
        ["prepare", "up"],
        ["train", "up"],
    ]
    change(kit.project, "dev", DATA + "[parameters.train]\nepochs = 9\n")
    called = kit("status")
    assert "train is stale:\n  parameter epochs: 3 → 9 (environment)" in called.out
    (_, _, train) = kit("status", "--json").json["stages"]
    assert (train["state"], train["reasons"][0]["before"], train["reasons"][0]["after"]) == ("stale", 3, 9)


def test_status_shows_a_short_difference_of_a_cell(kit: Kit) -> None:
    bring_up(make_workbench(kit.project))
    notebook = example_stages()["train"]
    notebook["cells"][2]["source"] += "\nx = 1"
    (kit.project.root / "notebooks/train.ipynb").write_bytes(encode_notebook(notebook))
    assert "  cell 3\n" in kit("status").out
    assert "      + x = 1\n" in kit("status").out


def test_status_of_a_broken_signature_is_one_sentence(kit: Kit) -> None:
    notebook = example_stages()["train"]
    notebook["cells"][1]["source"] = "epochs = f()"
    (kit.project.root / "notebooks/train.ipynb").write_bytes(encode_notebook(notebook))
    called = kit("status")
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("kit: notebooks/train.ipynb, cell 2")


def test_all_says_what_was_up_to_date(kit: Kit) -> None:
    bring_up(make_workbench(kit.project))
    called = kit("all")
    ids = kit.archive.list_ids()
    assert called.code == 0
    assert [line.split()[:4] for line in called.out.splitlines()[2:5]] == [
        [name, "up", "to", "date"] for name in ("build", "prepare", "train")
    ]
    assert [line for line in called.err.splitlines() if "up to date" in line] == [
        f"{name}: up to date: {each}" for name, each in zip(("build", "prepare", "train"), ids, strict=True)
    ]
    plain = kit("all", "--json").json
    assert (plain["reused"], [each["id"] for each in plain["records"]]) == (ids, ids)


def test_reports_are_made_only_if_something_is_new(kit: Kit) -> None:
    bring_up(make_workbench(kit.project))
    kit("all")
    index = kit.project.reports / "index.html"
    before = index.stat().st_mtime_ns
    kit("all")
    assert index.stat().st_mtime_ns == before
    execute_stage(make_workbench(kit.project), Order("prepare", "dev"))
    kit("all")
    assert index.stat().st_mtime_ns > before


def test_stage_that_is_up_to_date_says_so(kit: Kit) -> None:
    bring_up(make_workbench(kit.project))
    record = kit.archive.newest_of("prepare", "dev")
    called = kit("prepare")
    assert called.code == 0
    assert called.out.splitlines()[2].split() == ["prepare", "up", "to", "date", record.id]
    assert kit("prepare", "--json").json["reused"] is True
    assert len(kit.archive.list_ids()) == 3
