"""Scratch folders: what survives failed attempts of the same work, for one execution at a time, and whose it is.

`<work>/files/` is the folder itself, `<work>/attempts.json` names the executions that had it, `<work>.lock` is there while
one has it. All of it may be deleted at any time: the next execution then starts from nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from kit.archive import Archive
from kit.errors import IntegrityError, NotFoundError
from kit.execute.plan import Plan
from kit.files import canonical_json, remove_tree, sha256_bytes, write_atomically

KEPT_S = 30 * 86_400.0
FILES, ATTEMPTS, LOCK = "files", "attempts.json", ".lock"


class Scratch(msgspec.Struct, frozen=True):
    """The scratch folder of one execution.

    Attributes:
        folder: of this work, kept if the execution fails; None where it only has one in its workspace.
        attempts: ids of the earlier executions that had it, oldest first; empty if they left nothing in it.
    """

    folder: Path | None = None
    attempts: tuple[str, ...] = ()

    @property
    def files(self) -> Path | None:
        """What the stage gets of it; None where there is none."""
        return self.folder and self.folder / FILES

    def take(self, record_id: str) -> None:
        """Say whose it is from now on; before the kernel starts."""
        if self.folder:
            write_atomically(self.folder / ATTEMPTS, canonical_json([*self.attempts, record_id]))

    def clear(self) -> None:
        """Remove it: the work is done, and nobody goes on with what a success left, even where it cannot be removed."""
        if self.folder:
            with contextlib.suppress(OSError):
                remove_tree(self.folder)


@contextlib.contextmanager
def hold_scratch(shared: Path, plan: Plan, archive: Archive, notify: Callable[[str], None]) -> Iterator[Scratch]:
    """The scratch folder of some work. It survives a failed attempt, and is held until the block ends.

    Work that is done again starts from nothing, and so does who does the same work while another is at it: two at once
    would write over each other's files. So does whoever finds files of which the archive cannot tell whose they are. The
    lock goes with the process that holds it, however that ends.

    Args:
        shared: holds the folders of all work.
        plan: the work: one folder for each environment, stage and key.
        archive: tells how earlier attempts ended.
        notify: is told why it starts from nothing although it might have gone on.
    """
    if plan.reproduces:
        yield Scratch()
        return
    folder = shared / name_work(plan)
    with _hold_lock(folder) as is_ours:
        if is_ours:
            sweep_scratch(shared, time.time() - KEPT_S)
            yield _open(folder, plan, archive, notify)
        else:
            notify(f"{plan.stage.name}: another execution of the same work is going on; this one starts from nothing")
            yield Scratch()


def name_work(plan: Plan) -> str:
    """The same for what may go on with each other's files: 24 hexadecimal digits."""
    inputs = [each.artifact.sha256 for each in plan.inputs]
    work = plan.key or [plan.code.bundle_sha256, plan.values, inputs]
    return sha256_bytes(canonical_json([plan.environment.name, plan.stage.name, work]))[:24]


def sweep_scratch(shared: Path, before: float) -> None:
    """Remove the folders that nobody has gone on with since, and locks that a killed process left.

    Args:
        shared: holds the folders of all work.
        before: seconds since 1970.
    """
    for path in list(shared.iterdir()):
        folder = path.with_name(path.name.removesuffix(LOCK))
        if before > max(_changed_at(path), _changed_at(folder / ATTEMPTS)) > 0:
            with contextlib.suppress(OSError), _hold_lock(folder) as is_ours:
                if is_ours:
                    remove_tree(folder)


def _changed_at(path: Path) -> float:
    """When something was changed last, in seconds since 1970; 0 for what is not there."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _open(folder: Path, plan: Plan, archive: Archive, notify: Callable[[str], None]) -> Scratch:
    files = folder / FILES
    files.mkdir(parents=True, exist_ok=True)
    if not any(files.iterdir()):
        return Scratch(folder)
    try:
        attempts = _read_attempts(folder, plan, archive)
    except (IntegrityError, NotFoundError) as error:
        notify(f"{plan.stage.name}: starts from nothing; what is in its scratch folder cannot be told: {error}")
        remove_tree(files)
        files.mkdir()
        return Scratch(folder)
    notify(f"{plan.stage.name}: goes on with the scratch folder of {', '.join(attempts)}")
    return Scratch(folder, attempts)


def _read_attempts(folder: Path, plan: Plan, archive: Archive) -> tuple[str, ...]:
    """Ids of the executions that had a folder, all of them unsuccessful ones of this work.

    Raises:
        NotFoundError: one of them is not in the archive.
        IntegrityError: the list cannot be read, or names another execution than such a one.
    """
    try:
        attempts = msgspec.json.decode((folder / ATTEMPTS).read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.MsgspecError) as error:
        raise IntegrityError(f"{ATTEMPTS} cannot be read: {error}") from error
    if not attempts:
        raise IntegrityError(f"{ATTEMPTS} names no execution")
    for record in map(archive.read_record, attempts):
        of = (record.stage, record.environment, record.key)
        if record.succeeded or of != (plan.stage.name, plan.environment.name, plan.key):
            raise IntegrityError(f"{ATTEMPTS} names {record.id}, a {record.status} {record.stage}, which left nothing")
    return attempts


@contextlib.contextmanager
def _hold_lock(folder: Path) -> Iterator[bool]:
    """True within the block if no one else has a folder; where the system has no such locks, all work is done alone.

    The lock's file goes before the lock does, so whoever opened it meanwhile has locked a file without a name, sees that,
    and tries again.
    """
    path = folder.with_name(f"{folder.name}{LOCK}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _try_lock(path)
    try:
        yield lock is not None
    finally:
        if lock:
            with contextlib.suppress(OSError):
                path.unlink()
            lock.close()


def _try_lock(path: Path) -> IO[str] | None:
    """The locked file of that name; None if someone else has it."""
    try:
        import fcntl
    except ImportError:
        return path.open("a")
    while True:
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), path.lstat()):
                return lock
            lock.close()
        except FileNotFoundError:
            lock.close()
        except OSError:
            lock.close()
            return None
