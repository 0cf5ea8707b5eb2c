"""Clients that ask `kit serve` all the time, over both protocols, and say of every answer which model gave it.

Each model adds a constant of its own to every row, and no two rows that are on their way at the same time are alike. So a
batch, row or version that was mixed up shows in the number itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import operator
import struct
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import uvloop

STEP = 1000  # between two models' constants; the rows that are asked about are smaller
TIMEOUT_S = 120
MODEL = "example"  # as the project is called


class Answer(NamedTuple):
    """What one answer says of where it comes from; equal ones are counted together.

    Attributes:
        kind: of request.
        status: of HTTP.
        release: of the header X-Kit-Release.
        version: that the body names; empty where the protocol has no place for it.
        constants: that were added to the rows of this request, which a sound answer has one of.
    """

    kind: str
    status: int
    release: str
    version: str
    constants: frozenset[float]

    def fault(self, constants: Mapping[str, float]) -> str:
        """What is wrong with it; empty if nothing is.

        Args:
            constants: of each release that may answer.
        """
        if self.status != 200:
            return f"status {self.status}"
        if self.release not in constants:
            return f"release {self.release!r} may not answer"
        if self.version not in ("", self.release.rpartition("-")[2]):
            return f"header names {self.release}, body version {self.version}"
        if self.constants - {constants[self.release]}:
            return f"{self.release} adds {constants[self.release]}, but {sorted(self.constants)} was added"
        return ""


class Kind(NamedTuple):
    """A kind of request: how its bytes are made of some rows, and how rows and version are read from the answer."""

    name: str
    encode: Callable[[list[float]], bytes]
    read: Callable[[bytes, int], tuple[Sequence[float], str]]


def _encode(path: str, body: bytes, method: str = "POST", more: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


def _encode_v1(key: str) -> Callable[[list[float]], bytes]:
    return lambda rows: _encode(f"/v1/models/{MODEL}:predict", json.dumps({key: rows}).encode())


def _encode_v2(rows: list[float]) -> bytes:
    tensor = {"name": "x", "shape": [len(rows)], "datatype": "FP32", "data": rows}
    return _encode(f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}).encode())


def _encode_binary(rows: list[float]) -> bytes:
    tail = struct.pack(f"<{len(rows)}f", *rows)
    sizes = {"binary_data_size": len(tail)}
    tensor = {"name": "x", "shape": [len(rows)], "datatype": "FP32", "parameters": sizes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    more = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return _encode(f"/v2/models/{MODEL}/infer", head + tail, more=more)


def _read_v2(body: bytes, _: int) -> tuple[Sequence[float], str]:
    content = json.loads(body)
    return content["outputs"][0]["data"], content["model_version"]


def _read_binary(body: bytes, json_size: int) -> tuple[Sequence[float], str]:
    tail = body[json_size:]
    return struct.unpack(f"<{len(tail) // 4}f", tail), json.loads(body[:json_size])["model_version"]


def _read_status(body: bytes, _: int) -> tuple[Sequence[float], str]:
    return (), json.loads(body)["model_version_status"][0]["version"]


def _read_metadata(body: bytes, _: int) -> tuple[Sequence[float], str]:
    content = json.loads(body)
    (version,) = content["versions"]
    return (), version if content["properties"]["release"].endswith(f"-{version}") else "another than its release"


PREDICTIONS = (
    Kind("v1 rows", _encode_v1("instances"), lambda body, _: (json.loads(body)["predictions"], "")),
    Kind("v2 JSON", _encode_v2, _read_v2),
    Kind("v1 columns", _encode_v1("inputs"), lambda body, _: (json.loads(body)["outputs"], "")),
    Kind("v2 binary", _encode_binary, _read_binary),
)
DESCRIPTIONS = (
    Kind("v1 status", lambda _: _encode(f"/v1/models/{MODEL}", b"", "GET"), _read_status),
    Kind("v2 metadata", lambda _: _encode(f"/v2/models/{MODEL}", b"", "GET"), _read_metadata),
)


class _Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._waiting: asyncio.Future[_Response | None] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = transport, True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or not self._waiting or self._waiting.done():
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) >= int(headers["content-length"]):
            self._data = b""
            self._waiting.set_result(_Response(int(first.split()[1]), headers, body))

    async def ask(self, request: bytes) -> _Response | None:
        """The answer; None if the connection ended without one."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)  # type: ignore[attr-defined]
        return await self._waiting

    def close(self) -> None:
        self.is_open = False
        self._transport.close()  # type: ignore[attr-defined]


class Load:
    """Clients that ask all the time, in a thread of their own, until they are stopped or the server is gone.

    Args:
        address: of the server.
        n_connections: that are kept, and made again when the server has closed them.
        pause_s: between an answer and the next request; 0 for as many as the server can.
        kinds: of requests, which each connection takes in turn.
    """

    def __init__(
        self, address: str, n_connections: int, pause_s: float = 0.0, kinds: Sequence[Kind] = PREDICTIONS + DESCRIPTIONS
    ) -> None:
        self._port = int(address.rpartition(":")[2])
        self._n_connections, self._pause_s, self._kinds = n_connections, pause_s, kinds
        self.answers: Counter[Answer] = Counter()
        self.seconds = array("d")  # of each answer
        self.n_unanswered = 0  # requests that were sent on a connection that was made, without an answer
        self.n_refused = 0  # connections that were not made
        self._last = [Answer("", 0, "", "", frozenset())] * n_connections
        self._n_answers = [0] * n_connections
        self._changed, self._is_stopping = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each client get its answer and end."""
        self._is_stopping = True
        self.join()

    def join(self) -> None:
        """Return when every client has ended, as the server takes no connection any more."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "a client still waits"

    @property
    def n_answers(self) -> int:
        """How many came."""
        return len(self.seconds)

    def wait_for_rounds(self, n_rounds: int) -> set[str]:
        """Wait until each client has so many more answers; gives the releases that the last of each came from."""
        goals = [number + n_rounds for number in self._n_answers]
        with self._changed:
            done = self._changed.wait_for(lambda: all(map(operator.ge, self._n_answers, goals)), TIMEOUT_S)
            assert done, f"no answers any more: {self.n_unanswered} unanswered, {self.n_refused} refused"
            return {answer.release for answer in self._last}

    def faults(self, constants: Mapping[str, float]) -> list[str]:
        """What is wrong with answers, one sentence for equal ones; empty if nothing is.

        Args:
            constants: of each release that may answer.
        """
        found = ((answer.fault(constants), answer.kind, number) for answer, number in self.answers.items())
        return [f"{kind}: {fault} ({number} times)" for fault, kind, number in found if fault]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._ask_all())

    async def _ask_all(self) -> None:
        await asyncio.gather(*map(self._ask_on, range(self._n_connections)))

    async def _ask_on(self, number: int) -> None:
        """One client: keeps a connection, and makes it again as long as there is a server."""
        requests = itertools.cycle(list(self._make_requests(number)))
        while not self._is_stopping:
            try:
                _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self._port)
            except OSError:
                self.n_refused += 1
                return
            while connection.is_open and not self._is_stopping:
                await self._ask_once(number, connection, *next(requests))
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)
            connection.close()

    def _make_requests(self, number: int) -> Iterator[tuple[Kind, list[float], bytes]]:
        """Requests of this client, of one to three rows that no other client asks about."""
        base = float(number * STEP // self._n_connections)
        for index, kind in enumerate(self._kinds * 3):
            rows = [base + index + row for row in range(1 + index // len(self._kinds))]
            yield kind, rows, kind.encode(rows)

    async def _ask_once(
        self, number: int, connection: _Connection, kind: Kind, rows: list[float], request: bytes
    ) -> None:
        start = time.perf_counter()
        response = await connection.ask(request)
        seconds = time.perf_counter() - start
        if response is None:
            self.n_unanswered += 1
            return
        answer = _read_answer(kind, rows, response)
        if response.headers.get("connection") == "close":
            connection.close()
        with self._changed:
            self.seconds.append(seconds)
            self.answers[answer] += 1
            self._last[number] = answer
            self._n_answers[number] += 1
            self._changed.notify_all()


def _read_answer(kind: Kind, rows: list[float], response: _Response) -> Answer:
    release = response.headers.get("x-kit-release", "")
    if response.status != 200:
        return Answer(kind.name, response.status, release, "", frozenset())
    json_size = int(response.headers.get("inference-header-content-length", len(response.body)))
    values, version = kind.read(response.body, json_size)
    if kind in PREDICTIONS and len(values) != len(rows):
        return Answer(kind.name, response.status, release, f"{len(values)} answers for {len(rows)} rows", frozenset())
    return Answer(kind.name, response.status, release, version, frozenset(map(operator.sub, values, rows)))
