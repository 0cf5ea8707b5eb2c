"""The log: one JSON object a line, of requests and of what happens to the server. Never a body, never an address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from kit.files import Clock, format_time, utc_now

ID_CHARS = 128  # of a request id that a client gave


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log says of one request.

    Attributes:
        time: of its answer.
        method: of HTTP.
        route: the pattern that it met, without the client's own text.
        status: of its answer.
        ms: from its head to its answer.
        release: that answered.
        rows: that were scored.
        request_id: from its X-Request-Id.
        error: why it was refused; names columns, never values.
    """

    time: str
    method: str
    route: str
    status: int
    ms: float
    release: str
    rows: int = 0
    request_id: str = ""
    error: str = ""


class Log:
    """Lines on a stream; those of one turn of the event loop are written together.

    Args:
        write: takes bytes, whole lines.
        clock: gives the time.
    """

    def __init__(self, write: Callable[[bytes], object], clock: Clock = utc_now) -> None:
        self._write, self._clock = write, clock
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def tell_request(
        self, method: str, route: str, status: int, seconds: float, release: str, rows: int, request_id: str, error: str
    ) -> None:
        """One line for a request; call it in the event loop."""
        time, ms = format_time(self._clock()), round(seconds * 1000, 3)
        line = RequestLine(time, method, route, status, ms, release, rows, request_id, error)
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(self._encode(line))

    def tell(self, event: str, **facts: Any) -> None:
        """One line for an event, at once."""
        self.flush()
        self._write(self._encode({"time": format_time(self._clock()), "event": event, **facts}) + b"\n")

    def flush(self) -> None:
        """Write what has been told."""
        if self._lines:
            self._write(b"\n".join(self._lines) + b"\n")
            self._lines.clear()


class LogHandler(logging.Handler):
    """What uvicorn has to say, as events; its tracebacks by their last line."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of it."""
        error = record.exc_info[1] if record.exc_info else None
        facts = {"error": type(error).__name__} if error else {}
        self._log.tell("http", level=record.levelname.lower(), detail=record.getMessage().strip(), **facts)


def clean_request_id(value: bytes) -> str:
    """A client's X-Request-Id; empty if it is longer than 128 characters or not printable ASCII."""
    text = value.decode("latin-1")
    return text if len(text) <= ID_CHARS and text.isascii() and text.isprintable() else ""
