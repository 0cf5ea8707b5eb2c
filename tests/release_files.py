"""Releases of a small project as files, for tests; nothing here starts a kernel."""

from pathlib import Path
from typing import Any

from probes import GOOD

from kit.archive import Archive
from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.gate import Release
from kit.release import cut_release, plan_release
from kit.release.export import export_release
from kit.signing import SigningKey
from kit.testing import DATA, FakeEngine, example_stages, make_project, make_workbench
from kit.workspace import Context

STAGING = DATA + '[parameters.run]\nlimit = 2\n[settings]\nbatch = 10\n[release]\nfrom = "dev"\n'
SIGNED = "[policy]\nsigned = true\n"


def train(context: Context) -> dict[str, Any]:
    folder = Path(context.outputs["saved_model"])
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "weights").write_text("0.5" * 100)
    (folder / "graph.pb").write_bytes(b"\0" * 50)
    Path(context.outputs["golden.json"]).write_text("[]")
    return {"auc": 0.7}


def make_released(folder: Path, text: str = STAGING, key: SigningKey | None = None, **more: Any) -> Workbench:
    """A project whose `staging-1` is live."""
    stages = example_stages()
    stages["run"]["cells"][1]["source"] = "limit: int = 1  # rows at most\nkeys: str = ''  # a name that kit has too"
    project = make_project(folder, more.pop("stages", stages), {"dev": DATA, "staging": text}, **more)
    workbench = make_workbench(project, FakeEngine(train=train), key=key)
    for stage in ("build", "prepare", "train"):
        assert execute_plan(workbench, plan_stage(workbench, Order(stage, "dev"))).succeeded
    plan = plan_release(workbench, Order("release", "staging"), GOOD)
    assert cut_release(workbench, plan)[1] is not None
    return workbench


def find_released(archive: Archive) -> Release:
    release = archive.find_release("staging-1")
    assert release is not None
    return release


def export(workbench: Workbench, target: Path) -> Path:
    export_release(workbench.archive, find_released(workbench.archive), target, "example")
    return target
