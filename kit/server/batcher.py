"""Micro-batches: what arrives while the model is at work is asked together, next.

A lone request never waits for others: collecting happens only while a batch is in flight. One thread runs the model; all
else happens in the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kit.server.answer import RequestError
from kit.server.tensors import Layout, Rows, join, split

Outputs = dict[str, np.ndarray[Any, Any]]
Predict = Callable[[dict[str, np.ndarray[Any, Any]]], Outputs]

RETRY_AFTER = ((b"retry-after", b"1"),)
CLOSE_S = 5.0  # that a closing batcher waits for its last batch: no one does any more


class ModelError(Exception):
    """The model raised, or gave another number of rows than it was asked about."""


class _Waiting:
    """Rows that somebody waits for."""

    __slots__ = ("future", "rows")

    def __init__(self, rows: Rows, future: asyncio.Future[Outputs]) -> None:
        self.rows, self.future = rows, future


def _refuse(_: object) -> Outputs:
    raise RuntimeError("the model was let go")


class Batcher:
    """A queue of requests in front of one model.

    Args:
        predict: the model; called from one thread.
        layout: of its inputs.
        max_batch_rows: that one call takes at most; a request with more is asked alone, in parts.
        max_queue_rows: that may wait.
        on_batch: told the rows of each batch, in the event loop.
    """

    def __init__(
        self,
        predict: Predict,
        layout: Layout,
        max_batch_rows: int,
        max_queue_rows: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._predict, self._layout, self._on_batch = predict, layout, on_batch
        self._max_batch_rows, self._max_queue_rows = max_batch_rows, max_queue_rows
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._is_busy = self._is_woken = False
        self._busy_since = 0.0
        self.n_queued_rows = 0
        self._jobs: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kit-model", daemon=True)
        self._thread.start()

    @property
    def is_congested(self) -> bool:
        """True if what comes now has to wait for more than the batch in flight and the next."""
        return self.n_queued_rows > self._max_batch_rows

    def busy_s(self) -> float:
        """Seconds that the batch in flight has taken so far; 0 if none is."""
        return self._loop.time() - self._busy_since if self._is_busy else 0.0

    async def ask(self, rows: Rows) -> Outputs:
        """The model's answers for some rows; who stops waiting leaves the queue.

        Raises:
            RequestError: 503, the queue is full; 413, it could never take so many rows.
            ModelError: the model failed on these rows.
        """
        if rows.n_rows > self._max_queue_rows:
            raise RequestError(
                413, f"a request may have {self._max_queue_rows} rows, this one has {rows.n_rows}: split it"
            )
        if self.n_queued_rows + rows.n_rows > self._max_queue_rows:
            raise RequestError(503, f"{self.n_queued_rows} rows are waiting: try again in a second", RETRY_AFTER)
        waiting = _Waiting(rows, self._loop.create_future())
        self._queue.append(waiting)
        self.n_queued_rows += rows.n_rows
        self._wake()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            self._leave(waiting)
            raise

    def close(self, limit_s: float = CLOSE_S) -> None:
        """End the thread and let go of the model, when no one asks any more.

        Returns when its last batch is done, or has not come back in `limit_s`: a model that hangs holds up nobody's end.
        """
        self._jobs.put(None)
        self._thread.join(limit_s)
        self._predict = _refuse

    def _wake(self) -> None:
        """Dispatch once the loop has read all that has arrived together."""
        if not self._is_busy and not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._is_woken = False
        if self._is_busy or not self._queue:
            return
        batch = [self._queue.popleft()]
        n_rows, shapes = batch[0].rows.n_rows, batch[0].rows.shapes
        while self._queue and n_rows + self._queue[0].rows.n_rows <= self._max_batch_rows:
            if self._queue[0].rows.shapes != shapes:
                break
            batch.append(self._queue.popleft())
            n_rows += batch[-1].rows.n_rows
        self.n_queued_rows -= n_rows
        self._is_busy, self._busy_since = True, self._loop.time()
        self._jobs.put(batch)
        self._on_batch(n_rows)

    def _leave(self, waiting: _Waiting) -> None:
        try:
            self._queue.remove(waiting)
        except ValueError:
            return  # it is in flight, and its answer will be dropped
        self.n_queued_rows -= waiting.rows.n_rows

    def _work(self) -> None:
        while (batch := self._jobs.get()) is not None:
            self._loop.call_soon_threadsafe(self._finish, batch, self._run(batch))

    def _finish(self, batch: Sequence[_Waiting], results: Sequence[Outputs | ModelError]) -> None:
        self._is_busy = False
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, ModelError):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
        self._wake()

    def _run(self, batch: Sequence[_Waiting]) -> list[Outputs | ModelError]:
        """Answers for each request of a batch; if the batch fails, each is asked alone, so that one harms no other."""
        try:
            return list(self._ask_together([waiting.rows for waiting in batch]))
        except ModelError as error:
            if len(batch) == 1:
                return [error]
        return [self._ask_alone(waiting.rows) for waiting in batch]

    def _ask_alone(self, rows: Rows) -> Outputs | ModelError:
        try:
            return self._ask_together([rows])[0]
        except ModelError as error:
            return error

    def _ask_together(self, parts: Sequence[Rows]) -> list[Outputs]:
        try:
            return self._ask_and_divide(parts)
        except ModelError:
            raise
        except Exception as error:  # answers that do not fit together; the thread must outlive them
            raise ModelError(f"{type(error).__name__} from what the model answered") from error

    def _ask_and_divide(self, parts: Sequence[Rows]) -> list[Outputs]:
        rows = join(parts)
        if rows.n_rows > self._max_batch_rows:
            answers = [self._ask_model(each) for each in split(rows, self._max_batch_rows)]
            outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        else:
            outputs = self._ask_model(rows)
        if len(parts) == 1:
            return [outputs]
        stops = np.cumsum([part.n_rows for part in parts]).tolist()
        return [
            {name: array[stop - part.n_rows : stop] for name, array in outputs.items()}
            for part, stop in zip(parts, stops, strict=True)
        ]

    def _ask_model(self, rows: Rows) -> Outputs:
        try:
            outputs = self._predict(self._layout.columns(rows))
        except Exception as error:  # a model can raise anything; it becomes the answer to these rows
            raise ModelError(f"{type(error).__name__} from the model") from error
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != rows.n_rows:
                raise ModelError(f"output {name!r} has shape {list(array.shape)} for {rows.n_rows} rows")
        return outputs
