"""The application as clients meet it, in this process: addresses, codes, limits, headers, log and metrics."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from servers import RECORD, FakeModel, InProcess, make_loaded, serving

from kit.server.following import free
from kit.server.served import Served

BODY = {"instances": [RECORD]}
V2 = [
    {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]},
    {"name": "distance", "shape": [1], "datatype": "FP32", "data": [250.0]},
    {"name": "hour", "shape": [1], "datatype": "INT64", "data": [7]},
    {"name": "is_night", "shape": [1], "datatype": "BOOL", "data": [False]},
]


def run(act: Any, folder: Path, model: Any = None, **settings: Any) -> Any:
    async def main() -> Any:
        async with serving(model or FakeModel(), folder / "served", **settings) as it:
            return await act(it)

    return asyncio.run(main())


def test_both_protocols_answer_from_the_release(tmp_path):
    async def act(it: InProcess) -> None:
        first = await it.predict(instances=[RECORD, {**RECORD, "distance": 500}])
        assert (first.status_code, first.json()) == (200, {"predictions": [pytest.approx(0.1), 0.5]})
        assert first.headers["x-kit-release"] == "production-4"
        columns = await it.predict(inputs={name: [value] for name, value in RECORD.items()})
        assert columns.json() == {"outputs": [pytest.approx(0.1)]}
        inferred = await it.infer(id="7", inputs=V2)
        assert inferred.json() == {
            "model_name": "flights",
            "model_version": "4",
            "id": "7",
            "outputs": [{"name": "p_late", "datatype": "FP32", "shape": [1], "data": [0.25]}],
        }
        for method, result in {"classify": [[["", pytest.approx(0.1)]]], "regress": [pytest.approx(0.1)]}.items():
            answer = await it.client.post(f"/v1/models/flights/versions/4:{method}", json={"examples": [RECORD]})
            assert (answer.status_code, answer.json()) == (200, {"results": result})

    run(act, tmp_path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2", {"name": "kit", "extensions": ["binary_tensor_data"]}),
        ("/v2/", {"name": "kit"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["flights"]}),
        ("/v2/models/flights", {"name": "flights", "versions": ["4"], "platform": "tensorflow_savedmodel"}),
        ("/v2/models/flights/versions/4", {"name": "flights"}),
        ("/v2/models/flights/ready", {"ready": True}),
        ("/v2/models/flights/versions/4/ready", {"ready": True}),
        ("/v1/models", {"models": ["flights"]}),
        ("/v1/models/flights", {"name": "flights", "ready": True}),
        ("/v1/models/flights/versions/4", {"name": "flights", "ready": True}),
        ("/v1/models/flights/metadata", {"model_spec": {"name": "flights", "signature_name": "", "version": "4"}}),
        ("/v1/models/flights/versions/4/metadata", {}),
    ],
)
def test_every_address_to_read_answers(tmp_path, path, found):
    async def act(it: InProcess) -> None:
        answer = await it.client.get(path)
        assert answer.status_code == 200
        assert answer.json() | found == answer.json()
        assert answer.headers["content-type"] == "application/json"
        head = await it.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, answer.headers["content-length"])

    run(act, tmp_path)


@pytest.mark.parametrize(
    ("method", "path", "code", "sentence"),
    [
        ("POST", "/v1/models/other:predict", 404, "model 'other' is not served here; 'flights' is"),
        ("GET", "/v2/models/other/versions/4", 404, "model 'other' is not served here; 'flights' is"),
        ("POST", "/v1/models/flights/versions/3:predict", 404, "version '3' of 'flights' is not served; '4' is"),
        ("POST", "/v2/models/flights/versions/5/infer", 404, "version '5' of 'flights' is not served; '4' is"),
        (
            "POST",
            "/v1/models/flights:explain",
            404,
            "no such address of model 'flights'; there is :predict, :classify, :regress, /metadata, /infer, /ready",
        ),
        ("GET", "/nothing", 404, "no such address; there is /v1/models, /v2 and /metrics"),
        ("GET", "/v1/models/flights:predict", 405, "expected POST here"),
        ("DELETE", "/v2/models/flights", 405, "expected GET here"),
        ("POST", "/v2/health/live", 405, "expected GET here"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, method, path, code, sentence):
    async def act(it: InProcess) -> None:
        answer = await it.client.request(method, path)
        assert (answer.status_code, answer.json()) == (code, {"error": sentence})
        assert answer.headers.get("allow") == (sentence.split()[1] if code == 405 else None)
        assert answer.headers["x-kit-release"] == "production-4"

    run(act, tmp_path)


def test_wrong_requests_are_refused_in_both_protocols_without_their_values(tmp_path):
    async def act(it: InProcess) -> None:
        secret = {**RECORD, "distance": "secret-4711"}
        wrong = await it.predict(instances=[secret])
        assert (wrong.status_code, wrong.json()) == (
            400,
            {"error": "column 'distance', row 1: expected a number (float32), found a text"},
        )
        less = await it.infer(inputs=V2[1:])
        assert less.status_code == 400
        assert less.json()["error"].startswith("missing column 'carrier'")
        assert (await it.client.post("/v1/models/flights:predict", content=b"{secret")).status_code == 400
        assert "secret" not in json.dumps(it.lines)

    run(act, tmp_path)


def test_body_over_the_limit_is_413_whether_it_says_its_size_or_not(tmp_path):
    kept = 0

    async def act(it: InProcess) -> None:
        async def chunks() -> Any:
            nonlocal kept
            for _ in range(100_000):
                kept += 1
                yield b"x" * 1000

        declared = await it.client.post("/v1/models/flights:predict", content=b"x" * 10_001)
        chunked = await it.client.post("/v1/models/flights:predict", content=chunks())
        for answer in (declared, chunked):
            assert (answer.status_code, answer.json()) == (413, {"error": "a request may have 10000 bytes"})
            assert answer.headers["connection"] == "close"
        assert (await it.client.post("/v1/models/flights:predict", json=BODY)).status_code == 200

    run(act, tmp_path, max_request_bytes=10_000)
    assert kept < 50  # it was not read to its end


@pytest.mark.parametrize(
    ("headers", "code", "sentence"),
    [
        ({"content-encoding": "gzip"}, 415, "a compressed body is not read; send it as it is"),
        ({"inference-header-content-length": "x"}, 400, "header inference-header-content-length: expected a number"),
        ({"inference-header-content-length": "9" * 30}, 400, "header inference-header-content-length: expected a numb"),
    ],
)
def test_wrong_headers_are_refused(tmp_path, headers, code, sentence):
    async def act(it: InProcess) -> None:
        answer = await it.client.post("/v2/models/flights/infer", json={"inputs": V2}, headers=headers)
        assert answer.status_code == code
        assert answer.json()["error"].startswith(sentence)

    run(act, tmp_path)


def test_model_that_takes_too_long_is_504_and_one_that_fails_500(tmp_path):
    opened = threading.Event()

    def wait_or_fail(columns: Any) -> None:
        if columns["distance"][0] < 0:
            raise ValueError("secret-4711")
        assert opened.wait(60)

    async def act(it: InProcess) -> None:
        late = await it.predict(**BODY)
        assert (late.status_code, late.json()) == (504, {"error": "no answer from the model in 0.05 s"})
        opened.set()
        failed = await it.predict(instances=[{**RECORD, "distance": -1}])
        assert (failed.status_code, failed.json()) == (
            500,
            {"error": "the model failed on these rows: ValueError from the model"},
        )
        assert "secret" not in json.dumps(it.lines)

    run(act, tmp_path, FakeModel(act=wait_or_fail), timeout_s=0.05)


def test_body_that_does_not_come_is_408(tmp_path):
    async def act(it: InProcess) -> None:
        async def stall() -> Any:
            yield b'{"instances"'
            await asyncio.Event().wait()

        answer = await it.client.post("/v1/models/flights:predict", content=stall())
        assert (answer.status_code, answer.json()) == (408, {"error": "the body did not come in 0.05 s"})

    run(act, tmp_path, timeout_s=0.05)


def test_full_queue_is_503_with_retry_after(tmp_path):
    entered, opened = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        entered.set()
        assert opened.wait(60)

    async def act(it: InProcess) -> None:
        first = asyncio.create_task(it.predict(**BODY))
        await asyncio.to_thread(entered.wait, 60)
        second = asyncio.create_task(it.predict(**BODY))
        while not it.served.batcher.n_queued_rows:
            await asyncio.sleep(0)
        assert it.figure("kit_queue_rows") == 1
        refused = await it.predict(**BODY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        opened.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]

    run(act, tmp_path, FakeModel(act=wait), max_queue_rows=1)


def test_client_that_goes_away_from_a_long_queue_leaves_it(tmp_path):
    entered, opened = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        entered.set()
        assert opened.wait(60)

    async def act(it: InProcess) -> None:
        tasks = [asyncio.create_task(it.predict(**BODY))]
        await asyncio.to_thread(entered.wait, 60)
        tasks += [asyncio.create_task(it.predict(**BODY)) for _ in range(2)]
        while it.served.batcher.n_queued_rows < 2:
            await asyncio.sleep(0)
        messages = [{"type": "http.request", "body": json.dumps(BODY).encode()}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(_: Any) -> None:
            raise AssertionError("there is no one to answer")

        scope = {"type": "http", "method": "POST", "path": "/v1/models/flights:predict", "headers": []}
        await it.app(scope, receive, send)
        assert it.served.batcher.n_queued_rows == 2
        opened.set()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        assert [line["status"] for line in it.lines] == [499, 200, 200, 200]

    run(act, tmp_path, FakeModel(act=wait), max_batch_rows=1)


def test_draining_is_not_ready_but_alive_and_still_answers(tmp_path):
    async def act(it: InProcess) -> None:
        it.current.is_draining = True
        codes = {
            path: (await it.client.get(path)).status_code
            for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights")
        }
        assert list(codes.values()) == [200, 503, 503, 503]
        answer = await it.predict(**BODY)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    run(act, tmp_path)


def test_log_has_a_line_for_each_request_and_never_a_body_or_an_address(tmp_path):
    async def act(it: InProcess) -> None:
        await it.client.post(
            "/v1/models/flights:predict?key=secret", json=BODY, headers={"X-Request-Id": "id-1", "X-Key": "secret"}
        )
        answer = await it.client.get("/secret", headers={"X-Request-Id": "x\ty"})
        assert "x-request-id" not in answer.headers
        await asyncio.sleep(0)
        first, second = it.lines
        assert {**first, "time": "", "ms": 0} == {
            "time": "",
            "method": "POST",
            "route": "/v1/models/NAME:predict",
            "status": 200,
            "ms": 0,
            "rows": 1,
            "release": "production-4",
            "request_id": "id-1",
        }
        assert (second["route"], second["status"]) == ("other", 404)
        assert "secret" not in json.dumps(it.lines)

    run(act, tmp_path)


def test_metrics_tell_of_requests_batches_and_the_release(tmp_path):
    async def act(it: InProcess) -> None:
        await it.predict(**BODY)
        await it.predict(instances=[])
        await it.client.get("/secret")
        answer = await it.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "secret" not in answer.text
        labels = {"route": "/v1/models/NAME:predict", "version": "4"}
        assert it.figure("kit_requests_total", **labels, code="200") == 1
        assert it.figure("kit_requests_total", **labels, code="400") == 1
        assert it.figure("kit_requests_total", route="other", version="4", code="404") == 1
        assert it.figure("kit_request_seconds_count", route="/v1/models/NAME:predict") == 2
        assert it.figure("kit_batch_rows_sum") == 1
        release = {"release": "production-4", "model": "flights", "version": "4", "manifest_sha256": "0" * 64}
        assert it.figure("kit_release_info", **release) == 1

    run(act, tmp_path)


def test_fault_of_the_server_is_one_answer_and_names_a_line(tmp_path):
    async def act(it: InProcess) -> None:
        it.served.layout.from_records = lambda _: 1 / 0  # type: ignore[method-assign,assignment]
        answer = await it.predict(**BODY)
        assert (answer.status_code, answer.json()) == (
            500,
            {"error": "the server failed on this request; its log says where"},
        )
        await asyncio.sleep(0)
        assert it.lines[0]["error"].startswith("ZeroDivisionError in test_server_app.py, line ")

    run(act, tmp_path)


def test_request_that_was_accepted_is_answered_by_its_release_whatever_takes_over(tmp_path):
    entered, opened = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        entered.set()
        assert opened.wait(60)

    async def act(it: InProcess) -> None:
        early = asyncio.create_task(it.predict(**BODY))
        await asyncio.to_thread(entered.wait, 60)
        loaded = make_loaded(FakeModel(offset=10.0), tmp_path / "next", "production-5")
        before = it.current.swap(Served(loaded, it.metrics))
        freeing = asyncio.create_task(free(before))
        late = await it.predict(**BODY)
        assert (late.json(), late.headers["x-kit-release"]) == ({"predictions": [pytest.approx(10.1)]}, "production-5")
        gone = await it.client.post("/v1/models/flights/versions/4:predict", json=BODY)
        assert gone.json() == {"error": "version '4' of 'flights' is not served; '5' is"}
        assert before.folder.exists()
        opened.set()
        answer = await early
        assert (answer.json(), answer.headers["x-kit-release"]) == (
            {"predictions": [pytest.approx(0.1)]},
            "production-4",
        )
        await freeing
        assert not before.folder.exists()

    run(act, tmp_path, FakeModel(act=wait))


def test_only_http_is_served(tmp_path):
    async def act(it: InProcess) -> None:
        with pytest.raises(NotImplementedError, match="websocket"):
            await it.app({"type": "websocket"}, None, None)  # type: ignore[arg-type]

    run(act, tmp_path)
