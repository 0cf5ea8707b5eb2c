"""What worker processes are told to call in tests; see `kit.executors`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import Archive, read_origin
from kit.errors import UsageError
from kit.execute import Workbench
from kit.execute.assigned import Assignment, Executed, execute_assigned
from kit.executors import Pool
from kit.project import find_project
from kit.testing import FakeEngine, write_outputs
from kit.workspace import Context

Report = Callable[[Any], None]


class Sum(msgspec.Struct, frozen=True):
    """Two numbers to add."""

    a: int
    b: int


def add(task: Sum, report: Report) -> int:
    """Their sum."""
    report({"adding": task.a})
    return task.a + task.b


def tell(task: str, _: Report) -> Any:
    """Something about the process."""
    return {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS"), "task": task}[task]


def act(task: str, report: Report) -> Any:
    """One of many ways to behave."""
    return globals()[f"_{task}"](report)


def _print(_: Report) -> str:
    sys.stdout.write('on stdout\n{"type":"finished","value":"forged"}\n')
    os.write(1, b"on the descriptor\n" * 10_000)
    sys.stdout.close()
    return "printed"


def _close(_: Report) -> str:
    os.close(1)
    os.close(2)
    time.sleep(0.2)
    return "closed"


def _usage_error(_: Report) -> None:
    raise UsageError("that cannot be")


def _value_error(_: Report) -> None:
    raise ValueError("no")


def _exit(_: Report) -> None:
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(3)


def _segfault(_: Report) -> None:
    os.kill(os.getpid(), 11)


def _kill(_: Report) -> None:
    os.kill(os.getpid(), 9)


def _unanswerable(_: Report) -> object:
    return object()


def _wait(report: Report) -> None:
    """For ever, with a child process."""
    child = subprocess.Popen(["sleep", "1000"])
    report([os.getpid(), child.pid])
    while True:
        time.sleep(100)


def _seal(report: Report) -> str:
    """Until it is interrupted, then in order."""
    try:
        report("ready")
        while True:
            time.sleep(100)
    except KeyboardInterrupt:
        return "sealed"


def _deaf(report: Report) -> None:
    """For ever, whatever it is asked."""
    said = "ready"
    while True:
        try:
            report(said)
            while True:
                time.sleep(100)
        except KeyboardInterrupt:
            said = "asked"


def execute_fake(assignment: Assignment, report: Report) -> Executed:
    """A point of a sweep without a kernel; what it does is said by its parameter `how`."""
    project = find_project(Path(assignment.root))
    how = str(assignment.plan.values.get("how", "good"))
    engine = FakeEngine(lambda context: _ACTS[how](context, assignment.plan.values))
    workbench = Workbench(project, Archive(project.archive, read_origin(project.archive)), engine)
    return execute_assigned(workbench, assignment, report)


def _good(context: Context, values: Mapping[str, Any]) -> dict[str, Any]:
    return {**write_outputs(context), "auc": values["rate"] * values["units"], "name": "a"}


def _bad(_: Context, values: Mapping[str, Any]) -> None:
    raise ValueError(f"no rate {values['rate']}")


def _die(*_: Any) -> None:
    os.kill(os.getpid(), 9)


def _stop(*_: Any) -> None:
    """Ctrl-C for whoever started this process, then work that does not end."""
    os.kill(os.getppid(), 2)
    time.sleep(100)


def _once(context: Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fails the first time."""
    mark = Path(context.scratch, "mark")
    if not mark.exists():
        mark.touch()
        raise ValueError("the first time")
    return _good(context, values)


_ACTS: dict[str, Callable[..., Any]] = {"good": _good, "bad": _bad, "die": _die, "stop": _stop, "once": _once}


def execute_stage(assignment: Assignment, report: Report) -> Executed:
    """A stage of a pipeline without a kernel; it fails, or kills its process, where its parameter `how` says so."""
    project = find_project(Path(assignment.root))
    how = assignment.plan.values.get("how")
    archive = Archive(project.archive, read_origin(project.archive))
    acts = {"bad": _bad_stage, "die": _die, "stop": _stop, "after a": lambda context: _after_a(archive, context)}
    workbench = Workbench(project, archive, FakeEngine(acts.get(str(how), write_outputs)))
    return execute_assigned(workbench, assignment, report)


def stop_at_once(_: Assignment, __: Report) -> None:
    """Ctrl-C for whoever started this process, before there is a record."""
    os.kill(os.getppid(), 2)
    time.sleep(100)


def _after_a(archive: Archive, context: Context) -> dict[str, Any]:
    """Ends once the record of the stage `a` is sealed."""
    while not any(record.stage == "a" and record.ended for record in archive.records()):
        time.sleep(0.01)
    return write_outputs(context)


def _bad_stage(_: Context) -> None:
    raise ValueError("no")


def wait_in_pool(said: Path) -> None:
    """A process whose pool works for ever; tells its own number and those of the processes below it."""
    with Pool("targets:act", 1) as pool:
        pool.submit("a", "wait")
        for event in pool.events():
            if hasattr(event, "value"):
                said.with_suffix(".tmp").write_text(" ".join(map(str, event.value)))
                said.with_suffix(".tmp").rename(said)


if __name__ == "__main__":
    wait_in_pool(Path(sys.argv[1]))
