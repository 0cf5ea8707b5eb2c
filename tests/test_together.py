"""Which record a worker that gave no answer has left."""

import datetime
from pathlib import Path

from kit.execute import Order, plan_stage
from kit.execute.together import find_left
from kit.testing import START, example_stages, make_project, make_record, make_workbench, seal_record

MILLISECOND = datetime.timedelta(milliseconds=1)


def test_what_a_worker_left_is_told_by_its_moment_and_not_by_its_id(tmp_path: Path) -> None:
    workbench = make_workbench(make_project(tmp_path, example_stages()))
    plan = plan_stage(workbench, Order("prepare", "dev"))
    second = f"{START:%Y%m%dT%H%M%SZ}-prepare-"
    for digits, milliseconds in (("ffffff", 100), ("888888", 900), ("000000", 500)):
        started = START + milliseconds * MILLISECOND
        record = make_record(id=second + digits, stage="prepare", started=started, key=plan.key)
        seal_record(workbench.archive, record)

    def left(milliseconds: float) -> str | None:
        found = find_left(workbench.archive, plan, START + milliseconds * MILLISECOND)
        return found and found.id.removeprefix(second)

    assert [left(100), left(500.9), left(900), left(901)] == ["888888", "888888", "888888", None]
