"""The servers that run now, and ending them."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kit.warm.folder import WarmFolder, connect, open_folder
from kit.warm.wire import Closed, Connection, await_message

ANSWER_S = 5.0
# One that has imported TensorFlow, pandas and Great Expectations holds 0.4 GB.
MOST_SERVERS = 6


class Server(msgspec.Struct, frozen=True):
    """A process that forks kernels.

    Attributes:
        pid: its process id.
        preloaded: top-level names of what it has imported, sorted.
        n_kernels: that run now.
        n_forked: kernels so far.
        started: when, in UTC.
        idle_s: seconds since it was last used.
        memory_bytes: resident, of the server itself; its kernels share most of it.
    """

    pid: int
    preloaded: tuple[str, ...]
    n_kernels: int
    n_forked: int
    started: datetime
    idle_s: float
    memory_bytes: int


def list_servers() -> list[Server]:
    """This user's servers that answer, the oldest first.

    Raises:
        WarmUnavailableError: their folder cannot be trusted.
    """
    return _ask_all("describe")


def stop_servers() -> list[Server]:
    """Let them end: at once, or as soon as the kernels that run have ended; gives those that were told.

    Raises:
        WarmUnavailableError: their folder cannot be trusted.
    """
    return _ask_all("stop")


def make_room(place: WarmFolder) -> None:
    """Let those end that nobody has used for longest, so that one more is not too many."""
    found = [(server, path) for path in place.sockets() if (server := _ask(path, "describe"))]
    unused = sorted((pair for pair in found if not pair[0].n_kernels), key=lambda pair: -pair[0].idle_s)
    for _, path in unused[: max(0, len(found) - MOST_SERVERS + 1)]:
        _ask(path, "stop")


def _ask_all(kind: str) -> list[Server]:
    if sys.platform != "linux":
        return []
    answers = (_ask(path, kind) for path in open_folder().sockets())
    return sorted((server for server in answers if server), key=lambda server: server.started)


def _ask(path: Path, kind: str) -> Server | None:
    """None for one that has died, whose socket goes, and for one that does not answer."""
    try:
        connection = Connection(connect(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return None
    except OSError:
        return None
    memory_bytes = read_memory(connection.peer[0])  # before it may end
    try:
        connection.send({"kind": kind})
        answer, _ = await_message(connection, ANSWER_S)
    except (Closed, TimeoutError):
        return None
    finally:
        connection.close()
    started = datetime.fromtimestamp(answer["started"], UTC)
    return msgspec.convert({**answer, "started": started, "memory_bytes": memory_bytes}, Server)


def read_memory(pid: int) -> int:
    """Resident bytes of a process; 0 if there is none."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
