"""Keeping a memo: everything that an answer rests on, with its stamp, if none of it can change without another stamp.

The rule is that of `kit.digests`: nothing that it rests on may have changed within the last seconds before the question, nor
since, and no file that was read may be open for writing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from kit.archive.names import OPEN
from kit.cli.memo.looks import Looks
from kit.cli.memo.recall import FOLDER, FOLLOWED, Question, describe, describe_absence, encode
from kit.digests import SETTLED_NS, Watch
from kit.errors import KitError
from kit.execute import Workbench
from kit.files import open_regular, temporary_beside
from kit.git import list_grounds
from kit.signing import KEY_VARIABLE, key_path

TICK_NS = 10_000_000  # of a kernel's clock, the longest
MOST = 16  # memos of a project: one for each environment, command, folder and terminal
_KERNEL = ("/proc/", "/sys/")  # files without a stamp
_DEVICES = frozenset((os.devnull, "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"))  # hold nothing


class _UnsettledError(Exception):
    """Something could change without another stamp."""


def keep(question: Question, looks: Looks) -> bool:
    """Keep what the ordinary path said to a question, if it had nothing to do; False if it cannot be kept.

    Args:
        question: asked, answered, with what was said.
        looks: all that was looked at meanwhile.
    """
    workbench = question.grounds
    if not isinstance(workbench, Workbench) or looks.doubts or not _has_only_read(looks, workbench):
        return False
    try:
        paths = _Paths(looks, question.began_ns)
        paths.add_all(_list_paths(question, looks, workbench))
        data = encode(question.clock(), looks.until_ns, paths.lines, question.said)
        write_memo(workbench.project.root / FOLDER, question.name, data)
    except (_UnsettledError, KitError, OSError, ValueError):
        return False
    return True


def _has_only_read(looks: Looks, workbench: Workbench) -> bool:
    """True if nothing was written but caches, which answer the same when they are gone, and nothing without a stamp was read."""
    own = f"{workbench.project.scratch}/"
    changed = (f"{_make_absolute(each)}/" for each in looks.changed - _DEVICES)
    return all(each.startswith(own) for each in changed) and not any(each.startswith(_KERNEL) for each in looks.opened)


def _list_paths(question: Question, looks: Looks, workbench: Workbench) -> Iterator[str]:
    """Absolute paths of all that was looked at; of what code told also what lies below."""
    project, archive = workbench.project, workbench.archive
    for path in map(_make_absolute, (looks.opened - _DEVICES) | looks.listed):
        yield _source_of(path)
    for path in map(_make_absolute, looks.told):
        yield path
        yield from _walk(os.path.realpath(path))
    yield from map(os.fspath, _list_nearer(Path(question.folder), project.root))
    yield from map(
        os.fspath, (archive.folder, archive.records_folder, archive.ledger.folder, archive.ledger.checkpoints)
    )
    yield from _list_programs()
    if not os.environ.get(KEY_VARIABLE):
        yield os.fspath(key_path())
    if any(name.endswith(OPEN) for name in os.listdir(archive.records_folder)):  # noqa: PTH208
        raise _UnsettledError("an execution is going on, or was lost: its process decides which")
    if looks.asked_git:
        yield from list_grounds(project.root, (archive.folder, project.reports, project.scratch))


def _list_nearer(folder: Path, root: Path) -> Iterator[Path]:
    """Where a project could be that is nearer than the one that was found."""
    for each in (folder, *folder.parents):
        if each == root:
            return
        yield each / "pyproject.toml"


def _list_programs() -> Iterator[str]:
    """The interpreter, where it looks for modules, and what it has loaded: kit itself, and what others installed."""
    yield sys.executable
    yield os.path.join(sys.prefix, "pyvenv.cfg")  # noqa: PTH118
    for folder in filter(None, sys.path):
        yield _make_absolute(folder)
        with suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208
                if name.endswith((".pth", ".dist-info")):
                    yield _make_absolute(f"{folder}/{name}/METADATA" if name.endswith("o") else f"{folder}/{name}")
    for module in list(sys.modules.values()):
        if file := getattr(module, "__file__", None):
            yield _make_absolute(file)
    package = Path(__file__).parents[2]
    yield from (path for path in _walk(os.fspath(package)) if not path.endswith((".pyc", "__pycache__")))


def _make_absolute(path: str) -> str:
    """As `Path.absolute`, for thousands."""
    return os.path.abspath(path)  # noqa: PTH100


def _source_of(path: str) -> str:
    """The file itself; of byte code the source, whose stamp decides whether the byte code is read."""
    if not path.endswith(".pyc"):
        return path
    from importlib.util import source_from_cache

    try:
        return source_from_cache(path)
    except ValueError:  # byte code without a source
        return path


def _walk(path: str) -> Iterator[str]:
    """A path, and if it is a folder all paths below; no link is followed."""
    waiting = [path]
    while waiting:
        yield (folder := waiting.pop())
        with suppress(NotADirectoryError, FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry.path


class _Paths:
    """Lines of a memo.

    Args:
        looks: what was looked at.
        began_ns: before that.

    Raises:
        _UnsettledError: of any of its methods: something changed just now, or could without another stamp.
    """

    def __init__(self, looks: Looks, began_ns: int) -> None:
        self.lines: list[str] = []
        self._known: set[str] = set()
        self._opened, self._looked_ns, self._began_ns = set(map(_make_absolute, looks.opened)), looks.began_ns, began_ns

    def add_all(self, paths: Iterable[str]) -> None:
        """Add what is not there yet; of a link also what it leads to."""
        for path in paths:
            if path not in self._known:
                self._known.add(path)
                self.lines += self._look(path)

    def _look(self, path: str) -> Iterator[str]:
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._require_never_there(path)
            yield describe_absence(path)
            return
        self._require_settled(status, path)
        yield describe(path, status)
        real = path
        if stat.S_ISLNK(status.st_mode):
            status, real = os.stat(path), os.path.realpath(path)  # noqa: PTH116 - as `recall` does
            self._require_settled(status, path)
            yield FOLLOWED + describe(path, status)
        if path in self._opened and stat.S_ISREG(status.st_mode):
            with open_regular(Path(real)) as file:
                if Watch(file.fileno(), self._began_ns).stamp() is None:
                    raise _UnsettledError(f"{path} is open for writing")

    def _require_settled(self, status: os.stat_result, path: str) -> None:
        if max(status.st_mtime_ns, status.st_ctime_ns) >= self._began_ns - SETTLED_NS:
            raise _UnsettledError(f"{path} has changed just now")

    def _require_never_there(self, path: str) -> None:
        """What was removed since it was looked at has moved the time of its folder, to the last tick or whole second before."""
        changed_ns = next(each for each in Path(path).parents if each.is_dir()).stat().st_mtime_ns
        if changed_ns >= self._looked_ns - (TICK_NS if changed_ns % 1_000_000_000 else SETTLED_NS):
            raise _UnsettledError(f"{path} could have been there")


def write_memo(folder: Path, name: str, data: bytes) -> None:
    """Keep a memo, and of the others the newest."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with temporary_beside(folder / name) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(folder / name)
    kept = sorted(folder.iterdir(), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
    for path in kept[MOST:]:
        path.unlink(missing_ok=True)
