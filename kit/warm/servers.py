"""The servers that run now, and ending them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kit.executors.capacity import available_memory_bytes
from kit.warm.folder import WarmFolder, connect, open_folder
from kit.warm.key import Edition
from kit.warm.wire import Closed, Connection, await_message

ANSWER_S = 5.0
MOST_SERVERS = 6
# Of what is available without them. One that has imported TensorFlow, pandas and Great Expectations holds 0.4 GB of its own.
MOST_MEMORY = 0.25


class Server(msgspec.Struct, frozen=True):
    """A process that forks kernels.

    Attributes:
        pid: its process id.
        preloaded: top-level names of what it has imported, sorted.
        n_kernels: that run now.
        n_forked: kernels so far.
        started: when, in UTC.
        idle_s: seconds since it was last used.
        memory_bytes: of the server itself, without the libraries' files, which all servers share; its kernels share most of it.
        family, edition: see `kit.warm.key.Edition`; empty for a server of an earlier kit.
    """

    pid: int
    preloaded: tuple[str, ...]
    n_kernels: int
    n_forked: int
    started: datetime
    idle_s: float
    memory_bytes: int
    family: str = ""
    edition: str = ""


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


def make_room(place: WarmFolder, edition: Edition) -> None:
    """Before one more is started: let those end that nobody can ask any more, and the longest unused if they were too much."""
    found = {path: server for path in place.sockets() if (server := _ask(path, "describe"))}
    stale = [
        path for path, server in found.items() if server.family == edition.family and server.edition != edition.digest
    ]
    for path in stale:
        _ask(path, "stop")
        del found[path]
    for path in choose_surplus(found, available_memory_bytes()):
        _ask(path, "stop")


def choose_surplus(found: Mapping[Path, Server], available_bytes: int | None) -> list[Path]:
    """Those that must end so that one more is neither one too many nor too much memory; only of those without kernels.

    Args:
        found: that run.
        available_bytes: of memory; None if nobody knows.
    """
    n_left, held_bytes = len(found), sum(server.memory_bytes for server in found.values())
    most_bytes = float("inf") if available_bytes is None else MOST_MEMORY * (available_bytes + held_bytes)
    surplus = []
    for path in sorted((path for path in found if not found[path].n_kernels), key=lambda path: -found[path].idle_s):
        if n_left < MOST_SERVERS and held_bytes < most_bytes:
            break
        surplus.append(path)
        n_left, held_bytes = n_left - 1, held_bytes - found[path].memory_bytes
    return surplus


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
    with contextlib.suppress(KeyError, msgspec.ValidationError):  # else it is of another kit
        started = datetime.fromtimestamp(answer["started"], UTC)
        return msgspec.convert({**answer, "started": started, "memory_bytes": memory_bytes}, Server)
    return None


def read_memory(pid: int) -> int:
    """Resident bytes of a process that are no file's; 0 if there is none."""
    with contextlib.suppress(OSError):
        _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
        return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
    return 0
