"""A record stands for an execution only if it says what that would say, and nobody has touched it since."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.archive import STATEMENT
from kit.execute import Order, Workbench, plan_stage
from kit.execute.key import StageKey
from kit.execute.loose import digest_loose
from kit.execute.plan import with_parameters
from kit.execute.reuse import find_damage, find_reusable
from kit.execute.surroundings import choose_packages, look_around
from kit.parameter import ResolvedParameter, Source
from kit.pipeline import Step, execute_stage
from kit.project import Project, find_project
from kit.record import Record
from kit.testing import (
    DATA,
    FakeClock,
    FakeEngine,
    commit_all,
    make_key,
    make_notebook,
    make_project,
    make_workbench,
    write_outputs,
)
from kit.workspace import Context

NOTES: list[str] = []


def write_all(context: Context) -> dict[str, Any]:
    """Write the outputs; the model is a folder."""
    write_outputs(context)
    if "saved_model" in context.outputs:
        folder = Path(context.outputs["saved_model"])
        folder.unlink()
        (folder / "variables").mkdir(parents=True)
        (folder / "variables/data").write_text("weights", encoding="utf-8")
    return {}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def bench(project: Project, **more: Any) -> Workbench:
    NOTES.clear()
    made = make_workbench(find_project(project.root), more.pop("engine", FakeEngine(write_all)), FakeClock(), **more)
    return dataclasses.replace(made, notify=NOTES.append)


def execute(workbench: Workbench, stage: str = "prepare", environment: str = "dev", **order: Any) -> Step:
    return execute_stage(workbench, Order(stage, environment, **{"reuse": True, **order}))


def key_of(project: Project, stage: str = "train", **order: Any) -> str:
    return plan_stage(bench(project), Order(stage, "dev", **order), keep=False).key


def test_same_work_is_taken_and_leaves_nothing_new(project: Project) -> None:
    first = execute(bench(project))
    engine = FakeEngine()
    again = execute(bench(project, engine=engine))
    assert (again.record, again.reused) == (first.record, True)
    assert engine.jobs == []
    assert bench(project).archive.list_ids() == [first.record.id]


def test_without_reuse_it_is_executed(project: Project) -> None:
    first = execute(bench(project))
    second = execute(bench(project), reuse=False)
    assert second.record.id != first.record.id
    assert second.record.key == first.record.key != ""


def test_how_it_is_executed_does_not_matter(project: Project) -> None:
    first = execute(bench(project)).record
    assert execute(bench(project), start="cold", timeout_s=5.0).record == first


def test_failed_work_is_executed_again(project: Project) -> None:
    def fail(context: Context) -> None:
        raise ValueError("no")

    failed = execute(bench(project, engine=FakeEngine(prepare=fail)))
    again = execute(bench(project))
    assert (failed.record.succeeded, again.record.succeeded, again.reused) == (False, True, False)


def test_older_record_of_the_same_key_is_of_no_use_because_the_newest_is_read_downstream(project: Project) -> None:
    execute(bench(project))
    first = execute(bench(project), "train", parameters={"epochs": "5"}).record
    second = execute(bench(project), "train", parameters={"epochs": "6"}).record
    third = execute(bench(project), "train", parameters={"epochs": "5"})
    assert not third.reused
    assert third.record.key == first.key != second.key


def test_point_of_a_sweep_is_taken_wherever_it_is(project: Project) -> None:
    execute(bench(project))
    first = execute(bench(project), "train", parameters={"epochs": "5"}).record
    execute(bench(project), "train", parameters={"epochs": "6"})
    point = execute(bench(project), "train", parameters={"epochs": "5"}, sweep="0" * 64)
    assert (point.record, point.reused) == (first, True)


def test_points_key_is_that_of_a_plain_plan_with_these_values(project: Project) -> None:
    execute(bench(project))
    plan = plan_stage(bench(project), Order("train", "dev"))
    parameters = (ResolvedParameter("epochs", 5, Source.COMMAND_LINE, "int"), plan.parameters[1])
    other = with_parameters(plan, parameters)
    assert other.values == {"epochs": 5, "rate": 0.1}
    assert other.key == key_of(project, parameters={"epochs": "5"}) != plan.key


def _paths(record: Record, workbench: Workbench) -> dict[str, Path]:
    folder, objects = workbench.archive.record_folder(record.id), workbench.archive.objects
    model = record.output("saved_model")
    assert model is not None
    (entry,) = objects.read_tree(model).files
    golden = record.output("golden.json")
    assert golden is not None
    return {
        "record": folder / "record.json",
        "statement": folder / STATEMENT,
        "output": objects.path(golden.sha256),
        "tree": objects.path(model.sha256),
        "file in a folder": objects.path(entry.sha256),
        "notebook": folder / "executed.ipynb",
        "announcement": folder / "started.json",
        "bundle": objects.path(record.code.bundle_sha256),
        "configuration": objects.path(record.configuration_sha256),
        "input": objects.path(record.inputs[0].artifact.sha256),
    }


@pytest.mark.parametrize("how", ["changed", "removed"])
@pytest.mark.parametrize(
    "what",
    [
        "record", "statement", "notebook", "announcement", "output", "tree", "file in a folder", "bundle", "configuration",
        "input",
    ],
)  # fmt: skip
def test_record_that_was_touched_is_not_taken(project: Project, what: str, how: str) -> None:
    execute(bench(project))
    record = execute(bench(project), "train").record
    (project.root / "README.md").write_text("another bundle with the same key", encoding="utf-8")
    environment = project.environments / "dev.toml"
    environment.write_text(f'description = "another configuration"\n{environment.read_text(encoding="utf-8")}')
    path = _paths(record, bench(project))[what]
    path.chmod(0o644)
    path.parent.chmod(0o755)
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))
    plan = plan_stage(bench(project), Order("train", "dev"))
    assert find_reusable(bench(project), plan) is None


def test_what_a_plan_keeps_again_is_whole_again(project: Project) -> None:
    execute(bench(project))
    record = execute(bench(project), "train").record
    objects = bench(project).archive.objects
    for sha256 in (record.code.bundle_sha256, record.configuration_sha256):
        objects.path(sha256).chmod(0o644)
        objects.path(sha256).write_bytes(b"damaged")
    assert execute(bench(project), "train") == Step(record, reused=True)
    assert find_damage(bench(project).archive, record, bench(project).digests) == ""


def test_damaged_output_is_whole_again_once_it_was_made_again(project: Project) -> None:
    first = execute(bench(project)).record
    path = bench(project).archive.objects.path(first.outputs[0].sha256)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    second = execute(bench(project))
    assert (second.reused, second.record.outputs) == (False, first.outputs)
    assert execute(bench(project)) == Step(second.record, reused=True)


def test_link_in_the_place_of_a_records_folder_is_not_taken(project: Project, tmp_path: Path) -> None:
    folder = bench(project).archive.record_folder(execute(bench(project)).record.id)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert not execute(bench(project)).reused


def test_touched_record_is_told(project: Project) -> None:
    execute(bench(project))
    record = execute(bench(project), "train").record
    workbench = bench(project)
    path = _paths(record, workbench)["output"]
    path.chmod(0o644)
    path.write_text("other", encoding="utf-8")
    assert not execute(workbench, "train").reused
    assert [note for note in NOTES if note.startswith("train")] == [
        f"train: {record.id} has the same key and is not taken: 'golden.json' was changed in the archive: expected "
        f"{path.parent.name}{path.name[:10]}…, found {_sha256('other')[:12]}…; it is executed again"
    ]


def _sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_record_that_the_ledger_does_not_know_is_not_taken(project: Project) -> None:
    record = execute(bench(project)).record
    workbench = bench(project)
    ledger = workbench.archive.ledger
    ledger.path(ledger.size()).unlink()
    plan = plan_stage(bench(project), Order("prepare", "dev"))
    assert find_reusable(bench(project), plan) is None
    assert workbench.archive.record_folder(record.id).is_dir()


def test_record_of_another_archive_is_not_taken(tmp_path: Path) -> None:
    from kit.ledger import Kind

    here, there = make_project(tmp_path / "a"), make_project(tmp_path / "b")
    record = execute(bench(there)).record
    workbench = bench(here)
    source = bench(there).archive
    shutil.copytree(source.record_folder(record.id), workbench.archive.records_folder / record.id)
    shutil.copytree(source.objects.folder, workbench.archive.objects.folder, dirs_exist_ok=True)
    statement = (source.record_folder(record.id) / STATEMENT).read_bytes()
    workbench.archive.enter(Kind.IMPORT, record, _sha256(statement.decode()), record.started)
    assert not execute(bench(here)).reused


def test_record_without_a_key_is_not_taken(project: Project) -> None:
    workbench = bench(project)
    plan = plan_stage(workbench, Order("prepare", "dev"))
    from kit.execute import execute_plan

    execute_plan(workbench, dataclasses.replace(plan, key=""))
    assert not execute(bench(project)).reused


def test_what_does_a_record_again_never_takes_one(project: Project) -> None:
    record = execute(bench(project)).record
    plan = plan_stage(bench(project), Order("prepare", "dev"))
    assert find_reusable(bench(project), plan) == record
    assert find_reusable(bench(project), dataclasses.replace(plan, reproduces=record.id)) is None


def test_only_signed_work_is_taken_where_it_is_demanded(tmp_path: Path) -> None:
    ana = make_key()
    project = make_project(tmp_path, environments={"dev": DATA})
    execute(bench(project))
    (project.root / "environments/dev.toml").write_text(DATA + "[policy]\nsigned = true\n", encoding="utf-8")
    signed = execute(bench(project, key=ana))
    assert not signed.reused
    assert execute(bench(project, key=ana)).record == signed.record
    assert not execute(bench(project, key=make_key())).reused


def test_only_what_a_build_made_is_taken_where_it_is_demanded(tmp_path: Path) -> None:
    project = make_project(tmp_path, environments={"dev": DATA})
    commit_all(project)
    loose = execute(bench(project)).record
    (project.root / "environments/dev.toml").write_text(DATA + '[policy]\ncode = "build"\n', encoding="utf-8")
    execute(bench(project), "build")
    clean = execute(bench(project))
    assert (clean.reused, clean.record.key) == (False, loose.key)
    assert clean.record.code.build is not None
    assert execute(bench(project)).record == clean.record


def test_build_is_made_again_for_another_file_or_commit(tmp_path: Path) -> None:
    project = make_project(tmp_path, files={"README.md": "# About\n"})
    keys = [key_of(project, "build")]
    commit_all(project)
    keys.append(key_of(project, "build"))
    (project.root / "README.md").write_text("# Other\n", encoding="utf-8")
    keys.append(key_of(project, "build"))
    assert len(set(keys)) == 3
    assert [execute(bench(project), "build").reused for _ in range(2)] == [False, True]


def test_settings_and_secrets_count_only_where_the_code_asks_for_them(tmp_path: Path) -> None:
    def key(code: str, environment: str, folder: str) -> str:
        stages = {"prepare": make_notebook(code, title="P", inputs=["raw.csv"], outputs=["t.csv"])}
        project = make_project(tmp_path / folder, stages, {"dev": DATA + environment})
        return key_of(project, "prepare")

    settings = ["[settings]\na = 1\n", "[settings]\na = 2\n"]
    secrets = ['[secrets]\nT = { env = "A" }\n', '[secrets]\nT = { env = "B" }\n']
    tried = {
        (code, kind): len({key(code, text, f"{code[-4:]}-{kind}-{n}") for n, text in enumerate(texts)})
        for code in ("x = 1", "stage.config", "stage.secret")
        for kind, texts in (("settings", settings), ("secrets", secrets))
    }
    assert {what for what, n in tried.items() if n == 2} == {("stage.config", "settings"), ("stage.secret", "secrets")}


def test_variables_that_choose_other_arithmetic_count(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(project, "prepare")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert key_of(project, "prepare") == before
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert key_of(project, "prepare") != before


def test_planning_to_look_writes_nothing(project: Project) -> None:
    workbench = bench(project)
    before = set(workbench.archive.folder.rglob("*"))
    plan = plan_stage(workbench, Order("prepare", "dev"), keep=False)
    assert set(workbench.archive.folder.rglob("*")) == before
    assert plan.key == plan_stage(workbench, Order("prepare", "dev")).key


def test_lock_names_the_packages_that_count() -> None:
    installed = {"a": "1", "b-c": "2", "d": "3"}
    assert choose_packages(
        b"a==1 \\\n    --hash=sha256:x\n# d\nB_c>=2 ; python_version > '3'\ngone==4\n", installed
    ) == {
        "a": "1",
        "b-c": "2",
        "gone": "",
    }
    assert choose_packages(None, installed) == installed
    assert choose_packages(b"-r other.txt\na==1\n", installed) == installed
    assert choose_packages(b"\xff", installed) == installed


def test_sources_beside_the_installed_packages_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "loose_module.py"
    module.write_text("x = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = digest_loose(["loose_module.part", "numpy", "nowhere"])
    assert list(before) == ["loose_module"]
    module.write_text("x = 2\n", encoding="utf-8")
    assert digest_loose(["loose_module"]) != before


def test_key_is_one_digest_of_all_parts(project: Project) -> None:
    plan = plan_stage(bench(project), Order("prepare", "dev"), keep=False)
    assert isinstance(plan.parts, StageKey)
    for field in msgspec.structs.fields(StageKey):
        other = {"changed": "x"} if isinstance(getattr(plan.parts, field.name), dict) else "changed"
        assert msgspec.structs.replace(plan.parts, **{field.name: other}).sha256 != plan.key, field.name
    assert look_around().python.startswith("CPython")


def test_modules_of_the_notebook_are_preloaded(tmp_path: Path) -> None:
    code = "import numpy, helper\nfrom pandas import DataFrame"
    stages = {"prepare": make_notebook(code, title="P", inputs=["raw.csv"], outputs=["t.csv"])}
    project = make_project(tmp_path, stages, files={"notebooks/helper.py": "import click\n"})
    assert plan_stage(bench(project), Order("prepare", "dev"), keep=False).preload == ("numpy", "click", "pandas")


def test_outcome_that_was_never_sealed_is_not_taken(project: Project) -> None:
    def die(context: Context) -> Any:
        raise KeyboardInterrupt

    interrupted = execute(bench(project, engine=FakeEngine(prepare=die)))
    assert interrupted.record.status == "interrupted"
    assert not execute(bench(project)).reused
