"""Work in long-lived processes: what comes of each task, however the process, the pool or the user ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.engine.signals import Interruption
from kit.executors import (
    Event,
    Pool,
    TaskFailed,
    TaskFinished,
    TaskProgressed,
    TaskStarted,
    admit,
    available_memory_bytes,
    divide_threads,
    usable_cores,
)
from kit.executors.messages import INTERRUPTED, Finished, Task, encode_line
from kit.executors.worker import Attention, work_on
from kit.provenance import process_mark

TESTS = str(Path(__file__).parent)


def make_pool(function: str = "act", n_workers: int = 1, **variables: str) -> Pool:
    return Pool(f"targets:{function}", n_workers, {"PYTHONPATH": TESTS, **variables})


def execute(*tasks: Any, function: str = "act", n_workers: int = 1) -> list[Event]:
    with make_pool(function, n_workers) as pool:
        for index, task in enumerate(tasks):
            pool.submit(str(index), task)
        return list(pool.events())


def end_of(events: list[Event], task: str = "0") -> Any:
    (found,) = (e for e in events if e.task == task and isinstance(e, TaskFinished | TaskFailed))
    return found.value if isinstance(found, TaskFinished) else found.failure


def wait_until_gone(*pids: int) -> None:
    for pid in pids:
        while process_mark(pid):
            os.sched_yield()


def test_task_gives_progress_and_a_value_of_the_declared_types() -> None:
    assert execute({"a": 1, "b": 2}, function="add") == [
        TaskStarted("0"),
        TaskProgressed("0", {"adding": 1}),
        TaskFinished("0", 3),
    ]


def test_task_of_another_type_fails() -> None:
    failure = end_of(execute({"a": 1, "b": "two"}, function="add"))
    assert (failure.kind, failure.message) == ("ValidationError", "Expected `int`, got `str` - at `$.b`")


def test_one_worker_executes_many_tasks_and_more_start_only_when_needed() -> None:
    one = execute(*["pid"] * 5, function="tell")
    assert len({end_of(one, str(task)) for task in range(5)}) == 1
    with make_pool("tell", 3) as pool:
        assert pool.pids == []
        pool.submit("a", "pid")
        list(pool.events())
        assert len(pool.pids) == 1


def test_more_tasks_may_be_submitted_while_others_run() -> None:
    found = []
    with make_pool("tell", 2) as pool:
        pool.submit("1", "task")
        for event in pool.events():
            if isinstance(event, TaskFinished):
                found.append(event.task)
                if len(found) < 4:
                    pool.submit(str(len(found) + 1), "task")
    assert found == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("how", "value"), [("print", "printed"), ("close", "closed")])
def test_what_a_task_does_with_its_output_stays_out_of_the_protocol(how: str, value: str) -> None:
    assert end_of(execute(how)) == value


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("usage_error", "UsageError", "that cannot be"),
        ("value_error", "ValueError", "no"),
        ("unanswerable", "TypeError", "Encoding objects of type object is unsupported"),
        ("exit", "WorkerDied", "the worker process that executed it ended with exit code 3; it said: last words"),
        ("segfault", "WorkerDied", "the worker process that executed it was killed by SIGSEGV"),
        (
            "kill",
            "WorkerDied",
            "the worker process that executed it was killed by SIGKILL (by someone, or by the system because memory ran out)",
        ),
    ],
)
def test_failed_task_says_why_and_the_next_one_is_executed(how: str, kind: str, sentence: str) -> None:
    events = execute(how, "close")
    failure = end_of(events)
    assert (failure.kind, failure.message) == (kind, sentence)
    assert end_of(events, "1") == "closed"


@pytest.mark.parametrize("target", ["targets:nothing", "nowhere:act"])
def test_target_that_is_not_there_fails_every_task(target: str) -> None:
    with Pool(target, 1, {"PYTHONPATH": TESTS}) as pool:
        pool.submit("0", "print")
        pool.submit("1", "print")
        events = list(pool.events())
    assert {end_of(events, "0").kind, end_of(events, "1").kind} <= {"AttributeError", "ModuleNotFoundError"}


def interrupt(pool: Pool, n_signals: int, is_ready: Callable[[Event], bool]) -> Iterator[Event]:
    with Interruption() as stop:
        for event in pool.events(stop):
            yield event
            if stop.n_requests < n_signals and is_ready(event):
                os.kill(os.getpid(), signal.SIGINT)


def test_interrupt_lets_running_tasks_answer_and_withdraws_the_others() -> None:
    with make_pool() as pool:
        pool.submit("a", "seal")
        pool.submit("b", "seal")
        events = list(interrupt(pool, 1, lambda event: isinstance(event, TaskProgressed)))
        assert events == [TaskStarted("a"), TaskProgressed("a", "ready"), TaskFinished("a", "sealed")]
        assert pool.n_tasks == 0


def test_interrupt_that_comes_before_the_task_is_read_is_heard_once() -> None:
    attention, line = Attention(), encode_line(Task({"a": 1, "b": 2}))
    attention(signal.SIGINT, None)
    answer, is_well = work_on(line, "targets:add", attention, lambda _: None)
    assert (msgspec.json.decode(answer)["failure"]["kind"], is_well) == (INTERRUPTED, False)
    assert work_on(line, "targets:add", attention, lambda _: None) == (encode_line(Finished(3)), True)


def test_interrupted_task_that_gives_no_answer_is_told_from_a_failed_one() -> None:
    with make_pool() as pool:
        pool.submit("a", "wait")
        *_, last = interrupt(pool, 1, lambda event: isinstance(event, TaskProgressed))
    assert isinstance(last, TaskFailed)
    assert last.is_interrupted


def test_third_interrupt_kills_what_does_not_listen() -> None:
    with make_pool() as pool:
        pool.submit("a", "deaf")
        *_, last = interrupt(pool, 3, lambda event: isinstance(event, TaskProgressed))
        assert pool.pids == []
    assert isinstance(last, TaskFailed)
    assert last.is_interrupted


def test_killed_worker_fails_its_task_takes_its_children_along_and_is_replaced() -> None:
    with make_pool() as pool:
        pool.submit("a", "wait")
        pool.submit("b", "close")
        events: list[Event] = []
        for event in pool.events():
            events.append(event)
            if isinstance(event, TaskProgressed):
                pids = event.value
                os.kill(pids[0], signal.SIGKILL)
    assert end_of(events, "a").kind == "WorkerDied"
    assert end_of(events, "b") == "closed"
    wait_until_gone(*pids)


def test_workers_end_with_the_block_whatever_is_raised_in_it() -> None:
    pool = make_pool(n_workers=2)
    with pytest.raises(RuntimeError, match="stop"), pool:  # noqa: PT012 - what is raised in the block is the matter
        pool.submit("a", "seal")
        for event in pool.events():
            if isinstance(event, TaskProgressed):
                pids = pool.pids
                raise RuntimeError("stop")
    wait_until_gone(*pids)


def test_reader_of_events_that_raises_leaves_nothing_open() -> None:
    with pytest.raises(RuntimeError, match="stop"), Interruption() as stop, make_pool() as pool:  # noqa: PT012
        pool.submit("a", "seal")
        for event in pool.events(stop):
            if isinstance(event, TaskProgressed):
                raise RuntimeError("stop")


def test_workers_and_what_they_execute_end_when_the_pools_process_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "pids"
    environment = {**os.environ, "PYTHONPATH": TESTS}
    parent = subprocess.Popen([sys.executable, str(Path(TESTS, "targets.py")), str(said)], env=environment)
    while not said.exists():
        os.sched_yield()
    worker, child = map(int, said.read_text().split())
    parent.kill()
    parent.wait()
    wait_until_gone(worker)
    os.kill(child, signal.SIGKILL)  # a plain child of the task, which no one promised to end


def test_threads_are_divided_unless_the_user_set_them() -> None:
    assert set(divide_threads(3, 8, {}).values()) == {"2"}
    assert set(divide_threads(4, 2, {}).values()) == {"1"}
    assert "OMP_NUM_THREADS" not in divide_threads(1, 2, {"OMP_NUM_THREADS": "7"})
    with make_pool("tell", 1, **divide_threads(1, 5, {})) as pool:
        pool.submit("0", "threads")
        assert end_of(list(pool.events())) == "5"


@pytest.mark.parametrize(
    ("n_wanted", "peak", "available", "expected"),
    [(4, 100, 1000, 4), (4, 100, 250, 2), (4, 100, 50, 1), (4, None, 50, 4), (4, 100, None, 4), (4, 0, 50, 4)],
)
def test_only_as_many_as_fit_into_memory_and_always_one(
    n_wanted: int, peak: int | None, available: int | None, expected: int
) -> None:
    assert admit(n_wanted, peak, available) == expected


def make_system(root: Path, **files: str) -> Path:
    """A file system with the control group /job/step and 4000 kB of available memory."""
    paths = {"proc/self/cgroup": "0::/job/step\n", "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4000 kB\n"}
    for name, text in {**paths, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_control_groups_limit_cores_and_memory(tmp_path: Path) -> None:
    bare = make_system(tmp_path / "bare", **{"proc/self/cgroup": ""})
    assert (usable_cores(bare), available_memory_bytes(bare)) == (len(os.sched_getaffinity(0)), 4_096_000)
    group = {
        "sys/fs/cgroup/job/step/cpu.max": "max 100000",
        "sys/fs/cgroup/job/cpu.max": "50000 100000",
        "sys/fs/cgroup/job/memory.max": "1000000",
        "sys/fs/cgroup/job/memory.current": "700000",
        "sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 200000\n",
        "sys/fs/cgroup/job/step/memory.max": "max",
        "sys/fs/cgroup/cpu.max": "nonsense",
    }
    limited = make_system(tmp_path / "limited", **group)
    assert (usable_cores(limited), available_memory_bytes(limited)) == (1, 500_000)
    empty = tmp_path / "empty"
    assert (usable_cores(empty), available_memory_bytes(empty)) == (len(os.sched_getaffinity(0)), None)
