"""Micro-batches: who waits for whom, what a full queue does, and that one bad request harms no other."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from servers import FLIGHTS, FakeModel

from kit.server.answer import RequestError
from kit.server.batcher import Batcher, ModelError
from kit.server.tensors import Layout, Rows

LAYOUT = Layout(FLIGHTS.inputs)


def rows(*distances: float) -> Rows:
    n = len(distances)
    return LAYOUT.from_columns(
        {"carrier": ["a"] * n, "distance": list(distances), "hour": [1] * n, "is_night": [False] * n}
    )


class Gate:
    """A model's act that waits until it is let go on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, _: Any) -> None:
        self.entered.set()
        assert self.opened.wait(60)

    async def wait_until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 60)


def run(act: Callable[[Batcher], Coroutine[Any, Any, Any]], model: FakeModel, **sizes: int) -> Any:
    async def main() -> Any:
        batcher = Batcher(
            model.predict, LAYOUT, **{"max_batch_rows": 4, "max_queue_rows": 8, "on_batch": told.append, **sizes}
        )
        try:
            return await act(batcher)
        finally:
            await asyncio.to_thread(batcher.close)

    told: list[int] = []
    result = asyncio.run(main())
    assert told or not model.asked
    return result


async def ask(batcher: Batcher, *distances: float) -> list[float]:
    answers = await batcher.ask(rows(*distances))
    return [round(value, 3) for value in answers["p_late"].tolist()]


def test_requests_that_arrive_together_are_asked_together_and_get_their_own_rows():
    model = FakeModel()

    async def act(batcher: Batcher) -> list[list[float]]:
        return await asyncio.gather(ask(batcher, 100), ask(batcher, 200, 300), ask(batcher, 400))

    assert run(act, model) == [[0.1], [0.2, 0.3], [0.4]]
    assert model.sizes == [4]


def test_a_lone_request_waits_for_no_other():
    model = FakeModel()

    async def act(batcher: Batcher) -> list[list[float]]:
        return [await ask(batcher, 100), await ask(batcher, 200)]

    assert run(act, model) == [[0.1], [0.2]]
    assert model.sizes == [1, 1]


def test_what_arrives_while_a_batch_is_in_flight_is_collected_up_to_the_largest_batch():
    gate = Gate()
    model = FakeModel(act=gate)

    async def act(batcher: Batcher) -> list[list[float]]:
        first = asyncio.create_task(ask(batcher, 100))
        await gate.wait_until_entered()
        others = [asyncio.create_task(ask(batcher, value, value)) for value in (200, 300, 400)]
        await asyncio.sleep(0)
        assert batcher.n_queued_rows == 6
        assert batcher.is_congested
        gate.opened.set()
        return await asyncio.gather(first, *others)

    assert run(act, model) == [[0.1], [0.2, 0.2], [0.3, 0.3], [0.4, 0.4]]
    assert model.sizes == [1, 4, 2]


def test_request_larger_than_a_batch_is_asked_alone_in_parts():
    model = FakeModel()

    async def act(batcher: Batcher) -> list[list[float]]:
        return await asyncio.gather(ask(batcher, 100), ask(batcher, *range(100, 600, 100)), ask(batcher, 600))

    assert run(act, model) == [[0.1], [0.1, 0.2, 0.3, 0.4, 0.5], [0.6]]
    assert model.sizes == [1, 4, 1, 1]


def test_full_queue_refuses_with_retry_after_and_too_many_rows_for_good():
    gate = Gate()

    async def act(batcher: Batcher) -> None:
        first = asyncio.create_task(ask(batcher, 1))
        await gate.wait_until_entered()
        waiting = asyncio.create_task(ask(batcher, *range(7)))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as full:
            await ask(batcher, 1, 2)
        assert (full.value.status, full.value.headers) == (503, ((b"retry-after", b"1"),))
        with pytest.raises(RequestError) as large:
            await ask(batcher, *range(9))
        assert (large.value.status, large.value.sentence) == (
            413,
            "a request may have 8 rows, this one has 9: split it",
        )
        gate.opened.set()
        await asyncio.gather(first, waiting)

    run(act, FakeModel(act=gate))


def test_who_stops_waiting_leaves_the_queue():
    gate = Gate()
    model = FakeModel(act=gate)

    async def act(batcher: Batcher) -> list[float]:
        first = asyncio.create_task(ask(batcher, 100))
        await gate.wait_until_entered()
        leaving, staying = asyncio.create_task(ask(batcher, 200)), asyncio.create_task(ask(batcher, 300))
        await asyncio.sleep(0)
        leaving.cancel()
        first.cancel()  # it is in flight: its answer is dropped
        await asyncio.wait([leaving, first])
        assert batcher.n_queued_rows == 1
        gate.opened.set()
        return await staying

    assert run(act, model) == [0.3]
    assert [columns["distance"] for columns in model.asked] == [[100.0], [300.0]]


def test_one_request_that_the_model_fails_on_does_not_fail_its_neighbours():
    def act_on(columns: Any) -> None:
        if 666 in columns["distance"]:
            raise ValueError("secret value 666")

    async def act(batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*(ask(batcher, value) for value in (100, 666, 300)), return_exceptions=True)

    model = FakeModel(act=act_on)
    first, failed, last = run(act, model)
    assert (first, last) == ([0.1], [0.3])
    assert isinstance(failed, ModelError)
    assert str(failed) == "ValueError from the model"
    assert model.sizes == [3, 1, 1, 1]


@pytest.mark.parametrize("answer", [np.zeros(3), np.float32(1)])
def test_answer_of_another_number_of_rows_is_a_failure(answer):
    async def act(batcher: Batcher) -> None:
        with pytest.raises(ModelError, match="for 1 rows"):
            await ask(batcher, 1)

    run(act, FakeModel(act=lambda _: {"p_late": np.asarray(answer)}))


def test_rows_of_different_open_shapes_are_not_mixed():
    from kit.model.servable import Field

    layout = Layout([Field("x", "float32", (None,))])
    asked: list[tuple[int, ...]] = []

    def predict(columns: Any) -> dict[str, Any]:
        asked.append(columns["x"].shape)
        return {"p": columns["x"].sum(axis=1)}

    async def main() -> list[list[float]]:
        batcher = Batcher(predict, layout, 10, 10)
        parts = [layout.from_columns({"x": values}) for values in ([[1, 2]], [[3, 4]], [[1, 2, 3]])]
        answers = await asyncio.gather(*map(batcher.ask, parts))
        await asyncio.to_thread(batcher.close)
        return [answer["p"].tolist() for answer in answers]

    assert asyncio.run(main()) == [[3.0], [7.0], [6.0]]
    assert asked == [(2, 2), (1, 3)]


def test_many_at_once_get_exactly_their_own_answers():
    model = FakeModel()

    async def act(batcher: Batcher) -> list[list[float]]:
        return await asyncio.gather(*(ask(batcher, value, value + 1) for value in range(500)))

    found = run(act, model, max_batch_rows=16, max_queue_rows=1000)
    assert found == [[value / 1000, (value + 1) / 1000] for value in range(500)]
    assert sum(model.sizes) == 1000
    assert max(model.sizes) == 16


def test_model_is_let_go_when_the_batcher_is_closed():
    import weakref

    async def main() -> None:
        model = FakeModel()
        gone = weakref.ref(model)
        batcher = Batcher(model.predict, LAYOUT, 4, 8)
        await batcher.ask(rows(1))
        await asyncio.to_thread(batcher.close)
        del model
        assert gone() is None

    asyncio.run(main())
