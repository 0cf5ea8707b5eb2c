"""The private folder where servers can be found: sockets, logs, and what was learnt about each kind of server."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kit.errors import WarmUnavailableError

FOLDER_VARIABLE = "KIT_WARM_FOLDER"
SOCKET_SUFFIX = ".sock"
OLD_S = 7 * 86_400.0
REFUSED_S = 86_400.0
LOG_BYTES = 1 << 20


class WarmFolder:
    """Names in the folder; `key` is a kind of server, `name` one of that kind (see `kit.warm.key`).

    Args:
        path: absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def socket(self, name: str) -> Path:
        """Where a server listens."""
        return self.path / f"{name}{SOCKET_SUFFIX}"

    def names(self, key: str) -> Path:
        """JSON list of the variables that are read at import, in servers of this kind."""
        return self.path / f"{key}.names"

    def refused(self, name: str) -> Path:
        """Why such a server must not fork, a sentence."""
        return self.path / f"{name}.refused"

    def lock(self, key: str) -> Path:
        """Held by whoever starts a server of this kind."""
        return self.path / f"{key}.lock"

    def log(self, key: str) -> Path:
        """What servers of this kind and the libraries that they import put out."""
        return self.path / f"{key}.log"

    def refuse(self, name: str, reason: str) -> None:
        """Let no further such server be started, for a day."""
        with contextlib.suppress(OSError):
            self.refused(name).write_text(reason)

    def cut_log(self, key: str) -> None:
        """Empty a log that has grown over its bound; it is written by appending."""
        with contextlib.suppress(OSError):
            if self.log(key).stat().st_size > LOG_BYTES:
                os.truncate(self.log(key), 0)

    def sockets(self) -> list[Path]:
        """Where servers listen, or once did."""
        return sorted(self.path.glob(f"*{SOCKET_SUFFIX}"))

    def read_names(self, key: str) -> list[str]:
        """The variables that are read at import, as far as it is known."""
        with contextlib.suppress(OSError, ValueError):
            return [str(name) for name in json.loads(self.names(key).read_bytes())]
        return []

    def add_names(self, key: str, names: Iterable[str]) -> list[str]:
        """Let it be known that these are read, too; gives all that are known. For who starts servers of this kind only."""
        known = sorted({*self.read_names(key), *names})
        path = self.names(key)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(known))
        temporary.replace(path)
        return known

    def read_refusal(self, name: str) -> str:
        """The sentence of the last day; empty if there is none."""
        path = self.refused(name)
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < REFUSED_S:
                return path.read_text("utf-8", "replace").strip()
        return ""

    def remove_old(self) -> None:
        """Remove what nobody has used for a week; sockets are removed by their servers, and by who finds them dead."""
        before = time.time() - OLD_S
        for path in self.path.iterdir():
            with contextlib.suppress(OSError):
                if path.suffix != SOCKET_SUFFIX and path.stat(follow_symlinks=False).st_mtime < before:
                    path.unlink()


def open_folder(variables: dict[str, str] | None = None) -> WarmFolder:
    """This user's folder, made if there is none: readable and writable by its owner only.

    Args:
        variables: the environment that says where; this process' own by default.

    Raises:
        WarmUnavailableError: it cannot be made, or others could put something there.
    """
    places = os.environ if variables is None else variables
    runtime = places.get("XDG_RUNTIME_DIR", "")
    if places.get(FOLDER_VARIABLE):
        path = Path(places[FOLDER_VARIABLE])
    elif runtime and os.access(runtime, os.W_OK | os.X_OK) and Path(runtime).stat().st_uid == os.getuid():
        path = Path(runtime, "kit-warm")
    else:
        path = Path(tempfile.gettempdir(), f"kit-warm-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.stat(follow_symlinks=False)
    except OSError as error:
        raise WarmUnavailableError(f"the folder of servers, {path}, cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        where = f"{FOLDER_VARIABLE}: {path}" if places.get(FOLDER_VARIABLE) else str(path)
        raise WarmUnavailableError(
            f"{where} must be a folder that belongs to you and that nobody else may enter (0700)"
        )
    return WarmFolder(path.resolve())


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Another name for a file, short enough for a socket's address (107 bytes), whatever the length of its folder's."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def connect(path: Path) -> socket.socket:
    """A socket that is connected to a server.

    Raises:
        OSError: nobody listens there.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.setblocking(False)  # a server whose queue is full is no server to wait for
        with short_path(path) as address:
            end.connect(address)
    except BaseException:
        end.close()
        raise
    return end
