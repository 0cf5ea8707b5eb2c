"""A sweep: decided before it starts, executed by worker processes, and gone on with where it stopped. No kernel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.errors import IntegrityError, NotFoundError, UnknownNameError, UnknownSubjectError, UsageError
from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.execute.assigned import Assignment, assign_plan
from kit.execute.events import PlanEnded, PlanNoted, PlanProgressed, PlanStarted
from kit.execute.together import choose_workers, find_peak_memory
from kit.executors import INTERRUPTED
from kit.record import Failure, Status, Usage
from kit.sweep import Sweep, choose_metric, find_definition, make_view, plan_sweep, read_sweep
from kit.sweep.execute import collect_results, execute_sweep
from kit.testing import FakeEngine, make_notebook, make_project, make_record, make_workbench, seal_record

FAKE = "targets:execute_fake"
PARAMETERS = 'rate: float = 0.1\nunits: int = 32\nhow: str = "good"\n'


@pytest.fixture(autouse=True)
def _targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find this folder's modules."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    stages = {
        "build": make_notebook(title="Build", outputs=["bundle.zip"]),
        "train": make_notebook("helper = 1", title="Train", parameters=PARAMETERS, outputs=["model"]),
    }
    return make_workbench(make_project(tmp_path, stages, {"dev": "[gates]\nmetrics.auc = { min = 0.5 }\n"}))


def execute(workbench: Workbench, *grid: str, n_workers: int = 2, **options: Any) -> Sweep:
    sweep = plan_sweep(workbench, Order("train", "dev"), grid)
    events = execute_sweep(workbench, sweep, n_workers, target=FAKE, **options)
    return collect_results(sweep, {event.name: event for event in events if isinstance(event, PlanEnded)})


def statuses(sweep: Sweep) -> list[str]:
    return [record.status.value if record else "none" for record in sweep.records]


def test_every_point_leaves_its_own_record_with_the_sweeps_digest(workbench: Workbench) -> None:
    sweep = execute(workbench, "rate=0.1,0.2", "units=1,2")
    assert statuses(sweep) == ["succeeded"] * 4
    assert len({record.id for record in sweep.records if record}) == 4
    for index, record in enumerate(sweep.records):
        assert record
        assert (record.sweep, record.key) == (sweep.definition.sha256, sweep.definition.keys[index])
        found = {p.name: (p.value, p.source.value) for p in record.parameters}
        expected = {name: (value, "command line") for name, value in sweep.definition.values(index).items()}
        assert found == {**expected, "how": ("good", "notebook")}
        assert set(record.machine.thread_settings) >= {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"}


def test_same_command_is_the_same_sweep_and_executes_nothing_twice(workbench: Workbench) -> None:
    first = execute(workbench, "rate=0.1,0.2")
    again = execute(workbench, "rate=0.1,0.2")
    assert again == first
    assert len(workbench.archive.list_ids()) == 2
    forced = execute(workbench, "rate=0.1,0.2", reuse=False)
    assert forced.definition == first.definition
    assert len(workbench.archive.list_ids()) == 4


def test_point_that_another_execution_has_made_is_taken(workbench: Workbench) -> None:
    plain = execute_plan(
        workbench_like(workbench), plan_stage(workbench, Order("train", "dev", {"rate": "0.2", "units": "3"}))
    )
    sweep = execute(workbench, "rate=0.1,0.2", "units=3")
    assert sweep.records[1] == plain
    view = make_view(sweep, "auc", lowest=False)
    assert [point.reused for point in view.points] == [False, True]


def workbench_like(workbench: Workbench) -> Workbench:
    from targets import _good

    def act(context: Any) -> Any:
        return _good(context, {"rate": 0.2, "units": 3})

    return dataclasses.replace(workbench, engine=FakeEngine(train=act))


def test_other_code_or_fixed_values_are_another_sweep(workbench: Workbench) -> None:
    def id_of(order: Order, *grid: str) -> str:
        return plan_sweep(workbench, order, grid).definition.id

    order = Order("train", "dev")
    ids = [id_of(order, "rate=1,2"), id_of(order, "rate=2,1"), id_of(Order("train", "dev", {"units": "3"}), "rate=1,2")]
    notebook = workbench.project.root / "notebooks/train.ipynb"
    notebook.write_text(notebook.read_text().replace("helper = 1", "helper = 2"))
    ids.append(id_of(order, "rate=1,2"))
    assert len(set(ids)) == 4


def test_edit_during_a_sweep_changes_no_later_point(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2,3"])
    for file in ("notebooks/train.ipynb", "environments/dev.toml"):
        (workbench.project.root / file).write_text("no longer what it was")
    records = [e.record for e in execute_sweep(workbench, sweep, 1, target=FAKE) if isinstance(e, PlanEnded)]
    assert [record and record.status for record in records] == [Status.SUCCEEDED] * 3
    assert {record.code for record in records if record} == {sweep.plans[0].code}


def test_point_that_was_interrupted_before_it_had_a_record_waits_and_has_not_failed(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2,3"])
    found = collect_results(
        sweep,
        {"0": PlanEnded("0", None, Failure(INTERRUPTED, "")), "1": PlanEnded("1", None, Failure("WorkerDied", ""))},
    )
    view = make_view(found, "auc", lowest=False)
    assert [point.status for point in view.points] == ["waiting", "failed", "waiting"]


def test_failed_points_stop_no_other_and_are_tried_again(workbench: Workbench) -> None:
    sweep = execute(workbench, "how=good,bad,die,once", n_workers=1)
    assert statuses(sweep) == ["succeeded", "failed", "lost", "failed"]
    assert sweep.failures[2].kind == "WorkerDied"
    again = execute(workbench, "how=good,bad,die,once", n_workers=1)
    assert statuses(again) == ["succeeded", "failed", "lost", "succeeded"]
    assert again.records[0] == sweep.records[0]
    assert statuses(read_sweep(workbench.archive, sweep.definition.id)) == statuses(again)


def test_interrupted_sweep_goes_on_where_it_stopped(workbench: Workbench) -> None:
    first = execute(workbench, "units=1,2", "how=good,stop", n_workers=1)
    assert statuses(first) == ["succeeded", "interrupted", "none", "none"]
    left = [*workbench.archive.list_ids()]
    second = execute(workbench, "units=1,2", "how=good,stop", n_workers=1)
    assert second.definition == first.definition
    assert (statuses(second)[:2], second.records[0]) == (["succeeded", "interrupted"], first.records[0])
    assert len(workbench.archive.list_ids()) == len(left) + 1


def test_two_sweeps_at_once_on_one_archive_both_end_well(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2,3", "units=1,2"])
    one, two = (execute_sweep(workbench, sweep, 2, target=FAKE) for _ in range(2))
    ended: list[PlanEnded] = []
    for pair in zip(one, two, strict=False):
        ended += [event for event in pair if isinstance(event, PlanEnded)]
    ended += [event for rest in (one, two) for event in rest if isinstance(event, PlanEnded)]
    assert {event.record.status for event in ended if event.record} == {Status.SUCCEEDED}
    assert {event.name for event in ended} == set("012345")


def test_two_hundred_points_are_executed_by_as_many_processes_as_there_are_workers(workbench: Workbench) -> None:
    units = ",".join(map(str, range(1, 201)))
    sweep = execute(workbench, f"units={units}", n_workers=2)
    assert statuses(sweep) == ["succeeded"] * 200
    assert len({record.process for record in sweep.records if record}) == 2
    view = make_view(read_sweep(workbench.archive, sweep.definition.id[6:14]), "auc", lowest=False)
    assert view.best
    assert view.best.values == {"units": 200}


def test_events_tell_when_a_point_begins_how_far_it_is_and_what_it_says(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=0.5"])
    kinds = [type(event) for event in execute_sweep(workbench, sweep, 1, target=FAKE)]
    assert kinds == [PlanStarted, PlanProgressed, PlanProgressed, PlanEnded]


@pytest.mark.parametrize(
    ("order", "grid", "kind", "sentence"),
    [
        (Order("build", "dev"), ["x=1"], UsageError, "'build' cannot be swept"),
        (Order("train", "dve"), ["rate=1"], UnknownNameError, "did you mean 'dev'"),
        (
            Order("train", "dev", {"rate": "1"}),
            ["rate=1,2"],
            UsageError,
            "'rate' is an axis of --grid and fixed to 1.0",
        ),
        (Order("train", "dev", {"rat": "1"}), ["rate=1,2"], UnknownNameError, "did you mean 'rate'"),
        (Order("train", "dev"), ["rate=1,two"], UsageError, "must be float, found 'two'"),
    ],
)
def test_nothing_is_executed_unless_every_point_is_right(
    workbench: Workbench, order: Order, grid: list[str], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        plan_sweep(workbench, order, grid)
    assert workbench.archive.list_ids() == []


def test_definition_is_found_by_a_beginning_of_its_id(workbench: Workbench) -> None:
    definition = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2"]).definition
    for name in (definition.id, definition.id[:10], definition.sha256, definition.sha256[:4]):
        assert find_definition(workbench.archive, name) == definition


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sweep-0123", UnknownSubjectError), ("abc", UsageError), ("../../x", UsageError), ("", UsageError)],
)
def test_what_names_no_sweep_is_refused(workbench: Workbench, name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        find_definition(workbench.archive, name)


@pytest.mark.parametrize(
    "data",
    [b"model", b'{"axes":[]}', b'{"axes":[],"kind":"other"}', b'{"axes":' + b"[" * 5000, b'{"axes":"\xff"}', b""],
)
def test_object_that_is_no_definition_is_no_sweep(workbench: Workbench, data: bytes) -> None:
    sha256 = workbench.archive.objects.put_bytes(data)
    with pytest.raises(UnknownSubjectError):
        find_definition(workbench.archive, sha256)


def test_definition_written_another_way_or_with_points_of_another_length_is_refused(workbench: Workbench) -> None:
    definition = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2"]).definition
    plain = json.loads(definition.encode())
    for change in ({"points": [[1.0, 2.0], [2.0]]}, {"keys": ["a"]}, {"format": 2}, {"more": 1}):
        data = json.dumps({**plain, **change}, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(UnknownSubjectError):
            find_definition(workbench.archive, workbench.archive.objects.put_bytes(data))


def test_changed_definition_is_told_from_a_missing_one(workbench: Workbench) -> None:
    definition = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2"]).definition
    path = workbench.archive.objects.path(definition.sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="was changed"):
        find_definition(workbench.archive, definition.id)


def test_plan_reaches_the_other_process_as_it_is(workbench: Workbench) -> None:
    (plan,) = plan_sweep(workbench, Order("train", "dev"), ["rate=0.1"]).plans
    assignment = msgspec.json.decode(msgspec.json.encode(assign_plan(workbench, plan)), type=Assignment)
    assert dataclasses.replace(assignment.plan, bundle=plan.bundle, parts=plan.parts) == plan


def test_missing_bundle_fails_the_point_without_a_record(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=0.1"])
    workbench.archive.objects.path(sweep.plans[0].code.bundle_sha256).unlink()
    (end,) = (e for e in execute_sweep(workbench, sweep, 1, target=FAKE) if isinstance(e, PlanEnded))
    assert (end.record, end.failure and end.failure.kind) == (None, NotFoundError.__name__)
    view = make_view(Sweep(sweep.definition, (None,), {0: end.failure} if end.failure else {}), "auc", lowest=False)
    assert [point.status for point in view.points] == ["failed"]


def test_sweep_whose_points_cannot_even_begin_gives_up_early(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["units=1,2,3,4,5,6,7,8,9"])
    workbench.archive.objects.path(sweep.plans[0].code.bundle_sha256).unlink()
    events = list(execute_sweep(workbench, sweep, 1, target=FAKE))
    assert [event.name for event in events if isinstance(event, PlanEnded)] == ["0", "1", "2", "3", "4"]
    assert events[-1] == PlanNoted("5 points in a row could not even begin; the others are left out")


def test_memory_of_earlier_records_limits_how_many_are_executed_at_a_time(workbench: Workbench) -> None:
    sweep = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2,3,4"])
    assert choose_workers(workbench.archive, ["train"], 4, 4) == (4, "")
    huge = 1 << 50
    for peak in (huge, None, 10):
        seal_record(workbench.archive, make_record(usage=Usage(1.0, 1.0, peak)))
    assert find_peak_memory(workbench.archive, "train") == huge
    n_workers, sentence = choose_workers(workbench.archive, ["train"], 4, 4)
    assert n_workers == 1
    assert "1 at a time instead of 4: stage 'train' needed up to 1125.9 TB" in sentence
    assert PlanNoted(sentence) in list(execute_sweep(workbench, sweep, 4, target=FAKE))


def test_metric_is_the_first_that_a_gate_limits_else_the_first_number(workbench: Workbench) -> None:
    definition = plan_sweep(workbench, Order("train", "dev"), ["rate=1,2"]).definition
    failed = make_record(status=Status.FAILED, metrics={"never": 1.0})
    good = make_record(metrics={"name": "a", "loss": 0.5, "auc": 0.7})
    sweep = Sweep(definition, (failed, good))
    assert choose_metric(sweep, ("log_loss", "auc")) == "auc"
    assert choose_metric(sweep, ()) == "loss"
    assert choose_metric(Sweep(definition, (None, failed)), ("auc",)) == ""
