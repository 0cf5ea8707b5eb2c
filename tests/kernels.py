"""Notebooks for the engine, a disk that is full, and what is told of kernels and their processes."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from kit.engine import Outcome


def make_notebook(*sources: str, **metadata: Any) -> dict[str, Any]:
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for i, source in enumerate(sources)
    ]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}


class FullDisk:
    """A file on a disk that has room for some bytes only."""

    def __init__(self, path: Path, room: int) -> None:
        self._file, self._room = path.open("xb", buffering=0), room

    def write(self, data: bytes) -> int:
        taken = min(len(data), self._room)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= taken
        return self._file.write(data[:taken])

    def truncate(self, size: int) -> int:
        self._room += self._file.tell() - size
        return self._file.truncate(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_full(room: int) -> Any:
    def open_file(path: Path) -> IO[bytes]:
        return FullDisk(path, room)  # type: ignore[return-value]

    return open_file


def texts(outcome: Outcome) -> str:
    return "".join(o.get("text", "") for cell in outcome.notebook["cells"] for o in cell.get("outputs", []))


def set_of_children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def until(is_true: Callable[[], bool], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end, "it did not happen"
        os.sched_yield()


def assert_gone(pid: int) -> None:
    until(lambda: not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text())
