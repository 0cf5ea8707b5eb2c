"""Cutting releases through a gate, and executing what is live."""

from pathlib import Path
from typing import Any

import pytest
from probes import GOOD

from kit.archive import VERDICT
from kit.errors import IntegrityError, NotFoundError, PolicyError, UsageError
from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.files import sha256_bytes
from kit.gate import Manifest, Release
from kit.ledger import Kind
from kit.project import Project
from kit.record import Record, Status
from kit.release import cut_release, plan_release, plan_run
from kit.testing import DATA, START, FakeEngine, make_project, make_workbench, write_outputs
from kit.workspace import Context

GATED = DATA + '[settings]\nbatch = 10\n[gates]\nmetrics.auc = {{ min = 0.6, max = 0.8 }}\n[release]\nfrom = "{0}"\n'
ENVIRONMENTS = {"dev": DATA, "staging": GATED.format("dev")}


def train(context: Context) -> dict[str, Any]:
    return {**write_outputs(context), "auc": 0.7}


def make_trained(folder: Path, **acts: Any) -> Workbench:
    """A project that was built, prepared and trained in `dev`."""
    workbench = make_workbench(make_project(folder, environments=ENVIRONMENTS), FakeEngine(**{"train": train, **acts}))
    for stage in ("build", "prepare", "train"):
        assert execute_plan(workbench, plan_stage(workbench, Order(stage, "dev"))).succeeded
    return workbench


def release(workbench: Workbench, **order: Any) -> tuple[Record, Release | None]:
    return cut_release(workbench, plan_release(workbench, Order("release", "staging", **order), GOOD))


def run(workbench: Workbench, release_id: str = "") -> Record:
    return execute_plan(workbench, plan_run(workbench, Order("run", "staging"), release_id))


def change_environment(project: Project, text: str) -> None:
    (project.environments / "staging.toml").write_text(text)


def test_release_pins_bundle_artifacts_configuration_and_verdict_under_the_next_number(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path)
    record, first = release(workbench)
    _, second = release(workbench)
    assert first is not None
    assert second is not None
    assert (first.id, second.id) == ("staging-1", "staging-2")
    trained = workbench.archive.newest(lambda each: each.stage == "train")
    assert trained is not None
    environment = workbench.project.read_environment("staging")
    manifest = workbench.archive.read_manifest(first)
    assert manifest == Manifest(
        environment="staging",
        bundle_sha256=trained.code.bundle_sha256,
        commit=None,
        training_record=trained.id,
        artifacts=trained.outputs,
        lock_sha256=None,
        configuration=environment.configuration,
        configuration_sha256=environment.sha256,
        metrics={"auc": 0.7},
        verdict=manifest.verdict,
        python=trained.machine.python,
    )
    assert manifest.verdict.passed
    assert record.output("release.json") is not None
    assert first.record == record.id
    assert record.code.bundle_sha256 == manifest.bundle_sha256


def test_refused_release_keeps_its_record_and_has_no_number(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path, train=lambda context: {**write_outputs(context), "auc": 0.93})
    record, cut = release(workbench)
    assert cut is None
    assert record.status is Status.FAILED
    assert workbench.archive.read_record(record.id) == record
    assert workbench.archive.list_releases() == []


def test_notebook_cannot_admit_what_the_gate_refused_nor_write_another_release(tmp_path: Path) -> None:
    def forge(context: Context) -> None:
        Path(context.outputs["release.json"]).write_bytes(b"{}")

    workbench = make_trained(tmp_path, release=forge)
    record, cut = release(workbench)
    assert cut is None
    assert record.failure is not None
    assert record.failure.kind == "ReleaseDiffers"
    change_environment(workbench.project, GATED.format("dev").replace("min = 0.6", "min = 0.75"))
    record, cut = release(workbench)
    assert cut is None
    assert record.failure is not None
    assert (record.failure.kind, "below the limit" in record.failure.message) == ("GateRefused", True)


def test_named_training_is_released_instead_of_the_newest(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path)
    first = workbench.archive.newest(lambda each: each.stage == "train")
    assert first is not None
    execute_plan(workbench, plan_stage(workbench, Order("train", "dev", {"epochs": "9"})))
    plan = plan_release(workbench, Order("release", "staging", inputs={"saved_model": first.id}), GOOD)
    assert plan.gate is not None
    assert plan.gate.manifest is not None
    assert plan.gate.manifest.training_record == first.id
    with pytest.raises(UsageError, match="name one record"):
        plan_release(workbench, Order("release", "staging", inputs={"saved_model": first.id, "x": "y"}), GOOD)


def test_environment_without_release_table_or_without_training_takes_no_release(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path, environments=ENVIRONMENTS))
    with pytest.raises(PolicyError, match=r"\[release\] with from"):
        plan_release(workbench, Order("release", "dev"), GOOD)
    with pytest.raises(NotFoundError, match="run `kit train --env dev` first"):
        plan_release(workbench, Order("release", "staging"), GOOD)


def test_bundle_that_was_never_built_is_refused_with_a_record(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path, environments=ENVIRONMENTS), FakeEngine(train=train))
    for stage in ("prepare", "train"):
        execute_plan(workbench, plan_stage(workbench, Order(stage, "dev")))
    plan = plan_release(workbench, Order("release", "staging"), GOOD)
    record, cut = cut_release(workbench, plan)
    assert plan.gate is not None
    assert cut is None
    assert record.status is Status.FAILED
    assert any("no succeeded build made" in reason for reason in plan.gate.verdict.reasons)


def test_run_executes_the_release_and_nothing_else(tmp_path: Path) -> None:
    seen: list[Context] = []

    def answer(context: Context) -> dict[str, Any]:
        seen.append(context)
        assert context.release is not None
        model = Path(context.release.folder) / "saved_model"
        assert model.read_text() == "saved_model of train\n"
        assert not (Path(context.root) / "notebooks/later.py").exists()
        return write_outputs(context)

    workbench = make_trained(tmp_path, run=answer)
    _, cut = release(workbench)
    assert cut is not None
    (workbench.project.root / "notebooks/later.py").write_text("x = 1\n")
    notebook = workbench.project.root / "notebooks/run.ipynb"
    notebook.write_text(notebook.read_text().replace("# Run", "# Ran"))
    execute_plan(workbench, plan_stage(workbench, Order("train", "dev", {"epochs": "9"})))
    record = run(workbench)
    assert (record.status, record.release, record.environment) == (Status.SUCCEEDED, "staging-1", "staging")
    manifest = workbench.archive.read_manifest(cut)
    assert record.code.bundle_sha256 == manifest.bundle_sha256
    assert [each.artifact.sha256 for each in record.inputs][:1] == [cut.manifest_sha256]
    assert seen[0].settings == {"batch": 10}
    assert seen[0].release is not None
    assert seen[0].release.manifest == manifest


def test_named_release_runs_and_a_wrong_name_does_not(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path)
    release(workbench)
    release(workbench)
    assert run(workbench).release == "staging-2"
    assert run(workbench, "staging-1").release == "staging-1"
    with pytest.raises(NotFoundError, match="'staging-3' does not exist"):
        run(workbench, "staging-3")
    with pytest.raises(UsageError, match="--release staging-N, not with --input"):
        plan_run(workbench, Order("run", "staging", inputs={"release.json": "x"}))


def test_nothing_live_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match="nothing is live in environment 'staging'; run `kit release --env staging`"
    ):
        run(make_trained(tmp_path))


def test_environment_file_that_is_no_longer_what_was_released_is_refused(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path)
    release(workbench)
    change_environment(workbench.project, GATED.format("dev").replace("batch = 10", "batch = 20"))
    n_records = len(workbench.archive.list_ids())
    with pytest.raises(PolicyError, match=r"staging\.toml differs from what staging-1 froze, in: settings"):
        run(workbench)
    assert len(workbench.archive.list_ids()) == n_records


def test_changed_byte_of_the_released_model_is_never_executed(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path, run=lambda context: pytest.fail("executed"))
    _, cut = release(workbench)
    assert cut is not None
    model = workbench.archive.read_manifest(cut).artifact("saved_model")
    assert model is not None
    path = workbench.archive.objects.path(model.sha256)
    path.chmod(0o644)
    path.write_bytes(b"another model")
    n_records = len(workbench.archive.list_ids())
    with pytest.raises(IntegrityError, match="artifact 'saved_model' in the archive: expected"):
        run(workbench)
    assert len(workbench.archive.list_ids()) == n_records


def test_release_of_another_environment_never_runs_here_whatever_the_ledger_says(tmp_path: Path) -> None:
    workbench = make_trained(tmp_path)
    record, _ = release(workbench)
    verdict = workbench.archive.read_envelope(record.id, VERDICT)
    who, sha256 = "mallory@laptop", sha256_bytes(verdict.encode())
    workbench.archive.ledger.append(Kind.RELEASE, record.id, sha256, who, START, "dev")
    with pytest.raises(IntegrityError, match=r"dev-1: record .* did not cut it for 'dev'"):
        plan_run(workbench, Order("run", "dev"))
