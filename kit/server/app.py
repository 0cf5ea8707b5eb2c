"""The ASGI application: bodies with limits and time-outs in, one answer out, a log line and metrics for each.

Written to ASGI itself, because a framework's request and response objects cost more than the model's share of a batch.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kit.server.answer import JSON, Answer, Headers, Request, RequestError
from kit.server.batcher import ModelError
from kit.server.log import Log, clean_request_id
from kit.server.metrics import Metrics
from kit.server.routes import OTHER, Routes
from kit.server.served import Current, Served
from kit.server.v2 import SIZE_HEADER

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE = ((b"connection", b"close"),)
DISCARDED_PARTS = 4  # a body that is too large is read on, and thrown away, up to so many times the limit
BAD_REQUEST = 400
CLIENT_GONE = 499  # in log and metrics, after nginx: there was no one to answer


class Head(NamedTuple):
    """What is used of a request's headers."""

    size: int | None
    json_size: int | None
    encoding: bytes
    request_id: str


class _DisconnectedError(Exception):
    """The client is gone."""


class App:
    """Answers for what is current.

    Args:
        current: the release that answers, and whether the server is draining.
        metrics: are told of each answer.
        log: likewise.
    """

    def __init__(self, current: Current, metrics: Metrics, log: Log) -> None:
        self._current, self._metrics, self._log = current, metrics, log
        self._routes = Routes(current.served, current, metrics)
        current.call_on_swap(self._prepare)

    def _prepare(self, served: Served) -> None:
        self._routes = Routes(served, self._current, self._metrics)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"only HTTP is served, not {scope['type']}")
        started = time.perf_counter()
        self._current.n_open += 1
        try:
            await self._handle(scope, receive, send, started)
        finally:
            self._current.n_open -= 1

    async def _handle(self, scope: Message, receive: Receive, send: Send, started: float) -> None:
        exchange = _Exchange(self._current.served)
        head = Head(None, None, b"", "")
        try:
            head = read_head(scope["headers"])
            answer = await self._answer(scope, head, receive, exchange)
        except RequestError as error:
            # what is wrong with a body may quote it, so only the client is told
            exchange.error = error.sentence if error.status != BAD_REQUEST else "bad request"
            answer = refuse(error.status, error.sentence, error.headers)
        except _DisconnectedError:
            answer = Answer(b"", CLIENT_GONE)
        except Exception as error:  # noqa: BLE001  a fault of ours is one answer's, and names no value
            exchange.error = locate(error)
            answer = refuse(500, "the server failed on this request; its log says where")
        served = exchange.served
        if answer.status != CLIENT_GONE:
            await self._send(answer, served, head.request_id, send)
        seconds = time.perf_counter() - started
        self._metrics.count_request(exchange.route, served.identity.version, answer.status, seconds)
        self._log.tell_request(
            scope["method"], exchange.route, answer.status, seconds, served.identity.release,
            answer.n_rows, head.request_id, exchange.error,
        )  # fmt: skip

    async def _answer(self, scope: Message, head: Head, receive: Receive, exchange: _Exchange) -> Answer:
        limit_s = exchange.served.settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                body = b""
                if scope["method"] not in ("GET", "HEAD"):
                    body = await read_body(head, receive, exchange.served.settings.max_request_bytes)
                # Here the request is accepted: from now on it belongs to one release, whatever takes over meanwhile.
                routes, exchange.served = self._routes, self._current.served
                exchange.is_read = True
                with exchange.served.hold():
                    return await self._act(routes, scope, Request(body, head.json_size), receive, exchange)
        except TimeoutError:
            if exchange.is_read:
                raise RequestError(504, f"no answer from the model in {limit_s:g} s") from None
            raise RequestError(408, f"the body did not come in {limit_s:g} s", CLOSE) from None
        except ModelError as error:
            raise RequestError(500, f"the model failed on these rows: {error}") from error

    async def _act(
        self, routes: Routes, scope: Message, request: Request, receive: Receive, exchange: _Exchange
    ) -> Answer:
        route = routes.find(scope["method"], scope["path"])
        exchange.route = route.pattern
        if exchange.served.batcher.is_congested:
            return await _while_connected(route.act(request), receive)
        return await route.act(request)

    async def _send(self, answer: Answer, served: Served, request_id: str, send: Send) -> None:
        size = str(len(answer.body)).encode()
        headers = [(b"content-type", answer.media_type), (b"content-length", size), *served.headers, *answer.headers]
        if request_id:
            headers.append((b"x-request-id", request_id.encode()))
        if self._current.is_draining:
            headers += CLOSE
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


class _Exchange:
    """What is known of a request while it is answered."""

    __slots__ = ("error", "is_read", "route", "served")

    def __init__(self, served: Served) -> None:
        self.served, self.route, self.error, self.is_read = served, OTHER, "", False


def read_head(headers: list[tuple[bytes, bytes]]) -> Head:
    """What is used of a request's headers.

    Raises:
        RequestError: a size that is no number.
    """
    size = json_size = None
    encoding, request_id = b"", ""
    for name, value in headers:
        if name == b"content-length":
            size = _parse_size(name, value)
        elif name == SIZE_HEADER:
            json_size = _parse_size(name, value)
        elif name == b"content-encoding":
            encoding = value
        elif name == b"x-request-id":
            request_id = clean_request_id(value)
    return Head(size, json_size, encoding, request_id)


async def read_body(head: Head, receive: Receive, limit: int) -> bytes:
    """A request's body.

    Raises:
        RequestError: 413, it is larger than the limit, and no more than that was kept; 415, it is compressed.
    """
    if head.encoding not in (b"", b"identity"):
        raise RequestError(415, "a compressed body is not read; send it as it is")
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _DisconnectedError
    body: bytes = message.get("body", b"")
    n_read = len(body)
    parts = [body]
    while message.get("more_body", False) and n_read <= DISCARDED_PARTS * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        part = message.get("body", b"")
        n_read += len(part)
        if n_read <= limit and not (head.size or 0) > limit:
            parts.append(part)
    if n_read > limit or (head.size or 0) > limit:
        raise RequestError(413, f"a request may have {limit} bytes", CLOSE)
    return b"".join(parts) if len(parts) > 1 else body


def refuse(status: int, sentence: str, headers: Headers = ()) -> Answer:
    """An answer that says what is wrong, in the form that both protocols have."""
    return Answer(msgspec.json.encode({"error": sentence}), status, JSON, headers)


def locate(error: BaseException) -> str:
    """An error's kind and the line that raised it; what it says may hold values, so it is not told."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(line.filename).name}, line {line.lineno}"


async def _while_connected(work: Awaitable[Answer], receive: Receive) -> Answer:
    """An answer, unless the client goes away before: then the work is cancelled and leaves the queue."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        done, _ = await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working not in done:
            raise _DisconnectedError
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


def _parse_size(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise RequestError(400, f"header {name.decode('latin-1')}: expected a number of bytes")
    return int(value)
