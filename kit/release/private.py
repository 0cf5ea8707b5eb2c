"""Folders that one process has alone, outside of any project; those of processes that are gone are removed by the next one."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kit.errors import UsageError
from kit.files import remove_tree
from kit.workspace import mark_owner


@contextlib.contextmanager
def private_folder(base: Path) -> Iterator[Path]:
    """A new folder below `base` that only this process uses, removed if what is done in it fails.

    `kit.workspace.remove_abandoned` removes it when this process is gone, however it ended.
    """
    folder = base / secrets.token_hex(8)
    folder.mkdir(mode=0o700, parents=True)
    try:
        mark_owner(folder)
        yield folder
    except BaseException:
        remove_tree(folder)
        raise


def folder_of_user(purpose: str) -> Path:
    """Where private folders are made: below the system's temporary folder, this user's alone.

    Raises:
        UsageError: the name is taken by something that others can change.
    """
    base = Path(tempfile.gettempdir()) / f"kit-{purpose}-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if base.is_symlink() or not base.is_dir() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{base} is not a folder of yours alone; remove it, or set TMPDIR to another place")
    return base
