"""Digests of files that have not changed since they were hashed, so that nothing is read twice to learn the same.

A file is known by its stamp: device, inode, size, mtime and ctime. A digest is kept with the stamp only if any later write
must give another one; else the file is hashed again the next time. That takes three things:

- mtime and ctime lie more than `SETTLED_NS` before the moment when hashing began. What is written later gets the time of
  then, rounded down to the file system's granularity: a tick of the kernel (1 to 10 ms) on ext4, xfs, btrfs and tmpfs, 1 s on
  HFS+ and ext3, 2 s on FAT. So it cannot get the time that was kept. git calls the others racily clean. A time that lies
  in the future, because the clock was set back, never counts as before.
- Nobody has the file open for writing at that moment (Linux, for one's own files, by a lease): memory that is shared with
  a file may be written for long after the only write that moves its times.
- The stamp is the same when the last byte was read.

ctime is the system's own: no program sets it, and a rename, a link or a restored mtime moves it. What remains: a clock set
back to the nanosecond, memory shared with another user's file, blocks written below the file system, and a network file
system that tells of another machine's write late (NFS: up to 60 s). So a digest from here says which object a person means,
never that bytes are intact: what is executed is hashed as it is copied, and `kit verify` does not use this module.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from kit.database import ThrowAway
from kit.files import digest_of, open_regular, sha256_bytes, tell_look

SETTLED_NS = 3_000_000_000  # the coarsest granularity, 2 s, and one more for ticks and for another machine's clock
PRUNE_EVERY = 100  # rows written; then those of files that are gone are removed
_SCHEMA = "CREATE TABLE digests (id INTEGER PRIMARY KEY, subject TEXT NOT NULL UNIQUE, content BLOB NOT NULL)"
_SETTINGS = (
    "PRAGMA busy_timeout=200; PRAGMA synchronous=OFF"  # who waits for more than 0.2 s, does without; checksums tell
)
_INSERT = "INSERT OR REPLACE INTO digests (subject, content) VALUES (?, ?)"
_VERSION = 1
_CHECKSUM_BYTES = 32
_MOST = 4  # names kept for each that was asked for
# of the database, of what a row holds, of a name
_FAULTS = (sqlite3.Error, msgspec.MsgspecError, UnicodeError, TypeError)


class Stamp(NamedTuple):
    """What tells one state of a file from another without reading it; times in ns since 1970."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class Hashed(NamedTuple):
    """A digest, and the stamp that the file had while it was read."""

    sha256: str
    stamp: Stamp


def stamp_of(stat: os.stat_result) -> Stamp:
    """The stamp in a file's status."""
    return Stamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Watch:
    """A look at an open file, from before its first byte is read.

    Args:
        descriptor: of the file.
        now_ns: the present.
    """

    def __init__(self, descriptor: int, now_ns: int) -> None:
        self._descriptor, self._before = descriptor, stamp_of(os.fstat(descriptor))
        is_settled = max(self._before.mtime_ns, self._before.ctime_ns) < now_ns - SETTLED_NS
        self._is_still = is_settled and os.name == "posix" and not _is_open_for_writing(descriptor)

    def stamp(self) -> Stamp | None:
        """After the last byte was read: what the file can be known by, if a later write must change that."""
        is_same = self._is_still and stamp_of(os.fstat(self._descriptor)) == self._before
        return self._before if is_same else None


class Notes:
    """What is known of files that belong together: those of a folder, or one.

    Args:
        known: by name.
        clock: the present, ns since 1970; at 0 nothing becomes known.
    """

    def __init__(self, known: Mapping[str, Hashed] | None = None, clock: Callable[[], int] = lambda: 0) -> None:
        self._known, self._clock = dict(known or {}), clock
        self._used: set[str] = set()
        self.is_changed = False

    def recall(self, name: str, stamp: Stamp) -> str:
        """SHA-256 that a file had when it had that stamp; empty if that is not known."""
        known = self._known.get(name)
        self._used.add(name)
        return known.sha256 if known and known.stamp == stamp else ""

    def sha256(self, name: str, path: str, stamp: Stamp) -> str:
        """SHA-256 of a regular file's bytes, read if they are not known by its present stamp.

        Raises:
            OSError: it is not there, or is no regular file.
        """
        tell_look(path)
        if known := self.recall(name, stamp):
            return known
        with open_regular(Path(path)) as file:
            watch = self.watch(file.fileno())
            sha256 = digest_of(file)
            self.add(name, sha256, watch)
        return sha256

    def watch(self, descriptor: int) -> Watch:
        """Before the first byte of an open file is read."""
        return Watch(descriptor, self._clock())

    def add(self, name: str, sha256: str, watch: Watch) -> None:
        """After the last byte of a file was read."""
        self._used.add(name)
        if stamp := watch.stamp():
            self._known[name] = Hashed(sha256, stamp)
            self.is_changed = True

    def encode(self) -> bytes:
        """As they are kept: without the names that nobody asked for, once those are most."""
        is_mostly_used = len(self._known) <= _MOST * len(self._used)
        known = self._known if is_mostly_used else {n: each for n, each in self._known.items() if n in self._used}
        return msgspec.msgpack.encode(known)


class Digests:
    """What is known of files, in a database that may be deleted at any time; many processes and threads may use it at once.

    Args:
        path: of the database.
        clock: the present, ns since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._path, self._clock = path, clock

    def sha256(self, path: Path) -> str:
        """SHA-256 of a regular file's bytes, read only if it changed; a link is not followed.

        Raises:
            OSError: it is not there, or is no regular file.
        """
        with self.notes(path) as notes:
            return notes.sha256("", os.fspath(path), stamp_of(path.lstat()))

    def sha256_many(self, folder: Path, names: Iterable[str]) -> dict[str, str]:
        """SHA-256 of files of a folder by relative path; see `sha256`. All are kept in one transaction."""
        root = os.fspath(folder)
        with self.notes(folder) as notes:
            return {n: notes.sha256(n, f"{root}/{n}", stamp_of(os.lstat(f"{root}/{n}"))) for n in names}

    @contextlib.contextmanager
    def notes(self, subject: Path) -> Iterator[Notes]:
        """What is known of files that belong together; what was added is kept at the end, also if the block raises.

        Args:
            subject: absolute path of the file, whose name in the notes is then empty, or of the folder; as long as it is
                there they are kept.
        """
        tell_look(str(subject))
        notes = self._read(str(subject))
        try:
            yield notes
        finally:
            if notes.is_changed:
                self._write(str(subject), notes)

    def _read(self, subject: str) -> Notes:
        """Nothing known if it cannot be read, or is not what was written."""
        try:
            with contextlib.closing(self._open()) as database, database.use() as connection:
                row = connection.execute("SELECT content FROM digests WHERE subject = ?", (subject,)).fetchone()
            return Notes(_decode(_unseal(subject, row[0])) if row else {}, self._clock)
        except _FAULTS:
            return Notes({}, self._clock)

    def _write(self, subject: str, notes: Notes) -> None:
        """A full disk keeps nothing, and is no error."""
        with contextlib.suppress(*_FAULTS):
            content = _seal(subject, notes.encode())
            with contextlib.closing(self._open()) as database, database.use() as connection:
                connection.executescript(_SETTINGS)
                number = connection.execute(_INSERT, (subject, content)).lastrowid
                if number and number % PRUNE_EVERY == 0:
                    _prune(connection)

    def _open(self) -> ThrowAway:
        """Opened for each use (0.2 ms), so that no two threads share it and no fork takes it along."""
        return ThrowAway(self._path, _SCHEMA, _VERSION)


def _decode(content: bytes) -> dict[str, Hashed]:
    return msgspec.msgpack.decode(content, type=dict[str, Hashed]) if content else {}


def _seal(subject: str, content: bytes) -> bytes:
    """SQLite does not notice a changed byte of a value, so each has a checksum."""
    return bytes.fromhex(sha256_bytes(subject.encode() + b"\0" + content)) + content


def _unseal(subject: str, sealed: bytes) -> bytes:
    content = sealed[_CHECKSUM_BYTES:]
    return content if _seal(subject, content) == sealed else b""


def _prune(connection: sqlite3.Connection) -> None:
    subjects: Iterable[tuple[str]] = connection.execute("SELECT subject FROM digests").fetchall()
    gone = [row for row in subjects if not os.path.lexists(row[0])]
    connection.executemany("DELETE FROM digests WHERE subject = ?", gone)


def _is_open_for_writing(descriptor: int) -> bool:
    """True if a process has the file open for writing, or mapped; False also where the system does not tell.

    A read lease is refused in exactly that case (fcntl(2), F_SETLEASE). Whoever opens the file in the microsecond until it
    is given back makes the kernel tell us, by a signal that does nothing.
    """
    try:
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except (ImportError, AttributeError, OSError):
        return False  # not Linux, not ours, or a file system without leases
    return False
