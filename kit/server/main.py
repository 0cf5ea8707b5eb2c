"""The serving process: one socket, one event loop, signals, and an end that loses no request that was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from kit.errors import UsageError
from kit.server.app import App
from kit.server.draining import drain
from kit.server.following import Follower, Following, Pinned, free
from kit.server.log import Log, LogHandler
from kit.server.metrics import Metrics
from kit.server.protocol import KEEP_ALIVE_S, Protocol
from kit.server.served import Current, Identity, Loaded, Served

BACKLOG = 2048
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

    async def start(self, bound: socket.socket) -> asyncio.Task[None]:
        """Answer on a socket; gives the task that ends with it.

        Raises:
            UsageError: another process, bound to the same address, listens already.
        """
        try:
            bound.listen(BACKLOG)  # uvloop 0.23 passes over that it cannot listen, and closes the socket
        except OSError as error:
            raise _refuse(format_address(bound), error) from error
        serving, ready = asyncio.create_task(self.serve([bound])), asyncio.create_task(self.is_ready.wait())
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await serving
        return serving


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address, on which no one can connect until it is served; port 0 lets the system choose.

    Raises:
        UsageError: the address is not to be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        bound = socket.socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
        return bound
    except (OSError, UnicodeError) as error:  # a host that is no name: "label empty or too long"
        raise _refuse(f"{host}, port {port}", error) from error


def _refuse(where: str, error: OSError | UnicodeError) -> UsageError:
    reason = error.strerror if isinstance(error, OSError) else None
    return UsageError(
        f"cannot listen on {where}: {reason or error}; choose another with --host and --port (--port 0 lets the "
        f"system choose)"
    )


def serve(
    load: Callable[[], Loaded], bound: socket.socket, announce: Announce, following: Following | Pinned | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP looks at once at what is live, and whether what answers may still be served.

    Args:
        load: gives what answers first; no one can connect before.
        bound: is listened on, and closed at the end.
        announce: is given what answers, and the address, as soon as it does.
        following: where releases come from that may take over; `Pinned` stays with the first and looks only whether it may
            still be served; None looks at nothing.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        with _signals_while_loading():
            loaded = load()  # not in the event loop, whose own way with SIGINT waits until it is done
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(loaded, bound, announce, following))
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def _signals_while_loading() -> Iterator[None]:
    """While entered, SIGTERM ends the process with exit code 0 and leaves no folder; SIGHUP, which would kill it, waits.

    There is nothing to look at yet, and what became live meanwhile is found by the first look.
    """

    def end(*_: object) -> None:
        raise SystemExit(0)

    terminate, hang_up = signal.signal(signal.SIGTERM, end), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGHUP, hang_up)


async def _serve(
    loaded: Loaded, bound: socket.socket, announce: Announce, following: Following | Pinned | None
) -> None:
    metrics, log = Metrics(), Log(_write_line)
    current = Current(Served(loaded, metrics), metrics)
    follower = Follower(current, following, metrics, log) if following else None
    server, stop = Server(_configure(App(current, metrics, log))), asyncio.Event()
    try:
        follows = isinstance(following, Following)
        with _handled_signals(stop, follower, log, follows=follows), _uvicorn_log(log):
            serving = await server.start(bound)
            address, identity = format_address(bound), current.served.identity
            log.tell("serving", release=identity.release, model=identity.model, address=address)
            announce(identity, address)
            async with _followed(follower):
                await stop.wait()
                await drain(server, bound, current, log)
                await serving
    finally:
        await free(current.served)
    log.tell("stopped", release=current.served.identity.release)


@contextlib.asynccontextmanager
async def _followed(follower: Follower | None) -> AsyncIterator[None]:
    """While entered, it looks at what is live."""
    if follower is None:
        yield
        return
    looking = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})
        await follower.wait_until_freed()


def format_address(bound: socket.socket) -> str:
    """A socket's own address, as one of the web."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _configure(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
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
def _handled_signals(stop: asyncio.Event, follower: Follower | None, log: Log, *, follows: bool) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT stop, SIGHUP looks at what is live."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if follower:
            follower.wake()
        if not follows:
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
