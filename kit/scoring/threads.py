"""Two threads around a loop: one that makes items ahead of it, one that takes them away behind it; both bounded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

DEPTH = 2

T = TypeVar("T")


class _End:
    """No item follows; `error`: why the thread ended early."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Iterable[T], depth: int = DEPTH) -> Iterator[T]:
    """The items, made by a thread of its own that is at most `depth` + 1 of them ahead.

    What making an item raises is raised here. A consumer that stops early, or is interrupted, ends the thread.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                ready.put(item)
                if stopped.is_set():
                    return
        except BaseException as raised:  # noqa: BLE001  it is raised again where the items are wanted
            error = raised
        ready.put(_End(error))

    thread = threading.Thread(target=make, name="kit-read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error:
            raise item.error
    finally:
        stopped.set()
        while thread.is_alive():  # it may wait for a free place
            with contextlib.suppress(queue.Empty):
                ready.get_nowait()
            thread.join(0.01)


class WriteBehind(Generic[T]):
    """Gives items to a function in a thread of its own, in their order; at most `depth` wait.

    What the function raises is raised by the next `put`, or at the end of the `with` block, which waits for all items.
    After an error, its own or that of the block, the remaining items are dropped.
    """

    def __init__(self, write: Callable[[T], None], depth: int = DEPTH) -> None:
        self._write = write
        self._waiting: queue.Queue[T | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._is_dropped = False
        self._thread = threading.Thread(target=self._work, name="kit-write-behind", daemon=True)

    def put(self, item: T) -> None:
        """Hand over an item; waits while `depth` others wait."""
        if self._error:
            raise self._error
        self._waiting.put(item)

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_dropped = error is not None
        self._waiting.put(_End())
        self._thread.join()
        if self._error and error is None:
            raise self._error

    def _work(self) -> None:
        while not isinstance(item := self._waiting.get(), _End):
            if self._error or self._is_dropped:
                continue
            try:
                self._write(item)
            except BaseException as raised:  # noqa: BLE001  it is raised again where the items come from
                self._error = raised
