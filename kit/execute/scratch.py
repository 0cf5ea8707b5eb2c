"""Scratch folders: what survives failed attempts of the same work, for one execution at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kit.execute.plan import Plan
from kit.files import canonical_json, remove_tree, sha256_bytes


class Scratch:
    """The scratch folder of one execution; `folder` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove it: the work is done, nobody will go on with it."""
        remove_tree(self.folder)


@contextlib.contextmanager
def hold_scratch(shared: Path, plan: Plan, private: Path) -> Iterator[Scratch]:
    """The scratch folder of some work. It survives a failed attempt, and is held until the execution has ended.

    Work that is done again starts from nothing, and so does who does the same work while another is at it: two at once
    would write over each other's files. The lock goes with the process that holds it, however that ends.

    Args:
        shared: holds the folders of all work.
        plan: the work: same code, parameters and inputs give the same folder.
        private: a folder that nobody else has.
    """
    if plan.reproduces:
        yield Scratch(private)
        return
    work = [plan.code.bundle_sha256, plan.stage.name, plan.values, [each.artifact.sha256 for each in plan.inputs]]
    folder = shared / sha256_bytes(canonical_json(work))[:24]
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / f"{folder.name}.lock").open("a") as lock:
        yield Scratch(folder if _try_lock(lock) else private)


def _try_lock(file: IO[str]) -> bool:
    """True if no one else has it; where the system has no such locks, all work is done alone."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
