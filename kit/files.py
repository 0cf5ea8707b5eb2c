"""Bytes on disk: atomic writes that keep what is there, canonical JSON, SHA-256, the clock."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from kit.errors import UndecidableError

CHUNK_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20
_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SCALARS = frozenset({str, int, float, bool, type(None)})
_N_AT_ONCE = 4  # threads that wait for the disk
_FICLONE = 0x40049409  # ioctl_ficlone(2)

Clock = Callable[[], datetime]

LOOK, UNTIL = "kit.look", "kit.until"  # audit events (PEP 578), for whoever keeps account of what an answer rests on


def tell_look(path: str) -> None:
    """Say that something rests on the state of a file that nobody opens, or of a folder and all that it holds."""
    sys.audit(LOOK, path)


def tell_until(moment: datetime) -> None:
    """Say that something holds until a moment only."""
    sys.audit(UNTIL, int(moment.timestamp()) * 1_000_000_000)


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """RFC 3339 with milliseconds, always UTC: `2026-03-01T09:30:00.250Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`."""
    return datetime.fromisoformat(text).astimezone(UTC)


def canonical_json(value: Any) -> bytes:
    """One value, one byte string: sorted keys, no white space, UTF-8, no NaN.

    After RFC 8785, with numbers as Python prints them; aware datetimes become RFC 3339 text.

    Raises:
        ValueError: NaN, an infinity or half a surrogate pair (which is no Unicode text) is in the value.
        TypeError: the value is no JSON value, or a mapping has a key that is no string.
    """
    _require_text_keys(value)
    return _encoder().encode(value).encode("utf-8")


def leave_out_empty(plain: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A value without those of the named keys that are empty, so that a key that came later changes no older bytes."""
    later = set(names)
    return {key: value for key, value in plain.items() if value or key not in later}


def _encode_time(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_time(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


@functools.cache
def _encoder() -> json.JSONEncoder:
    """One for all: `json.dumps` makes a new one for each value, which takes longer than a ledger entry."""
    return json.JSONEncoder(
        sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_encode_time
    )


def _require_text_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON needs text keys, found {key!r} ({type(key).__name__})")
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        if type(item) not in _SCALARS:
            _require_text_keys(item)


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never follows a link, never waits for a pipe's writer.

    Raises:
        OSError: it is not there, or is no regular file.
        UndecidableError: it may not be read, so nothing can be said about it.
    """
    return os.fdopen(_open_regular(path), "rb", buffering=0)


def _open_regular(path: Path) -> int:
    try:
        descriptor = os.open(path, _READING)
    except PermissionError as error:
        raise UndecidableError(f"{path}: you may not read it, so nothing can be decided about it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return descriptor


def is_regular(path: Path) -> bool:
    """True for a regular file itself, not for a link to one."""
    return path.is_file() and not path.is_symlink()


def seal_file(path: Path) -> str:
    """Make a regular file read-only; gives its digest. A link is refused: its target is not ours to change."""
    with open_regular(path) as file:
        os.fchmod(file.fileno(), 0o444)
        return digest_of(file)


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; see `open_regular`."""
    descriptor = _open_regular(path)
    try:
        parts = [os.read(descriptor, os.fstat(descriptor).st_size + 1)]
        while parts[-1]:
            parts.append(os.read(descriptor, CHUNK_BYTES))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def digest_of(file: BinaryIO) -> str:
    """SHA-256 of what is left of an open file that has no buffer."""
    return _digest_rest(file.fileno())


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _digest_rest(descriptor)
    finally:
        os.close(descriptor)


def _digest_rest(descriptor: int) -> str:
    """The bare loop: on 10,000 files of 4 KiB half the time of `hashlib.file_digest`, on 1 GiB the same."""
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def copy_and_hash(source: Path, target: Path) -> tuple[str, int]:
    """Copy a regular file and give (sha256, bytes) of exactly what was written; see `open_regular`."""
    with open_regular(source) as reader:
        return copy_open(reader, target)


def copy_open(reader: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy an open file that has no buffer, from its first byte, as `copy_and_hash`."""
    digest, size_bytes = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        is_there = _clone(reader.fileno(), descriptor)
        while chunk := os.read(descriptor if is_there else reader.fileno(), CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk) if is_there else _write(descriptor, chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest(), size_bytes


def _clone(source: int, target: int) -> bool:
    """Let two files share their blocks, which takes no time and no space; False where that cannot be (all but btrfs, xfs …)."""
    if os.fstat(source).st_size < _LARGE_BYTES:
        return False
    try:
        import fcntl

        fcntl.ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


def _write(descriptor: int, data: bytes) -> int:
    """All of some bytes, however many calls that takes."""
    n_written = os.write(descriptor, data)
    while n_written < len(data):
        n_written += os.write(descriptor, memoryview(data)[n_written:])
    return n_written


def copy_stream(source: IO[bytes], target: IO[bytes]) -> tuple[str, int]:
    """Copy what is left of an open file, in pieces; gives (sha256, bytes) of what was written."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += target.write(chunk)
    return digest.hexdigest(), size_bytes


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Iterable[Path]) -> None:
    """Make files' bytes, and the names in folders, durable: several at a time, for which a disk needs hardly more than for one.

    Raises:
        OSError: one of them could not be; the others were tried all the same.
    """
    waiting, failed = list(paths), list[OSError]()

    def work() -> None:
        while waiting:
            with contextlib.suppress(IndexError):  # another thread was faster
                path = waiting.pop()
                try:
                    sync_file(path)
                except OSError as error:
                    failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(len(waiting), _N_AT_ONCE) - 1)]
    with contextlib.suppress(RuntimeError):  # no more threads here: the fewer do it
        for thread in threads:
            thread.start()
    work()
    for thread in threads:
        if thread.ident:
            thread.join()
    if failed:
        raise failed[0]


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name in the same folder that no one else uses, removed afterwards unless it was renamed away."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusive(path: Path, data: bytes, mode: int = 0o444) -> bool:
    """Put bytes under a name that must be free, whole or not at all, durable on return.

    Returns:
        True if this call made the file, False if the name was taken (the file there is left as it is).
    """
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)
    with temporary_beside(path) as temporary:
        _write_new(temporary, data, mode)
        sync_file(temporary)
        if not _link(temporary, path):
            return False
    sync_folder(path.parent)
    return True


def _link(made: Path, path: Path) -> bool:
    """Give a file another name, if that is free."""
    try:
        os.link(made, path)
    except FileExistsError:
        # NFS: the server linked it, its answer was lost, and the client asked again.
        return os.path.samestat(made.lstat(), path.lstat())
    return True


def create_together(folder: Path, files: Mapping[str, bytes], others: Iterable[Path] = ()) -> list[str]:
    """As `create_exclusive` for several files, of which the disk is told at once.

    Args:
        folder: they are made in it, and folders for them where there are none.
        files: bytes by path, relative to it.
        others: files that are there, made durable before any of these has its name.

    Returns:
        Those whose names were taken.
    """
    parents = {folder, *(each for name in files for each in (folder / name).parents if folder in each.parents)}
    for each in parents:
        each.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        made = {name: stack.enter_context(temporary_beside(folder / name)) for name in files}
        for name, temporary in made.items():
            _write_new(temporary, files[name], 0o444)
        sync_all([*others, *made.values()])
        taken = [name for name, temporary in made.items() if not _link(temporary, folder / name)]
    sync_all(parents)
    return taken


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's bytes, whole or not at all. For views and caches, never for the archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write(descriptor, data)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only parts included; a folder that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        _allow_writing(folder)
        shutil.rmtree(folder)


def _allow_writing(folder: Path) -> None:
    """Let names be removed from a folder and those below; a link's target is not ours to change."""
    folder.chmod(0o755)
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o755)


def format_bytes(size_bytes: int) -> str:
    """`812 B`, `4.9 MB`: decimal units, as disks and networks count."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
