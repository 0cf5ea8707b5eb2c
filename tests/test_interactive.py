"""A stage opened in JupyterLab: `dev` inputs, scratch outputs, and nothing recorded."""

from pathlib import Path

import pytest
from probes import GOOD

from kit.bundle import make_bundle
from kit.errors import NotFoundError, UsageError
from kit.execute import Order, execute_plan, plan_stage
from kit.project import Project
from kit.release import cut_release, plan_release
from kit.session import open_stage
from kit.testing import DATA, make_project, make_workbench
from kit.workspace import CONTEXT_VARIABLE

RELEASING = DATA + '[release]\nfrom = "dev"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = make_project(tmp_path, environments={"dev": RELEASING})
    monkeypatch.delenv(CONTEXT_VARIABLE, raising=False)
    monkeypatch.chdir(project.root / "notebooks")
    return project


def archived(project: Project) -> set[str]:
    return {path.relative_to(project.archive).as_posix() for path in project.archive.rglob("*")}


def test_stage_opens_on_dev_and_says_that_it_is_not_recorded(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = open_stage(inputs=["raw.csv"], outputs=["table.csv"])
    assert stage.inputs["raw.csv"].read_text() == "x\n1\n2\n"
    stage.outputs["table.csv"].write_text("y\n")
    (stage.scratch / "epoch-1").touch()
    assert stage.outputs["table.csv"].is_relative_to(project.scratch)
    assert "interactive: not recorded" in repr(stage)
    assert "stage 'prepare', environment 'dev'; interactive: not recorded" in capsys.readouterr().err
    assert not project.archive.exists()
    stage = open_stage(inputs=["raw.csv"], outputs=["table.csv"])
    assert not stage.outputs["table.csv"].exists(), "each opening starts empty"
    assert not any(stage.scratch.iterdir()), "no key tells whose files these would be"


def test_input_is_a_copy_of_the_newest_good_record(project: Project) -> None:
    with pytest.raises(NotFoundError, match="kit prepare --env dev"):
        open_stage(inputs=["table.csv"], outputs=["saved_model", "golden.json"])
    workbench = make_workbench(project)
    execute_plan(workbench, plan_stage(workbench, Order("prepare", "dev")))
    before = archived(project)
    stage = open_stage(inputs=["table.csv"], outputs=["saved_model", "golden.json"])
    stage.inputs["table.csv"].write_text("spoilt")
    assert archived(project) == before
    again = open_stage(inputs=["table.csv"], outputs=["saved_model", "golden.json"])
    assert again.inputs["table.csv"].read_text() == "table.csv of prepare\n"


def test_signature_that_no_saved_notebook_has_is_refused(project: Project) -> None:
    with pytest.raises(UsageError, match="save the notebook"):
        open_stage(inputs=["raw.csv"], outputs=["other.csv"])


def test_run_opens_the_live_release(project: Project) -> None:
    with pytest.raises(NotFoundError, match="nothing is live"):
        open_stage(inputs=["release.json", "raw.csv"], outputs=["answers.csv"])
    workbench = make_workbench(project)
    for name in ("build", "prepare", "train"):
        execute_plan(workbench, plan_stage(workbench, Order(name, "dev")))
    plan = plan_release(workbench, Order("release", "dev"), GOOD)
    cut_release(workbench, plan)
    before = archived(project)
    for _ in range(2):
        stage = open_stage(inputs=["release.json", "raw.csv"], outputs=["answers.csv"])
        assert stage.release.id == "dev-1"
        assert stage.release.artifact("golden.json").read_text() == "golden.json of train\n"
    assert archived(project) == before


def test_build_has_a_bundle_of_the_working_tree(project: Project) -> None:
    stage = open_stage(inputs=[], outputs=["bundle.zip"])
    assert stage.bundle.read_bytes() == make_bundle(project, tracked_only=False).data
