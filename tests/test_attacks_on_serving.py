"""What hostile or broken clients, and broken models, try with a server: each attack is one test, named after what holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import RECORD, FakeModel, InProcess, Shop, make_litert, make_loaded, serving

from kit.errors import UsageError
from kit.model.servable import Field, Signature
from kit.server import protocol
from kit.server.batcher import Batcher
from kit.server.following import free
from kit.server.main import Server, _configure, bind
from kit.server.main import _uvicorn_log as uvicorn_log
from kit.server.tensors import Layout

TEXTS = Signature((Field("text", "string"), Field("x", "float32")), (Field("y", "float32", (None,)),))


@contextlib.asynccontextmanager
async def listening(folder: Path, model: Any = None, **limits: Any) -> AsyncIterator[tuple[InProcess, int]]:
    """While entered, a model is served in this process on a socket; gives it with its port."""
    it = InProcess(make_loaded(model or FakeModel(), folder / "served", **limits))
    with bind("127.0.0.1", 0) as bound:
        server = Server(_configure(it.app))
        task = await server.start(bound)
        try:
            yield it, bound.getsockname()[1]
        finally:
            server.should_exit = True
            await task
            await it.client.aclose()
            await free(it.current.served)


async def send(port: int, *parts: bytes) -> bytes:
    """All that comes back for some bytes, until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


def run(act: Any, folder: Path, model: Any = None, **settings_: Any) -> Any:
    async def main() -> Any:
        async with serving(model or FakeModel(), folder / "served", **settings_) as it:
            return await act(it)

    return asyncio.run(main())


@pytest.mark.parametrize("value", ["9" * 5000, "-" + "9" * 5000, "1e400", "9" * 400, "9" * 30])
@pytest.mark.parametrize("column", ["hour", "distance"])
@pytest.mark.parametrize("text", ["AA", "NaN"])
def test_number_that_no_type_holds_is_400_and_no_fault_of_the_server(tmp_path, value, column, text):
    async def act(it: InProcess) -> None:
        record = json.dumps({**RECORD, "carrier": text, column: 0}).replace(f'"{column}": 0', f'"{column}": {value}')
        fits = column == "distance" and value == "9" * 30  # 1e30 is a float32
        for path, body in {
            "/v1/models/flights:predict": f'{{"instances": [{record}]}}',
            "/v2/models/flights/infer": f'{{"inputs": [], "parameters": {record}, "id": 7}}',
        }.items():
            answer = await it.client.post(path, content=body)
            assert answer.status_code == (200 if fits and path.startswith("/v1") else 400), answer.text
            assert value[:30] not in answer.text or fits

    run(act, tmp_path)


def test_values_in_the_place_of_a_signatures_name_are_neither_answered_nor_logged(tmp_path):
    async def act(it: InProcess) -> None:
        answer = await it.predict(instances=[RECORD], signature_name={"patient": "Jane Doe"})
        assert answer.json()["error"].startswith("a signature that is no text is not served")
        it.log.flush()
        assert "Jane" not in str(it.lines)

    run(act, tmp_path)


def test_rows_over_the_limit_are_refused_before_their_cells_are_looked_at(tmp_path):
    async def act(it: InProcess) -> None:
        rows = [1, *[None] * 50]  # none of them is a row at all
        by_row = await it.predict(instances=rows)
        by_column = await it.predict(inputs=dict.fromkeys(RECORD, rows))
        for answer in (by_row, by_column):
            assert answer.status_code == 413
            assert answer.json() == {"error": "a request may have 50 rows, this one has 51: split it"}

    run(act, tmp_path, max_queue_rows=50)


def test_head_without_an_end_is_431_and_is_not_kept(tmp_path):
    async def main() -> None:
        async with listening(tmp_path) as (it, port):
            header = b"a: " + b"b" * 1000 + b"\r\n"
            for parts in ([b"GET /v2 HTTP/1.1\r\n", *[header] * 2000], [b"GET /" + b"a" * 1_000_000]):
                with uvicorn_log(it.log):
                    answer = await send(port, *parts)
                assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # reset while the client still sent
            told = [line["detail"] for line in it.lines if line.get("event") == "http"]
            assert told == ["A request's head is larger than 65536 bytes."] * 2
            large = b"GET /v2 HTTP/1.1\r\nConnection: close\r\na: " + b"b" * 60_000 + b"\r\n\r\n"
            assert (await send(port, large)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(main())


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\na: b\r\n"])
def test_connection_that_never_asks_is_closed(tmp_path, monkeypatch, begun):
    monkeypatch.setattr(protocol, "HEAD_S", 0.05)
    monkeypatch.setattr(protocol, "KEEP_ALIVE_S", 0.05)

    async def main() -> None:
        async with listening(tmp_path) as (_, port):
            assert await send(port, begun) == b""
            whole = b"GET /v2/health/live HTTP/1.1\r\n\r\n"
            assert (await send(port, whole + begun)).count(b"HTTP/1.1 200 ") == 1 if begun.strip() else True

    asyncio.run(main())


def test_what_follows_a_body_as_a_trailer_is_no_header(tmp_path):
    async def main() -> None:
        async with listening(tmp_path) as (_, port):
            body = json.dumps({"instances": [RECORD]}).encode()
            head = (
                b"POST /v1/models/flights:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            chunks = b"%x\r\n%s\r\n0\r\nX-Request-Id: later\r\n\r\n" % (len(body), body)
            answer = await send(port, head + chunks)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"later" not in answer

    asyncio.run(main())


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_request_that_offers_to_go_on_otherwise_is_answered_as_it_is(tmp_path, upgrade, is_split):
    """Java's HttpClient sends its first request to each server so."""

    async def main() -> None:
        async with listening(tmp_path) as (it, port):
            body = json.dumps({"instances": [RECORD]}).encode()
            offer = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMA\r\n".encode()
            head = b"POST /v1/models/flights:predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\n%sContent-Length: %d\r\n\r\n"
            last = b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n"
            whole = head % (offer, len(body)) + body + last
            parts = [whole[at : at + 7] for at in range(0, len(whole), 7)] if is_split else [whole]
            with uvicorn_log(it.log):
                answer = await send(port, *parts)
            assert answer.count(b"HTTP/1.1 200 OK") == 2, answer
            assert b"x-request-id: 1" in answer
            assert b"predictions" in answer
            assert not [line for line in it.lines if line.get("event") == "http"]
            connect = await send(port, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connect.startswith(b"HTTP/1.1 400 ")

    asyncio.run(main())


def test_client_cannot_make_labels_headers_or_log_lines(tmp_path):
    async def act(it: InProcess) -> None:
        for number in range(20):
            for path in (f"/v1/models/m{number}", f"/{number}", f"/v2/models/flights/versions/{number + 9}/infer"):
                found = await it.client.post(path, headers={"x-request-id": f"{number}"})
                assert found.status_code in (404, 405)
        evil = await it.client.get("/v2/models/%0d%0aX-Evil:%201%0a{}", headers=[("x-request-id", "a\tb")])
        assert "x-request-id" not in evil.headers
        assert "x-evil" not in evil.headers
        series = [line for line in it.metrics.encode().decode().splitlines() if line.startswith("kit_requests_total")]
        assert len(series) == 1
        assert 'route="other"' in series[0]

    run(act, tmp_path)


def test_answers_of_odd_kinds_fail_their_request_and_the_model_is_asked_on(tmp_path):
    answers: list[Any] = [
        None,
        [1],
        {"p_late": 5},
        {"p_late": None},
        {},
        {"other": np.zeros(1)},
        {"p_late": np.float32(1)},
    ]

    def act_oddly(columns: Any) -> Any:
        index = int(columns["distance"][0])
        return answers[index] if 0 <= index < len(answers) else None

    class Odd(FakeModel):
        def predict(self, columns: Any) -> Any:
            index = int(columns["distance"][0])
            return answers[index] if index < len(answers) else super().predict(columns)

    async def act(it: InProcess) -> None:
        for index in range(len(answers)):
            bad = await it.predict(instances=[{**RECORD, "distance": index}])
            assert bad.status_code in (200, 500), index
            good = await it.predict(instances=[{**RECORD, "distance": 500}])
            assert (good.status_code, good.json()) == (200, {"predictions": [0.5]}), index

    run(act, tmp_path, Odd(act=act_oddly), timeout_s=5.0)


def test_parts_of_a_large_request_that_do_not_fit_together_fail_it_and_nothing_else():
    """A model may give as many values a row as the longest text of its batch has letters."""

    class Wide:
        signature = TEXTS

        def predict(self, columns: Any) -> Any:
            width = max(map(len, columns["text"]))
            return {"y": np.repeat(columns["x"][:, None], width, axis=1)}

    async def main() -> None:
        layout = Layout(TEXTS.inputs)
        batcher = Batcher(Wide().predict, layout, 2, 100)
        rows = layout.from_columns({"text": ["a", "a", "bbb"], "x": [1, 2, 3]})
        with pytest.raises(Exception, match="ValueError from what the model answered"):
            await batcher.ask(rows)
        again = await asyncio.wait_for(batcher.ask(layout.from_columns({"text": ["a"], "x": [1]})), 5)
        assert again["y"].tolist() == [[1.0]]
        batcher.close()

    asyncio.run(main())


def test_model_that_hangs_turns_readiness_off_and_holds_up_nobodys_end(tmp_path):
    release = threading.Event()

    async def act(it: InProcess) -> None:
        assert (await it.predict(instances=[RECORD])).status_code == 504
        while not it.served.is_stuck:
            await asyncio.sleep(0.01)
        for path in ("/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights"):
            assert (await it.client.get(path)).status_code == 503
        assert (await it.client.get("/v2/health/live")).status_code == 200
        started = time.monotonic()
        await asyncio.to_thread(it.served.batcher.close, 0.05)
        assert time.monotonic() - started < 5
        release.set()

    try:
        run(act, tmp_path, FakeModel(act=lambda _: release.wait(60) and None), timeout_s=0.05)
    finally:
        release.set()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), min_size=1, max_size=40))
def test_nobody_gets_the_answers_of_another(tmp_path_factory, requests):
    """Each request has its own numbers; those that ask together are answered from one batch."""

    async def act(it: InProcess) -> None:
        async def ask(distances: list[int]) -> list[float]:
            answer = await it.predict(instances=[{**RECORD, "distance": each} for each in distances])
            found: list[float] = answer.json()["predictions"]
            return found

        answers = await asyncio.gather(*map(ask, requests))
        expected = [(np.float32(each) / np.float32(1000)).tolist() for each in requests]
        assert answers == expected

    run(act, tmp_path_factory.mktemp("mix"), max_batch_rows=7)


@pytest.mark.parametrize("host", ["..", "a" * 70, "no host", "\ud800"])
def test_host_that_is_no_name_is_wrong_use(host):
    with pytest.raises(UsageError, match="cannot listen on"):
        bind(host, 0)


# A server whose release takes its time to load: it says so, and then waits for the signal.
SLOW = """
import sys, threading
from kit.server.main import bind, serve
def load():
    try:
        print("loading", flush=True)
        threading.Event().wait(60)
    finally:
        print("left nothing", flush=True)
with bind("127.0.0.1", 0) as bound:
    serve(load, bound, print)
"""


@contextlib.contextmanager
def loading_slowly() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "loading\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.kernel
def test_signals_while_it_loads_end_it_at_once_or_wait():
    with loading_slowly() as process:
        process.send_signal(signal.SIGHUP)  # as whoever promotes a release would send it
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "left nothing\n", "")
    with loading_slowly() as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert out == "left nothing\n"
        assert "KeyboardInterrupt" in err  # which the command line makes exit code 130


@pytest.mark.kernel
def test_server_that_is_interrupted_while_it_loads_leaves_no_folder(tmp_path):
    shop = Shop(tmp_path, '[serving]\nrepresentation = "litert"\n[gates.litert]\n')
    shop.release(make_litert(tmp_path / "litert"))
    command = [sys.executable, "-m", "kit.cli", "serve", "--env", "production", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    assert "verifying and loading" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)  # before the first line of loading it simply ends
    assert list((tmp_path / ".kit").rglob("serving/*")) == []
