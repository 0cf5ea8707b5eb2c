"""Starting a server: one at a time of each kind, and never waiting for one that has died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kit.errors import WarmUnavailableError
from kit.warm.folder import WarmFolder
from kit.warm.key import is_read_early, make_edition, make_name, shared_variables

SERVER = Path(__file__).with_name("server.py")
IDLE_VARIABLE = "KIT_WARM_IDLE_S"
IDLE_S = 600.0
STEP_S = 0.05


def find_name(place: WarmFolder, key: str, variables: Mapping[str, str]) -> str:
    """The name of the server to ask: the kind's own as long as nobody knows which variables its imports read."""
    return make_name(key, place.read_names(key), variables)


@contextlib.contextmanager
def hold_lock(path: Path, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Be the only one that starts a server of a kind; a killed holder lets go of it.

    Raises:
        WarmUnavailableError: cancelled while somebody else had it.
    """
    import fcntl  # not on every system

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if is_cancelled():
                    raise WarmUnavailableError("interrupted while another process started a server") from None
                time.sleep(STEP_S)
        os.utime(descriptor)
        yield
    finally:
        os.close(descriptor)


def start_server(
    place: WarmFolder,
    key: str,
    preload: tuple[str, ...],
    launcher: Path,
    variables: Mapping[str, str],
    is_cancelled: Callable[[], bool],
) -> str:
    """Start a server and wait until it listens; gives its name.

    Raises:
        WarmUnavailableError: it must not fork, it died, or this was cancelled.
    """
    place.remove_old()
    reading, writing = os.pipe()
    try:
        options = {
            "folder": str(place.path),
            "key": key,
            "name": find_name(place, key, variables),
            "preload": preload,
            "launcher": str(launcher),
            "edition": make_edition(launcher),
            "idle_s": read_idle_s(),
            "status": writing,
        }
        _launch(options, place, variables)
        os.close(writing)
        writing = -1
        answer = _await_start(reading, is_cancelled)
    finally:
        os.close(reading)
        if writing != -1:
            os.close(writing)
    if "serving" in answer:
        return str(answer["serving"])
    raise WarmUnavailableError(answer.get("refused") or f"the server ended at its start{_last_line(place.log(key))}")


def read_idle_s() -> float:
    """Seconds after which a server that nobody uses ends.

    Raises:
        WarmUnavailableError: the variable is no number above 0.
    """
    text = os.environ.get(IDLE_VARIABLE, "")
    with contextlib.suppress(ValueError):
        value = float(text) if text else IDLE_S
        if 0 < value < float("inf"):
            return value
    raise WarmUnavailableError(f"{IDLE_VARIABLE} must be seconds above 0, found {text!r}")


def _launch(options: dict[str, Any], place: WarmFolder, variables: Mapping[str, str]) -> None:
    descriptor = os.open(
        place.log(options["key"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        # It leaves this process at once: what remains belongs to no client. Its first environment, which every kernel shows in
        # /proc/self/environ, is the same for all clients of this kind; the rest may hold the secrets of this one.
        subprocess.run(
            [sys.executable, str(SERVER), json.dumps(options)],
            input=json.dumps(shared_variables(variables)).encode(),
            stdout=descriptor,
            stderr=descriptor,
            env={name: value for name, value in variables.items() if is_read_early(name)},
            cwd=place.path,
            start_new_session=True,
            pass_fds=(options["status"],),
            check=False,
        )
    finally:
        os.close(descriptor)


def _await_start(reading: int, is_cancelled: Callable[[], bool]) -> dict[str, Any]:
    """What the server says when it listens; empty if it has died without a word."""
    data = b""
    while not data.endswith(b"\n"):
        if is_cancelled():
            raise WarmUnavailableError("interrupted while a server was started")
        if not select.select([reading], [], [], STEP_S)[0]:
            continue
        piece = os.read(reading, 4096)
        if not piece:
            return {}
        data += piece
    answer: dict[str, Any] = json.loads(data)
    return answer


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        line = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
        return f": {line[:300]}" if line else ""
    return ""
