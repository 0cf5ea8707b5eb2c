"""HTTP/1.1 from uvicorn and httptools, with limits on a request's head: how large it may be, and how long it may take.

uvicorn 0.54 has neither with httptools: a head without an end is kept in memory, and a connection that says nothing, or one
byte a minute, stays open for good (uvicorn's `timeout_keep_alive` begins after the first answer). Of a request that offers to
go on with HTTP/2, as Java's HttpClient does first, its parser drops the body.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10  # of method, address and headers, beyond the first piece that was read
HEAD_S = 10.0  # from a head's first byte to its last
KEEP_ALIVE_S = 75  # without a byte, before the first request or after an answer

_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_INVALID = "Invalid HTTP request received."
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._is_head = False
        self._n_heads = self._n_head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client is there; it has so long to say something."""
        super().connection_made(transport)
        self._wait(KEEP_ALIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes, of a head or of a body."""
        n_heads = self._n_heads
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._is_head and n_heads == self._n_heads:  # else it begins in this piece, behind what may be a body
            self._n_head_bytes += len(data)
            if self._n_head_bytes > HEAD_BYTES:
                self._refuse_head()
        if self._timer is None and self.timeout_keep_alive_task is None and not self._is_answering():
            self._wait(HEAD_S)  # bytes that are no whole head: uvicorn has just stopped its own clock for them

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._is_head, self._n_heads, self._n_head_bytes = True, self._n_heads + 1, 0
        self._wait(HEAD_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes behind a body is none, and nobody asks for it."""
        if self._is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: from here on the application has its own time-outs."""
        self._is_head = False
        self._stop_waiting()
        if not self._offers_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if not self._offers_upgrade():
            super().on_message_complete()

    def _feed(self, data: bytes) -> None:
        """As uvicorn's `data_received`, but an upgrade that is offered is passed over (RFC 9110, section 7.8)."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)
        except httptools.HttpParserUpgrade as upgrade:
            head = self._make_head()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self._feed(head + data[upgrade.args[0] :])

    def _offers_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _make_head(self) -> bytes:
        """The head that was read, without the offer."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token for token in value.lower().replace(b" ", b"").split(b",") if token not in _UPGRADE]
                lines += [b"connection: " + b",".join(tokens)] if tokens else []
            elif name not in _UPGRADE:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.logger.warning("A request's head is larger than %d bytes.", HEAD_BYTES)
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _wait(self, limit_s: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(limit_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self._is_answering():  # else a later request waits behind one that is being answered
            self.transport.close()
