"""Scratch folders: who goes on with whose files, what the record says of it, and what is swept."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.execute import Order, Plan, Workbench, execute_plan, plan_stage
from kit.execute.scratch import ATTEMPTS, FILES, KEPT_S, LOCK, hold_scratch, name_work, sweep_scratch
from kit.record import Record, Status
from kit.testing import FakeEngine, fake_outcome, make_project, make_record, make_workbench, seal_record, write_outputs
from kit.workspace import Context


class Work:
    """A stage that leaves a file in its scratch folder and fails, until it is told to succeed."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[list[str]] = []
        self.told: list[str] = []
        self.ends: Any = Status.FAILED
        bench = make_workbench(make_project(folder), FakeEngine(prepare=self.act))
        self.bench = dataclasses.replace(bench, notify=self.told.append)
        self.shared = bench.project.scratch / "scratch"

    def act(self, context: Context) -> Any:
        scratch = Path(context.scratch)
        self.seen.append(sorted(path.name for path in scratch.iterdir()))
        (scratch / f"file-{len(self.seen)}").touch()
        if self.ends is Status.SUCCEEDED:
            return write_outputs(context)
        return self.ends(scratch) if callable(self.ends) else fake_outcome(None, self.ends)

    def plan(self, key: str = "") -> Plan:
        return dataclasses.replace(plan_stage(self.bench, Order("prepare", "dev")), key=key)

    def execute(self, ends: Any = Status.FAILED, **plan: str) -> Record:
        self.ends = ends
        return execute_plan(self.bench, self.plan(**plan))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


UNSUCCESSFUL = [Status.FAILED, Status.TIMED_OUT, Status.KERNEL_DIED, Status.INTERRUPTED]


def test_execution_goes_on_with_what_unsuccessful_ones_left_and_names_them_oldest_first(work: Work) -> None:
    failed = [work.execute(status) for status in UNSUCCESSFUL]
    done = work.execute(Status.SUCCEEDED)
    assert [record.status for record in failed] == UNSUCCESSFUL
    assert work.seen[-1] == ["file-1", "file-2", "file-3", "file-4"]
    assert done.attempts == tuple(record.id for record in failed)
    assert failed[0].attempts == ()
    assert work.told[-1] == f"prepare: goes on with the scratch folder of {', '.join(done.attempts)}"


def test_attempts_are_announced_before_the_kernel_starts(work: Work) -> None:
    failed = work.execute()
    announced: list[tuple[str, ...]] = []

    def look(_: Path) -> None:
        archive = work.bench.archive
        announced.append(archive.read_record(archive.list_ids()[-1]).attempts)
        raise RuntimeError

    work.execute(look)
    assert announced == [(failed.id,)]


def test_success_leaves_nothing_behind(work: Work) -> None:
    work.execute()
    work.execute(Status.SUCCEEDED)
    assert list(work.shared.iterdir()) == []
    assert work.execute().attempts == ()
    assert work.seen[-1] == []


def test_failure_leaves_no_lock(work: Work) -> None:
    work.execute()
    assert [path.name for path in work.shared.iterdir()] == [name_work(work.plan())]


def test_empty_scratch_folder_has_no_attempts(work: Work) -> None:
    def empty(scratch: Path) -> None:
        for path in scratch.iterdir():
            path.unlink()
        raise RuntimeError

    work.execute(empty)
    second = work.execute()
    assert second.attempts == ()
    assert work.execute().attempts == (second.id,)


def test_scratch_follows_the_key_whatever_the_bundle_is(work: Work) -> None:
    first = work.execute(key="k1")
    notebook = work.bench.project.root / "notebooks/prepare.ipynb"
    notebook.write_text(notebook.read_text().replace("# Prepare", "# Prepares"))
    second = work.execute(key="k1")
    assert second.code.bundle_sha256 != first.code.bundle_sha256
    assert (second.attempts, second.key) == ((first.id,), "k1")
    assert work.execute(key="k2").attempts == ()


def test_without_a_key_other_sources_are_other_work(work: Work) -> None:
    work.execute()
    (work.bench.project.root / "notebooks/helper.py").write_text("x = 1\n")
    assert work.execute().attempts == ()


def test_work_of_another_environment_is_other_work(work: Work) -> None:
    plan = work.plan(key="k")
    other = dataclasses.replace(plan, environment=msgspec.structs.replace(plan.environment, name="ci"))
    assert name_work(plan) != name_work(other)


def forget_who(folder: Path, _: Workbench) -> None:
    (folder / ATTEMPTS).unlink()


def garble(folder: Path, _: Workbench) -> None:
    (folder / ATTEMPTS).write_text('["')


def name_nobody(folder: Path, _: Workbench) -> None:
    (folder / ATTEMPTS).write_text("[]")


def name_a_stranger(folder: Path, _: Workbench) -> None:
    (folder / ATTEMPTS).write_text('["20260301T093000Z-prepare-000000"]')


def name_a_success(folder: Path, bench: Workbench) -> None:
    record = seal_record(bench.archive, make_record(stage="prepare"))
    (folder / ATTEMPTS).write_text(f'["{record.id}"]')


def name_another_stage(folder: Path, bench: Workbench) -> None:
    record = seal_record(bench.archive, make_record(stage="train", status=Status.FAILED))
    (folder / ATTEMPTS).write_text(f'["{record.id}"]')


def name_another_key(folder: Path, bench: Workbench) -> None:
    record = seal_record(bench.archive, make_record(stage="prepare", status=Status.FAILED, key="other"))
    (folder / ATTEMPTS).write_text(f'["{record.id}"]')


@pytest.mark.parametrize(
    "spoil",
    [forget_who, garble, name_nobody, name_a_stranger, name_a_success, name_another_stage, name_another_key],
)
def test_files_of_unknown_origin_are_not_gone_on_with(work: Work, spoil: Any) -> None:
    work.execute()
    spoil(work.shared / name_work(work.plan()), work.bench)
    record = work.execute()
    assert (work.seen[-1], record.attempts) == ([], ())
    assert "starts from nothing; what is in its scratch folder cannot be told" in work.told[-1]
    assert work.execute().attempts == (record.id,)


def test_lost_execution_is_an_attempt(work: Work) -> None:
    class Killed(BaseException):
        """As SIGKILL: nothing is closed, nothing is tidied up."""

    def kill(_: Path) -> None:
        raise Killed

    with pytest.raises(Killed):
        work.execute(kill)
    (lost,) = work.bench.archive.list_ids()
    done = work.execute(Status.SUCCEEDED)
    assert (done.attempts, work.seen[-1]) == ((lost,), ["file-1"])


def test_lock_that_a_killed_process_left_is_taken_over(work: Work) -> None:
    failed = work.execute()
    lock = work.shared / f"{name_work(work.plan())}{LOCK}"
    lock.touch()
    assert work.execute().attempts == (failed.id,)
    assert not lock.exists()


def test_two_at_once_do_not_share_and_only_one_of_them_goes_on(work: Work) -> None:
    failed = work.execute()
    inner: list[Record] = []

    def execute_inside(_: Path) -> None:
        inner.append(work.execute(Status.SUCCEEDED))
        raise RuntimeError

    outer = work.execute(execute_inside)
    assert (outer.attempts, inner[0].attempts) == ((failed.id,), ())
    assert work.seen[-1] == []
    assert any("another execution of the same work is going on" in text for text in work.told)
    assert work.execute().attempts == (failed.id, outer.id)


def test_many_at_once_are_never_two_in_one_folder(work: Work) -> None:
    plan, inside, most = work.plan(), [0], [0]
    guard, start = threading.Lock(), threading.Barrier(8)

    def hold() -> None:
        start.wait()
        for _ in range(50):
            with hold_scratch(work.shared, plan, work.bench.archive, lambda _: None) as scratch:
                if scratch.folder is None:
                    continue
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert [path.name for path in work.shared.iterdir()] == [name_work(plan)]


def test_folders_that_nobody_went_on_with_are_swept_by_the_next_execution(work: Work) -> None:
    work.execute(key="old")
    work.execute(key="young")
    old, young = (work.shared / name_work(work.plan(key)) for key in ("old", "young"))
    lock = old.with_name(f"{'0' * 24}{LOCK}")
    lock.touch()
    long_ago = time.time() - KEPT_S - 1
    for path in (old / ATTEMPTS, old, lock):
        os.utime(path, (long_ago, long_ago))
    work.execute(Status.SUCCEEDED, key="other")
    assert list(work.shared.iterdir()) == [young]


def test_folder_is_not_swept_while_someone_has_it(work: Work) -> None:
    plan = work.plan()
    with hold_scratch(work.shared, plan, work.bench.archive, lambda _: None) as scratch:
        assert scratch.files == work.shared / name_work(plan) / FILES
        sweep_scratch(work.shared, time.time() + 1)
        assert scratch.files.is_dir()
    sweep_scratch(work.shared, time.time() + 1)
    assert list(work.shared.iterdir()) == []


def test_work_that_is_done_again_gets_nothing_of_it(work: Work) -> None:
    work.execute()
    plan = dataclasses.replace(work.plan(), reproduces="20260301T093000Z-prepare-000000")
    record = execute_plan(work.bench, plan)
    assert (work.seen[-1], record.attempts) == ([], ())
