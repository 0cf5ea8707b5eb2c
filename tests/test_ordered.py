"""Stages that need nothing of each other are executed at the same time, the others after what they need. No kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.errors import InterruptedByUserError, NotFoundError, StageError
from kit.execute import Workbench
from kit.execute.ordered import Schedule, measure_width
from kit.pipeline import Step, execute_all, find_needs
from kit.record import Record, Status
from kit.testing import make_notebook, make_project, make_workbench

FAKE = "targets:execute_stage"
HOW = 'how: str = "good"'


@pytest.fixture(autouse=True)
def _targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find this folder's modules."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Workbench]:
    """A project of two branches that meet: a and b read nothing, c reads a, d reads b and c."""

    def make_branches(**how: str) -> Workbench:
        stages = {
            "build": make_notebook(title="Build", outputs=["bundle.zip"]),
            "a": make_notebook(title="A", parameters=HOW, outputs=["a.csv"]),
            "b": make_notebook(title="B", parameters=HOW, outputs=["b.csv"]),
            "c": make_notebook(title="C", parameters=HOW, inputs=["a.csv"], outputs=["c.csv"]),
            "d": make_notebook(title="D", parameters=HOW, inputs=["b.csv", "c.csv"], outputs=["d.csv"]),
        }
        texts = [f'[parameters.{stage}]\nhow = "{value}"\n' for stage, value in how.items()]
        return make_workbench(make_project(tmp_path, stages, {"dev": "".join(texts)}))

    return make_branches


def execute(workbench: Workbench, n_workers: int = 2, *, reuse: bool = False) -> list[Step]:
    return list(execute_all(workbench, "dev", n_workers=n_workers, target=FAKE, reuse=reuse))


def is_ours(record: Record) -> bool:
    return record.process.pid == os.getpid()


def test_branches_are_executed_beside_each_other_and_each_stage_after_what_it_reads(
    make: Callable[..., Workbench],
) -> None:
    workbench = make()
    steps = execute(workbench)
    order = [step.record.stage for step in steps]
    assert (order[0], set(order[1:3]) <= {"a", "b", "c"}, order[-1]) == ("build", True, "d")
    assert order.index("a") < order.index("c")
    records = {step.record.stage: step.record for step in steps}
    assert {each.status for each in records.values()} == {Status.SUCCEEDED}
    assert [name for name, record in records.items() if is_ours(record)] == ["build"]
    assert records["a"].process != records["b"].process
    assert {each.record for each in records["d"].inputs} == {records["b"].id, records["c"].id}


def test_what_is_up_to_date_is_not_executed_and_a_single_stage_needs_no_worker(make: Callable[..., Workbench]) -> None:
    workbench = make()
    first = execute(workbench)
    again = execute(workbench, reuse=True)
    assert {step.record.id for step in again} == {step.record.id for step in first}
    assert all(step.reused for step in again)
    notebook = workbench.project.root / "notebooks/d.ipynb"
    notebook.write_text(notebook.read_text().replace("# D", "# Dee").replace("good", "better"))
    changed = [step for step in execute(workbench, reuse=True) if not step.reused]
    assert [step.record.stage for step in changed] == ["build", "d"]
    assert all(is_ours(step.record) for step in changed)


def test_one_worker_executes_all_in_this_process(make: Callable[..., Workbench]) -> None:
    steps = execute(make(), n_workers=1)
    assert [step.record.stage for step in steps] == ["build", "a", "b", "c", "d"]
    assert all(is_ours(step.record) for step in steps)


def test_failure_lets_what_is_executed_end_and_nothing_else_begin(make: Callable[..., Workbench]) -> None:
    steps = execute(make(a="bad"))
    assert {step.record.stage: step.record.status for step in steps} == {
        "build": Status.SUCCEEDED,
        "a": Status.FAILED,
        "b": Status.SUCCEEDED,
    }


def test_failure_takes_back_the_stages_that_wait_for_a_worker(make: Callable[..., Workbench]) -> None:
    workbench = make(a="bad")
    others = {f"z{n}": make_notebook(title="Z", parameters=HOW, outputs=[f"z{n}.csv"]) for n in range(8)}
    how = {"a": "bad", "b": "after a"} | dict.fromkeys(others, "after a")
    texts = [f'[parameters.{stage}]\nhow = "{value}"\n' for stage, value in how.items()]
    make_project(workbench.project.root, others, {"dev": "".join(texts)})
    stages = {step.record.stage for step in execute(workbench)}
    assert {"build", "a"} <= stages
    assert "z7" not in stages, "it waited when a failed"
    assert {record.stage for record in workbench.archive.records()} == stages


def test_killed_process_of_a_stage_is_an_error_that_names_its_record(make: Callable[..., Workbench]) -> None:
    workbench = make(a="die")
    with pytest.raises(StageError, match=r"stage 'a' was not executed to its end: WorkerDied: .* SIGKILL") as raised:
        execute(workbench)
    assert workbench.archive.read_record(raised.value.record_id).status is Status.LOST
    assert {record.stage for record in workbench.archive.records() if record.succeeded} == {"build", "b"}


def test_interrupt_seals_what_is_executed_and_begins_nothing(make: Callable[..., Workbench]) -> None:
    steps = execute(make(a="stop", b="stop"))
    found = {step.record.stage: step.record.status for step in steps}
    assert found.pop("build") is Status.SUCCEEDED
    assert found, "whichever was executed when it came; the other one may not have begun"
    assert set(found) <= {"a", "b"}
    assert set(found.values()) == {Status.INTERRUPTED}


def test_interrupt_that_no_stage_sealed_is_an_error(make: Callable[..., Workbench]) -> None:
    workbench = make()
    steps = execute_all(workbench, "dev", n_workers=2, target="targets:stop_at_once")
    with pytest.raises(InterruptedByUserError):
        list(steps)
    assert [record.stage for record in workbench.archive.records()] == ["build"]


def test_plan_that_cannot_be_made_is_raised_after_the_others_have_ended(make: Callable[..., Workbench]) -> None:
    workbench = make()
    (workbench.project.root / "environments/dev.toml").write_text('[data]\n"raw.csv" = "gone.csv"\n')
    stage = make_notebook(title="C", parameters=HOW, inputs=["a.csv", "raw.csv"], outputs=["c.csv"])
    make_project(workbench.project.root, {"c": stage}, {"dev": '[data]\n"raw.csv" = "gone.csv"\n'})
    with pytest.raises(NotFoundError, match=r"binds it to 'gone\.csv'"):
        execute(workbench)
    assert {record.stage for record in workbench.archive.records() if record.succeeded} == {"build", "a", "b"}


def test_schedule_gives_each_stage_once_when_what_it_needs_has_succeeded() -> None:
    schedule = Schedule({"a": [], "b": ["a"], "c": ["a", "b"]})
    assert (schedule.take(), schedule.take()) == (["a"], [])
    schedule.note_success("a")
    assert schedule.take() == ["b"]
    schedule.stop()
    schedule.note_success("b")
    assert schedule.take() == []


def test_width_is_that_of_the_widest_place(make: Callable[..., Workbench]) -> None:
    graph = make().project.read_graph()
    needs = find_needs(graph, ["a", "b", "c", "d"])
    assert needs == {"a": set(), "b": set(), "c": {"a"}, "d": {"b", "c"}}
    assert measure_width(needs) == 2
    assert measure_width({}) == 0
    assert measure_width({"a": [], "b": ["a"], "c": ["b"]}) == 1
