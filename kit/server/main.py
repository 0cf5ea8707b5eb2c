"""The serving process: one socket, one event loop, signals, and an end that loses no request that was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from kit.errors import UsageError
from kit.server.app import App
from kit.server.following import Follower, Following, free
from kit.server.log import Log, LogHandler
from kit.server.metrics import Metrics
from kit.server.served import Current, Identity, Loaded, Served

BACKLOG = 2048
KEEP_ALIVE_S = 75
QUIET_S = 0.25  # without a request, before a draining server closes the connections that are left
LINGER_S = 2.0  # at most so long new connections are taken while draining: whoever sends them here is told to go
SWITCH_S = 0.0005  # a thread that loads a release gives way to requests after so long; Python's own is 0.005

Announce = Callable[[Identity, str], None]


class Server(uvicorn.Server):
    """uvicorn's, but signals are ours, it says when it is ready, and connections that are busy are not closed on."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would die of them at the end, with another exit code than 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.is_ready.set()


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address, on which no one can connect until it is served; port 0 lets the system choose.

    Raises:
        UsageError: the address is not to be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
        return bound
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose another with --host and --port "
            f"(--port 0 lets the system choose)"
        ) from error


def serve(
    load: Callable[[], Loaded], bound: socket.socket, announce: Announce, following: Following | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP looks at once at what is live.

    Args:
        load: gives what answers first; no one can connect before.
        bound: is listened on, and closed at the end.
        announce: is given what answers, and the address, as soon as it does.
        following: where releases come from that may take over; None to stay with the first.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(load, bound, announce, following))
    finally:
        sys.setswitchinterval(before)


async def _serve(
    load: Callable[[], Loaded], bound: socket.socket, announce: Announce, following: Following | None
) -> None:
    metrics, log = Metrics(), Log(_write_line)
    current = Current(Served(load(), metrics), metrics)
    follower = Follower(current, following, metrics, log) if following else None
    server = Server(_configure(App(current, metrics, log)))
    stop = asyncio.Event()
    with _handled_signals(stop, follower, log), _uvicorn_log(log):
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        following_task = asyncio.create_task(follower.run()) if follower else None
        await server.is_ready.wait()
        address, identity = format_address(bound), current.served.identity
        log.tell("serving", release=identity.release, model=identity.model, address=address)
        announce(identity, address)
        await stop.wait()
        if following_task:
            following_task.cancel()
        await _drain(server, current, log)
        await serving
    if follower:
        await follower.wait_until_freed()
    await free(current.served)
    log.tell("stopped", release=current.served.identity.release)


async def _drain(server: Server, current: Current, log: Log) -> None:
    """Answer what was accepted, then let the server end.

    Answers say `connection: close` from now on, so that busy connections end with an answer and not in front of a request.
    """
    current.is_draining = True
    log.tell("draining", open=current.n_open)
    limit_s = min(LINGER_S, current.served.settings.drain_s)
    quiet_s = 0.0
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    n_before = server.server_state.total_requests
    while quiet_s < QUIET_S and loop.time() < end:
        await asyncio.sleep(QUIET_S / 5)
        n_requests = server.server_state.total_requests
        quiet_s = quiet_s + QUIET_S / 5 if (n_requests, current.n_open) == (n_before, 0) else 0.0
        n_before = n_requests
    server.config.timeout_graceful_shutdown = max(1, round(current.served.settings.drain_s))
    server.should_exit = True


def format_address(bound: socket.socket) -> str:
    """A socket's own address, as one of the web."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _configure(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


@contextlib.contextmanager
def _handled_signals(stop: asyncio.Event, follower: Follower | None, log: Log) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT stop, SIGHUP looks at what is live."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if follower:
            follower.wake()
        else:
            log.tell("stayed", detail="SIGHUP has nothing to follow: serve with --env to follow what is live")

    for number, handle in {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: look}.items():
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _uvicorn_log(log: Log) -> Iterator[None]:
    """While entered, what uvicorn says goes into our log."""
    logger, handler = logging.getLogger("uvicorn"), LogHandler(log)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


def _write_line(data: bytes) -> None:
    with contextlib.suppress(OSError):  # who reads the log is gone; requests are still answered
        os.write(sys.stderr.fileno(), data)
