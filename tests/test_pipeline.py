"""Many stages in order, ending where one does not succeed."""

from pathlib import Path

import pytest
from probes import GOOD

from kit.environment import Environment, ReleasePolicy
from kit.execute import Order
from kit.pipeline import execute_all, execute_stage, stages_of
from kit.record import Status
from kit.testing import DATA, FakeEngine, commit_all, make_project, make_workbench, write_outputs

RELEASING = DATA + '[gates]\nmetrics.auc = { min = 0.6 }\n[release]\nfrom = "dev"\n'


def test_all_stages_end_with_a_release_and_a_run(tmp_path: Path) -> None:
    engine = FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.7})
    workbench = make_workbench(make_project(tmp_path, environments={"dev": RELEASING}), engine)
    steps = list(execute_all(workbench, "dev", GOOD))
    assert [step.record.stage for step in steps] == ["build", "prepare", "train", "release", "run"]
    assert {step.record.status for step in steps} == {Status.SUCCEEDED}
    assert [step.release.id for step in steps if step.release] == ["dev-1"]
    assert steps[-1].record.release == "dev-1"


def test_refusal_ends_it_with_the_reasons(tmp_path: Path) -> None:
    engine = FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.1})
    workbench = make_workbench(make_project(tmp_path, environments={"dev": RELEASING}), engine)
    *_, last = execute_all(workbench, "dev", GOOD)
    assert (last.record.stage, last.record.status, last.release) == ("release", Status.FAILED, None)
    assert last.reasons == ("metric auc: below the limit: 0.1, at least 0.6",)


def test_failed_stage_ends_it(tmp_path: Path) -> None:
    def fail(context: object) -> None:
        raise ValueError("no")

    workbench = make_workbench(make_project(tmp_path), FakeEngine(prepare=fail))
    steps = list(execute_all(workbench, "dev"))
    assert [(step.record.stage, step.record.succeeded) for step in steps] == [("build", True), ("prepare", False)]


@pytest.mark.parametrize(
    ("release_from", "expected"),
    [
        (None, ["build", "prepare", "train"]),
        ("dev", ["build", "prepare", "train", "release", "run"]),
        ("train", ["release", "run"]),
    ],
)
def test_environment_says_which_stages_it_needs(tmp_path: Path, release_from: str | None, expected: list[str]) -> None:
    environment = Environment(name="dev", release=ReleasePolicy(release_from) if release_from else None)
    assert stages_of(environment, make_project(tmp_path).read_graph()) == expected


def test_ci_builds_train_trains_staging_releases_and_runs_one_commit(tmp_path: Path) -> None:
    policy = '[policy]\ncode = "build"\n'
    gated = DATA + '[gates]\nmetrics.auc = { min = 0.6 }\n[release]\nfrom = "train"\n' + policy
    project = make_project(
        tmp_path, environments={"ci": DATA + policy, "train": DATA + policy, "staging": gated, "dev": DATA}
    )
    commit = commit_all(project)
    workbench = make_workbench(project, FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.7}))
    build = execute_stage(workbench, Order("build", "ci")).record
    for stage in ("prepare", "train"):
        assert execute_stage(workbench, Order(stage, "train")).record.code.build == build.id
    released, ran = execute_all(workbench, "staging", GOOD)
    assert released.reasons == ()
    assert released.release is not None
    manifest = workbench.archive.read_manifest(released.release)
    assert (manifest.commit, manifest.bundle_sha256) == (commit, build.outputs[0].sha256)
    assert (ran.record.release, ran.record.code.dirty, ran.record.code.build) == ("staging-1", False, build.id)


def test_training_of_the_working_tree_is_refused_where_only_builds_count(tmp_path: Path) -> None:
    staging = DATA + '[release]\nfrom = "dev"\n[policy]\ncode = "build"\n'
    workbench = make_workbench(make_project(tmp_path, environments={"dev": DATA, "staging": staging}))
    list(execute_all(workbench, "dev"))
    step = execute_stage(workbench, Order("release", "staging"), probes=GOOD)
    assert step.release is None
    assert any("not executed from a clean build's bundle" in reason for reason in step.reasons)
