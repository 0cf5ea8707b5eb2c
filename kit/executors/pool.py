"""Work in long-lived processes of this machine: named tasks go in, what becomes of each comes out."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from kit.executors.messages import INTERRUPTED, Failed, Progressed
from kit.executors.process import WorkerProcess
from kit.record import Failure

GRACE_S = 15.0  # for an interrupted task to seal its record
KILLED = 3  # from the third request on nothing is waited for


class Stop(Protocol):
    """Requests to stop, such as `kit.engine.signals.Interruption` makes of Ctrl-C; `wake_fd` is readable after each."""

    wake_fd: int
    n_requests: int


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker has got the task."""

    task: str


@dataclass(frozen=True, slots=True)
class TaskProgressed:
    """What the target function reported, as JSON has it."""

    task: str
    value: Any


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """What the target function gave, as JSON has it."""

    task: str
    value: Any


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The target function raised, its process died, or the task was interrupted before it could answer."""

    task: str
    failure: Failure

    @property
    def is_interrupted(self) -> bool:
        """True if it was asked to stop."""
        return self.failure.kind == INTERRUPTED


Event = TaskStarted | TaskProgressed | TaskFinished | TaskFailed


class Pool:
    """Worker processes that execute tasks by calling one function, as many at a time as there are workers.

    Workers start when they are needed, one whose task failed is replaced, as is one that died, and all end with the `with`
    block, or with this process however that ends. Linux ends them with the thread that started them: use a pool in the main
    thread.

    Args:
        target: `module:function`, called with (task, report); the type that it declares for the task is what it gets.
        n_workers: > 0.
        variables: environment variables of the workers, beside those of this process.
    """

    def __init__(self, target: str, n_workers: int, variables: Mapping[str, str] | None = None) -> None:
        self._target, self._n_workers, self._variables = target, n_workers, dict(variables or {})
        self._waiting: deque[tuple[str, Any]] = deque()
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def n_tasks(self) -> int:
        """Tasks that wait or are worked on."""
        return len(self._waiting) + len(self._busy)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def submit(self, name: str, task: Any) -> None:
        """Let a task be executed when its turn comes; it must be a value that msgspec can write as JSON."""
        self._waiting.append((name, task))

    def withdraw(self) -> list[str]:
        """Take back the tasks that no worker has begun; gives their names."""
        names = [name for name, _ in self._waiting]
        self._waiting.clear()
        return names

    def events(self, stop: Stop | None = None) -> Iterator[Event]:
        """What happens to the tasks, until none is left; more may be submitted meanwhile.

        At the first request to stop, tasks that wait are withdrawn and workers are interrupted, which seal what they
        execute; at the second they are interrupted again, which spares their kernels no time; at the third, or when they
        take too long, they are killed.
        """
        n_heard, deadline = 0, float("inf")
        if stop:
            self._selector.register(stop.wake_fd, selectors.EVENT_READ)
        try:
            while self.n_tasks:
                if stop and stop.n_requests > n_heard:
                    n_heard, deadline = stop.n_requests, time.monotonic() + GRACE_S
                    self.withdraw()
                    self._press(n_heard >= KILLED)
                if time.monotonic() > deadline:
                    self._press(True)
                yield from self._assign()
                for worker in self._wait(max(0.05, deadline - time.monotonic()) if n_heard else None):
                    yield from self._hear(worker, n_heard > 0)
        finally:
            if stop:
                with contextlib.suppress(KeyError):  # closed already: the reader of the events raised
                    self._selector.unregister(stop.wake_fd)

    def close(self) -> None:
        """End all workers: idle ones at once, busy ones after they have sealed what they execute."""
        self.withdraw()
        self._press(False)
        deadline = time.monotonic() + GRACE_S
        while self._busy and (left_s := deadline - time.monotonic()) > 0:
            for worker in self._wait(left_s):
                list(self._hear(worker, True))
        for worker in self._busy:
            worker.kill()
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self._selector.close()

    @property
    def _busy(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.task]

    def _press(self, is_over: bool) -> None:
        for worker in self._busy:
            worker.kill() if is_over else worker.interrupt()

    def _assign(self) -> Iterator[Event]:
        while self._waiting and len(self._busy) < self._n_workers:
            worker = next((each for each in self._workers if not each.task), None)
            if worker is None:
                worker = WorkerProcess(self._target, self._variables, self._selector)
                self._workers.append(worker)
            name, task = self._waiting.popleft()
            worker.send(name, task)
            yield TaskStarted(name)

    def _wait(self, timeout_s: float | None) -> list[WorkerProcess]:
        """The workers that have something to say, once each."""
        found: dict[int, WorkerProcess] = {}
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:  # the request to stop; its number is looked at, not its text
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 64)
            else:
                found[id(key.data)] = key.data
        return list(found.values())

    def _hear(self, worker: WorkerProcess, is_stopping: bool) -> Iterator[Event]:
        try:
            for answer in worker.receive():
                name = worker.task
                if isinstance(answer, Progressed):
                    yield TaskProgressed(name, answer.value)
                    continue
                worker.task = ""
                if isinstance(answer, Failed):  # its last word, see `kit.executors.worker.serve`
                    self._remove(worker)
                    yield TaskFailed(name, answer.failure)
                    return
                yield TaskFinished(name, answer.value)
        except EOFError:
            name, worker.task = worker.task, ""
            failure = worker.describe_end()
            self._remove(worker)
            if name:
                yield TaskFailed(name, Failure(INTERRUPTED, failure.message) if is_stopping else failure)

    def _remove(self, worker: WorkerProcess) -> None:
        worker.close()
        self._workers.remove(worker)
