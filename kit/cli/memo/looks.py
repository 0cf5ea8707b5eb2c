"""What a command looks at, as the interpreter itself tells it: PEP 578, audit events.

So no list of inputs has to be kept beside the code that reads them: each file that is opened and each folder that is listed is
seen here, also by code that is written later. Where code decides by the state of a file that it does not open, it says so
(`kit.files.tell_look`). What no list could cover, such as another program's answer, is a doubt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kit.files import LOOK, UNTIL
from kit.git import ASKED, GIT

FOREVER_NS = (1 << 63) - 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.utime",
)  # fmt: skip
_DOUBTS = (
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "socket.bind", "socket.connect",
    "socket.getaddrinfo",
)  # fmt: skip


class Looks:
    """What was looked at, and done.

    Args:
        began_ns: before the first look, ns since 1970.

    Attributes:
        opened: files that were opened to be read, there or not.
        listed: folders whose names were listed.
        told: paths that code named, because their state decides something; a folder with all that it holds.
        changed: paths that something was done to.
        asked_git: something rests on how the project stands to git.
        until_ns: the moment until which what was found can hold; ns since 1970.
        doubts: what else was done, on which an answer could rest.
    """

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.opened: set[str] = set()
        self.listed: set[str] = set()
        self.told: set[str] = set()
        self.changed: set[str] = set()
        self.asked_git = False
        self.until_ns = FOREVER_NS
        self.doubts: set[str] = set()

    def hear(self, event: str, values: tuple[Any, ...]) -> None:
        """Take note of an audit event."""
        if action := _ACTIONS.get(event):
            try:
                action(self, *values)
            except Exception as error:  # noqa: BLE001 - raised here it would end what is only watched
                self.doubts.add(f"{event}: {error}")

    def _open(self, path: Any, _mode: Any, flags: int) -> None:
        if not isinstance(path, int):  # a descriptor was opened before
            (self.changed if flags & _WRITES else self.opened).add(os.fsdecode(path))

    def _list(self, path: Any) -> None:
        if not isinstance(path, int):
            self.listed.add(os.fsdecode("." if path is None else path))

    def _change(self, *values: Any) -> None:
        self.changed.update(os.fsdecode(each) for each in values if isinstance(each, str | bytes | os.PathLike))

    def _start(self, _program: Any, command: Any, *_: Any) -> None:
        if isinstance(command, list | tuple) and command[:1] and command[0] == GIT:
            self.asked_git = True
        else:
            self.doubts.add(f"the program {command!r}")

    def _ask_git(self, _folder: str) -> None:
        self.asked_git = True

    def _hold(self, until_ns: int) -> None:
        self.until_ns = min(self.until_ns, until_ns)


def _doubt(event: str) -> Callable[..., None]:
    return lambda looks, *values: looks.doubts.add(event)


_ACTIONS: dict[str, Callable[..., None]] = {
    "open": Looks._open,
    "os.listdir": Looks._list,
    "os.scandir": Looks._list,
    "sqlite3.connect": Looks._change,
    "subprocess.Popen": Looks._start,
    ASKED: Looks._ask_git,
    LOOK: lambda looks, path: looks.told.add(path),
    UNTIL: Looks._hold,
    **dict.fromkeys(_CHANGES, Looks._change),
    **{event: _doubt(event) for event in _DOUBTS},
}
_listening: list[Looks] = []  # one, or none
_is_installed = False


@contextmanager
def watch_looks(began_ns: int) -> Iterator[Looks]:
    """What is looked at in the block from that moment on, by any thread of this process."""
    global _is_installed  # a hook cannot be taken back, so there is one in a process
    if not _is_installed:
        sys.addaudithook(_hear)
        _is_installed = True
    looks = Looks(began_ns)
    _listening[:] = [looks]
    try:
        yield looks
    finally:
        _listening.clear()


def _hear(event: str, values: tuple[Any, ...]) -> None:
    for looks in _listening:
        looks.hear(event, values)
