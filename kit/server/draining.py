"""The end of a server: it stops listening, then answers all that was sent before, then closes the connections that are left."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
import sys

import uvicorn

from kit.server.log import Log
from kit.server.served import Current

QUIET_S = 0.25  # without a request, before connections that are left are closed
LINGER_S = 2.0  # at most so long new connections are taken while draining: whoever sends them here is told to go
HANDSHAKE_S = 0.1  # that a connection has which a client began to make before none was taken any more

# What is no option of Python's: a filter of packets on a socket. Source: linux/filter.h, asm-generic/socket.h.
_SO_ATTACH_FILTER = 26
_WITHOUT_SYN = (
    (0x30, 0, 0, 13),  # the flags of the TCP header
    (0x54, 0, 0, 0x12),  # of which SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone begins a connection
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep anything else
)


async def drain(server: uvicorn.Server, bound: socket.socket, current: Current, log: Log) -> None:
    """Answer what was accepted, then let the server end.

    Answers say `connection: close` from now on, so that busy connections end with an answer and not in front of a request.

    Args:
        server: answers on the socket.
        bound: the socket that it listens on.
        current: is told.
        log: likewise.
    """
    current.is_draining = True
    log.tell("draining", open=current.n_open)
    limit_s = current.served.settings.drain_s
    await _wait_for_quiet(server, current, min(LINGER_S, limit_s))
    end = asyncio.get_running_loop().time() + limit_s
    await stop_listening(server.servers, bound)
    await _wait_for_quiet(server, current, limit_s)
    server.config.timeout_graceful_shutdown = max(1, round(end - asyncio.get_running_loop().time()))
    server.should_exit = True


async def stop_listening(servers: list[asyncio.Server], bound: socket.socket) -> None:
    """Take no connection any more, but every one that a client has: closing a socket resets those that wait in its queue.

    Where there is no filter of packets, one that is made in the microseconds before the close can still be reset.

    Args:
        servers: those that listen, all on the one socket.
        bound: that socket.
    """
    _drop_beginnings(bound)
    await asyncio.sleep(HANDSHAKE_S)
    loop = asyncio.get_running_loop()
    end = loop.time() + LINGER_S
    while _has_waiting(bound) and loop.time() < end:
        await asyncio.sleep(0)  # libuv accepts one in each turn of its loop
    for each in servers:
        each.close()


async def _wait_for_quiet(server: uvicorn.Server, current: Current, limit_s: float) -> None:
    """Return when no request came or is open for a moment, or after so many seconds."""
    quiet_s, step_s = 0.0, QUIET_S / 5
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    n_before = server.server_state.total_requests
    while quiet_s < QUIET_S and loop.time() < end:
        await asyncio.sleep(step_s)
        n_requests = server.server_state.total_requests
        quiet_s = quiet_s + step_s if (n_requests, current.n_open) == (n_before, 0) else 0.0
        n_before = n_requests


def _drop_beginnings(bound: socket.socket) -> None:
    """Let the system drop packets that begin a connection; a client sends them again, and then is refused."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _WITHOUT_SYN))
    with contextlib.suppress(OSError):  # a sandbox may have none
        where = struct.pack("HP", len(_WITHOUT_SYN), ctypes.addressof(program))
        bound.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)


def _has_waiting(bound: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    waiting = select.poll()
    waiting.register(bound, select.POLLIN)
    return bool(waiting.poll(0))
