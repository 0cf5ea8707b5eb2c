"""Bundles: a project's sources as one deterministic zip. Same sources, same bytes."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import stat
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import msgspec

from kit import git
from kit.errors import IntegrityError, NotFoundError, ProjectError
from kit.files import sha256_bytes
from kit.graph import Graph
from kit.notebook import strip_notebook
from kit.project import ENVIRONMENTS, NOTEBOOKS, Project, graph_of_notebooks

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NEVER = frozenset(("__pycache__", ".ipynb_checkpoints", ".git", ".venv", ".kit", "node_modules"))
MAX_UNPACKED_BYTES = 4 << 30
_RECENT_NS = 3_000_000_000  # the coarsest granularity of a file system's times, 2 s, and one more
_KEY_MARK = b"PRIVATE KEY-----"  # looked for first, at a hundredth of the pattern's time
_PRIVATE_KEY = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\r?$", re.MULTILINE)

_strip = lru_cache(maxsize=64)(strip_notebook)  # of many stages of one command


class Bundle(msgspec.Struct, frozen=True, dict=True):
    """Sources, and how they stand to version control. The zip is opened once, and its stages are read once.

    Attributes:
        data: the zip's bytes.
        commit: git commit; None without git or before the first commit.
        changes: paths that differ from the commit; all sources if there is no commit.
    """

    data: bytes
    commit: str | None = None
    changes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of the zip."""
        return sha256_bytes(self.data)

    @property
    def is_dirty(self) -> bool:
        """True if these are not exactly a commit's sources."""
        return self.commit is None or bool(self.changes)

    def read(self, name: str) -> bytes:
        """Bytes of one source file.

        Raises:
            NotFoundError: the bundle has no such file.
        """
        try:
            return self._zip.read(name)
        except KeyError:
            raise NotFoundError(f"the bundle has no file {name!r}; is it tracked by git?") from None

    def names(self) -> list[str]:
        """Paths of all source files, sorted."""
        return self._zip.namelist()

    def read_graph(self) -> Graph:
        """The bundle's stages."""
        return self._graph

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(self.data))

    @cached_property
    def _graph(self) -> Graph:
        return graph_of_notebooks(
            (name, self.read(name))
            for name in self.names()
            if PurePosixPath(name).parent == PurePosixPath(NOTEBOOKS) and name.endswith(".ipynb")
        )


def make_bundle(project: Project, *, tracked_only: bool) -> Bundle:
    """Zip a project's sources as they are in the working tree, notebooks stripped.

    Sources are the files that git tracks, with `tracked_only=False` also new ones that it does not ignore; without git
    all files but hidden ones. Never environments, the archive, reports, or what `[tool.kit] exclude` names. Entries are
    stored, not deflated, because compressed bytes differ between versions of zlib.

    Raises:
        ProjectError: a source is a symbolic link, cannot be read, or holds a private key.
    """
    begun_ns = time.time_ns()
    checkout = git.read_checkout(project.root)
    names = _choose_sources(project, checkout, tracked_only=tracked_only)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        changed_ns = max([_add_source(archive, project.root, name) for name in names], default=0)
    if not checkout:
        return Bundle(buffer.getvalue(), None, tuple(names))
    if changed_ns > begun_ns - _RECENT_NS and git.read_checkout(project.root) != checkout:
        return make_bundle(project, tracked_only=tracked_only)  # a file was saved after git had looked at it
    is_source = _make_filter(project)
    changed = [name for name in checkout.changed if is_source(name) and not _only_outputs(project, name)]
    if tracked_only:
        tracked = {*names, *_deleted(project, changed)}
        changed = [name for name in changed if name in tracked]
    return Bundle(buffer.getvalue(), checkout.commit, tuple(changed))


def _only_outputs(project: Project, name: str) -> bool:
    """True for a notebook that differs from the commit only in what stripping removes: it was executed in JupyterLab."""
    path = project.root / name
    if not name.endswith(".ipynb") or not path.is_file():
        return False
    committed = git.read_committed(project.root, name)
    return committed is not None and _strip(committed, name) == _strip(path.read_bytes(), name)


def _deleted(project: Project, names: list[str]) -> list[str]:
    return [name for name in names if not os.path.lexists(project.root / name)]


def _choose_sources(project: Project, checkout: git.Checkout | None, *, tracked_only: bool) -> list[str]:
    """Paths of a project's sources, relative, with `/`, sorted."""
    if checkout:
        names: Iterable[str] = checkout.tracked if tracked_only else (*checkout.tracked, *checkout.new)
    else:
        names = _walk(project.root)
    return sorted(filter(_make_filter(project), names))


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NEVER]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _make_filter(project: Project) -> Callable[[str], bool]:
    """True for a path that belongs into the bundle."""
    generated = [
        folder.relative_to(project.root).as_posix()
        for folder in (project.archive, project.reports)
        if folder.is_relative_to(project.root)
    ]
    apart = tuple(f"{folder}/".removeprefix("./") for folder in [ENVIRONMENTS, *generated])
    excluded = [re.compile(fnmatch.translate(pattern)) for pattern in project.exclude]

    def is_source(name: str) -> bool:
        is_apart = f"{name}/".startswith(apart) or not _NEVER.isdisjoint(name.split("/"))
        return not is_apart and not any(pattern.match(name) for pattern in excluded)

    return is_source


def _add_source(archive: zipfile.ZipFile, root: Path, name: str) -> int:
    """Put a source into a zip; gives when it was changed last, in ns since 1970."""
    if "\\" in name or not name.isprintable():
        raise ProjectError(
            f"source {name!r} has a name that not every system can hold: rename it, or add it to [tool.kit] exclude"
        )
    data, status = _read_source(root, name)
    if _KEY_MARK in data and _PRIVATE_KEY.search(data):
        raise ProjectError(
            f"source {name} holds a private key, which a bundle would archive for ever: move it out of the project"
        )
    if name.endswith(".ipynb"):
        data = _strip(data, name)
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, whatever system makes the bundle
    entry.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)) << 16
    archive.writestr(entry, data)
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _read_source(root: Path, name: str) -> tuple[bytes, os.stat_result]:
    """Bytes of a source, and its status once they were read."""
    path = f"{os.fspath(root)}/{name}"
    mode = os.lstat(path).st_mode if os.path.lexists(path) else 0
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file (a submodule?)"
        raise ProjectError(
            f"source {name} is {kind}; a bundle holds regular files only: replace it, or add it to [tool.kit] exclude"
        )
    with open(path, "rb") as file:  # noqa: PTH123 - a tenth of the time that a Path of each takes
        return file.read(), os.fstat(file.fileno())


def unpack_bundle(data: bytes, folder: Path) -> None:
    """Unpack a bundle into a new folder; nothing is written outside of it.

    Raises:
        IntegrityError: an entry that no bundle of ours has (absolute, `..`, a link, a folder, a name twice, compressed
            or encrypted bytes), or far too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _require_safe(entries)
            for below in {entry.filename.rpartition("/")[0] for entry in entries}:
                (folder / below).mkdir(parents=True, exist_ok=True)
            for entry in entries:
                _write(f"{os.fspath(folder)}/{entry.filename}", archive.read(entry), entry.external_attr >> 16)
    except zipfile.BadZipFile as error:
        raise IntegrityError(f"the bundle is not a readable zip: {error}") from error


def _write(path: str, data: bytes, mode: int) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 - see `_read_source`
        file.write(data)
        os.fchmod(file.fileno(), mode & 0o777 or 0o644)


def _require_safe(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise IntegrityError("the bundle holds a name twice")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise IntegrityError(f"the bundle would unpack to more than {MAX_UNPACKED_BYTES} bytes")
    above = {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}
    for entry in entries:
        if not _is_safe_name(entry.filename) or entry.filename in above or not _is_stored_file(entry):
            raise IntegrityError(f"the bundle holds an unsafe entry: {entry.filename!r}")


def _is_safe_name(name: str) -> bool:
    return "\\" not in name and {"", ".", ".."}.isdisjoint(name.split("/"))


def _is_stored_file(entry: zipfile.ZipInfo) -> bool:
    is_file = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    return is_file and entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1  # 1: encrypted
