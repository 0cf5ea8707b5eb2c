"""The private folder of one kernel: its sockets, its connection file, and the pipe on which it says that it listens."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

# sun_path holds 108 bytes with the closing zero (unix(7)); the longest name in the folder is "c-ipc-5".
LONGEST_FOLDER = 107 - len("/c-ipc-5")
FOLDER_PREFIX = "kit-sockets-"
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


class SocketFolder:
    """Made and locked; `ready_fd` becomes readable when the kernel listens.

    The lock goes with the process that holds it, however that ends: what a killed kit leaves is removed by the next one.

    Attributes:
        folder: for this user only.
        info: what jupyter_client calls connection info: transport, ip, ports, key, signature_scheme.
        ready_fd: the reading end of the pipe on which launch.py says that its sockets are bound.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.folder, self._lock_fd = _make_locked(parent or _choose_parent())
        self.info: dict[str, Any] = {
            "transport": "ipc",
            "ip": str(self.folder / "c-ipc"),
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "",
            **{f"{channel}_port": number for number, channel in enumerate(CHANNELS, 1)},
        }
        self.connection_file.touch(mode=0o600)
        self.connection_file.write_text(json.dumps(self.info), encoding="utf-8")
        os.mkfifo(self.ready_pipe, 0o600)
        self.ready_fd = os.open(self.ready_pipe, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def connection_file(self) -> Path:
        """In Jupyter's format (jupyter_client, "Connection files")."""
        return self.folder / "c.json"

    @property
    def ready_pipe(self) -> Path:
        """Its name."""
        return self.folder / "ready"

    def address(self, channel: str) -> str:
        """Of `shell`, `iopub` or `control`, for ZeroMQ."""
        return f"ipc://{self.info['ip']}-{self.info[f'{channel}_port']}"

    def remove(self) -> None:
        """Close the pipe, remove the folder, give the lock back."""
        os.close(self.ready_fd)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock_fd)


def remove_abandoned_folders(parent: Path) -> None:
    """Remove the socket folders of this user whose process is gone."""
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        names += [entry.name for entry in entries if entry.name.startswith(FOLDER_PREFIX)]
    for name in names:
        with contextlib.suppress(OSError):
            fd = os.open(parent / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(fd).st_uid == os.getuid() and _lock(fd, waits=False):
                    shutil.rmtree(parent / name, ignore_errors=True)
            finally:
                os.close(fd)


def _choose_parent() -> Path:
    """The folder for temporary files, unless its path is too long for sockets."""
    parent = Path(tempfile.gettempdir())
    longest = len(os.fsencode(parent)) + len(f"/{FOLDER_PREFIX}") + 8
    return parent if longest <= LONGEST_FOLDER else Path("/tmp")


def _make_locked(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        # Another kit may come between making and locking, and take it for an abandoned one.
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            _lock(fd, waits=True)
            if folder.is_dir():
                return folder, fd
            os.close(fd)


def _lock(fd: int, *, waits: bool) -> bool:
    """Lock an open folder; False if another has it or the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
