"""Objects: bytes by their SHA-256, once each, read-only."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from kit.artifact import TREE_MEDIA_TYPE, Artifact, Tree, TreeEntry, media_type_of
from kit.digests import Digests, Notes, Stamp, stamp_of
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import (
    copy_and_hash,
    copy_open,
    create_exclusive,
    digest_of,
    open_regular,
    read_regular,
    sha256_bytes,
    sha256_file,
    sync_all,
    sync_folder,
    tell_look,
    temporary_beside,
)

_NEEDED_S = 7 * 86_400.0
_MAX_TREE_BYTES = 256_000_000  # of the list of a folder's files, some two million of them


class _Copy(NamedTuple):
    """A file that was copied into the archive and has no name there yet."""

    path: Path
    sha256: str
    size_bytes: int


class Objects:
    """The folder `objects/sha256/ab/cdef…` of an archive.

    Who keeps bytes can rely on them: an object that is no longer what its name says is replaced, never taken for them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where an object lies, there or not."""
        return self.folder / "sha256" / sha256[:2] / sha256[2:]

    def has(self, sha256: str) -> bool:
        """True if the object is there."""
        path = self.path(sha256)
        tell_look(str(path))
        return path.is_file()

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; gives their digest."""
        sha256 = sha256_bytes(data)
        path = self.path(sha256)
        if not self.has(sha256) and create_exclusive(path, data):
            return sha256
        if not self._holds(sha256, data):
            with temporary_beside(path) as temporary:
                create_exclusive(temporary, data)
                temporary.replace(path)
            sync_folder(path.parent)
        return sha256

    def _holds(self, sha256: str, data: bytes) -> bool:
        """True if an object has these bytes: a fifth of the time that their digest takes."""
        try:
            return read_regular(self.path(sha256)) == data
        except OSError:
            return False

    def _is_intact(self, sha256: str) -> bool:
        """True if an object is there, and is what its name says."""
        try:
            with open_regular(self.path(sha256)) as file:
                return digest_of(file) == sha256
        except OSError:
            return False

    def put_file(self, source: Path) -> tuple[str, int]:
        """Keep a file's bytes as they are while it is copied; gives (sha256, bytes), durable on return."""
        return self._put_files({"": source}, Notes())[""]

    def put_artifact(self, name: str, source: Path, digests: Digests | None = None) -> Artifact:
        """Keep a file or a folder under an artifact's name.

        Args:
            name: the artifact's.
            source: absolute path of the file or folder.
            digests: what is known of files: one that has not changed, and whose object has not, is neither read nor copied.

        Raises:
            UsageError: it is an empty folder, or holds a link or a special file.
        """
        with digests.notes(source) if digests else contextlib.nullcontext(Notes()) as notes:
            if source.is_symlink() or not source.is_dir():
                if source.is_symlink() or not source.is_file():
                    raise UsageError(f"artifact {name!r} must be a regular file or a folder of them")
                sha256, size_bytes = self._keep_files({"": stamp_of(source.lstat())}, source, notes)[""]
                return Artifact(name, sha256, size_bytes, media_type_of(name))
            files = self._keep_files(walk_folder(source, name), source, notes)
            tree = Tree(tuple(TreeEntry(path, *each) for path, each in files.items()))
            return Artifact(name, self.put_bytes(tree.encode()), tree.size_bytes, TREE_MEDIA_TYPE)

    def _keep_files(self, stamps: Mapping[str, Stamp], source: Path, notes: Notes) -> dict[str, tuple[str, int]]:
        """(sha256, bytes) of files by relative path; those that are not known to be here already are copied."""
        known = {name: sha256 for name, stamp in stamps.items() if (sha256 := notes.recall(name, stamp))}
        intact = self._find_intact(set(known.values()), notes)
        put = self._put_files({n: source / n if n else source for n in stamps if known.get(n) not in intact}, notes)
        return {name: put.get(name) or (known[name], stamp.size_bytes) for name, stamp in stamps.items()}

    def _find_intact(self, digests: Iterable[str], notes: Notes) -> set[str]:
        """Those of some objects that are here, and whose bytes have not changed since they had that digest."""
        intact, root = set(), os.fspath(self.folder / "sha256")
        for sha256 in digests:
            path = f"{root}/{sha256[:2]}/{sha256[2:]}"
            with contextlib.suppress(OSError):  # not here, or no regular file
                if notes.sha256(f"/{sha256}", path, stamp_of(os.lstat(path))) == sha256:
                    intact.add(sha256)
        return intact

    def _put_files(self, sources: Mapping[str, Path], notes: Notes) -> dict[str, tuple[str, int]]:
        """Copy files into objects, all of them and then the disk's turn: half the time of one after the other."""
        copies: dict[str, _Copy] = {}
        staging = self.folder / "tmp"
        if sources:
            staging.mkdir(parents=True, exist_ok=True)
            _remove_left(staging)
        try:
            for name, source in sources.items():
                copies[name] = self._copy_in(name, source, notes)
            self._link({copy.sha256: copy.path for copy in copies.values()})
        finally:
            for copy in copies.values():
                copy.path.unlink(missing_ok=True)
        return {name: (copy.sha256, copy.size_bytes) for name, copy in copies.items()}

    def _copy_in(self, name: str, source: Path, notes: Notes) -> _Copy:
        temporary = self.folder / "tmp" / secrets.token_hex(8)
        try:
            with open_regular(source) as reader:
                watch = notes.watch(reader.fileno())
                sha256, size_bytes = copy_open(reader, temporary)
                notes.add(name, sha256, watch)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return _Copy(temporary, sha256, size_bytes)

    def _link(self, copies: Mapping[str, Path]) -> None:
        """Give copies their names, durable on return; no name before its bytes are."""
        new = {self.path(sha256): copy for sha256, copy in copies.items() if not self._is_intact(sha256)}
        for copy in new.values():
            copy.chmod(0o444)
        sync_all(new.values())
        for target, copy in new.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            copy.replace(target)
        sync_all({folder for target in new for folder in (target.parent, self.folder / "sha256")})

    def read(self, sha256: str) -> bytes:
        """Bytes of an object, verified.

        Raises:
            NotFoundError: it is not there.
            IntegrityError: its bytes are not those that its name says.
        """
        try:
            data = read_regular(self.path(sha256))
        except FileNotFoundError:
            raise NotFoundError(f"object {sha256[:12]}… is not in the archive") from None
        except OSError as error:
            raise IntegrityError(f"object {sha256[:12]}… cannot be read: {error.strerror or error}") from error
        if sha256_bytes(data) != sha256:
            raise IntegrityError(f"object {sha256[:12]}… was changed in the archive: its bytes do not have that digest")
        return data

    def describe(self, name: str, sha256: str) -> Artifact:
        """The artifact that an object is: a folder if its bytes are exactly a tree's, else a file.

        Raises:
            NotFoundError: it is not there.
        """
        try:
            size_bytes = self.path(sha256).stat().st_size
        except FileNotFoundError:
            raise NotFoundError(f"{name}: object {sha256[:12]}… is not in the archive") from None
        tree = self._read_as_tree(sha256) if size_bytes <= _MAX_TREE_BYTES else None
        if tree:
            return Artifact(name, sha256, tree.size_bytes, TREE_MEDIA_TYPE)
        return Artifact(name, sha256, size_bytes, media_type_of(name))

    def _read_as_tree(self, sha256: str) -> Tree | None:
        try:
            data = self.read(sha256)
            tree = msgspec.json.decode(data, type=Tree)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return tree if tree.encode() == data else None

    def read_tree(self, artifact: Artifact) -> Tree:
        """The files of a folder artifact.

        Raises:
            IntegrityError: it is no list of files that lie inside of a folder.
        """
        where = f"{artifact.name}: object {artifact.sha256[:12]}…"
        try:
            tree = msgspec.json.decode(self.read(artifact.sha256), type=Tree)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise IntegrityError(f"{where}: not a list of files: {error}") from error
        for entry in tree.files:
            if any(part in ("", ".", "..") for part in entry.path.split("/")) or "\0" in entry.path:
                raise IntegrityError(f"{where}: {entry.path!r} does not lie inside of the folder")
        return tree

    def copy_artifact(self, artifact: Artifact, target: Path) -> None:
        """Put a verified copy of an artifact at a path that is free.

        Raises:
            NotFoundError: an object is not there.
            IntegrityError: an object's bytes were changed.
        """
        if not artifact.is_folder:
            self._copy(artifact.sha256, target, artifact.name)
            return
        files = self.read_tree(artifact).files
        for folder in {path.rpartition("/")[0] for path in (entry.path for entry in files)}:
            (target / folder).mkdir(parents=True, exist_ok=True)
        for entry in files:
            self._copy(entry.sha256, target / entry.path, f"{artifact.name}/{entry.path}")

    def _copy(self, sha256: str, target: Path, name: str) -> None:
        try:
            copied, _ = copy_and_hash(self.path(sha256), target)
        except FileNotFoundError as error:
            if self.has(sha256):
                raise
            raise NotFoundError(f"{name}: object {sha256[:12]}… is not in the archive") from error
        if copied != sha256:
            target.unlink()
            raise IntegrityError(f"{name}: object {sha256[:12]}… was changed in the archive: found {copied[:12]}…")


def _remove_left(staging: Path) -> None:
    """Remove the copies that killed processes left; who still needs one has written to it within `_NEEDED_S`."""
    before = time.time() - _NEEDED_S
    for copy in staging.iterdir():
        with contextlib.suppress(OSError):
            if copy.lstat().st_mtime < before:
                copy.unlink()


def hash_artifact(name: str, path: Path) -> str | None:
    """Digest that a file or folder has now, as an artifact; None if it is gone."""
    if path.is_dir():
        stamps = walk_folder(path, name)
        files = (TreeEntry(each, sha256_file(path / each), stamp.size_bytes) for each, stamp in stamps.items())
        return Tree(tuple(files)).sha256
    return sha256_file(path) if path.is_file() else None


def walk_folder(folder: Path, name: str) -> dict[str, Stamp]:
    """A folder artifact's files: relative path, with `/`, to the stamp it has now; sorted.

    Raises:
        UsageError: it is empty, or holds a link, a special file or a name that is no Unicode.
    """
    found, waiting = {}, [("", os.fspath(folder))]
    while waiting:
        prefix, path = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[prefix + entry.name] = stamp_of(entry.stat(follow_symlinks=False))
                else:
                    raise UsageError(f"artifact {name!r} holds {entry.name!r}, which is no regular file")
    if not found:
        raise UsageError(f"artifact {name!r} is an empty folder")
    if strange := [each for each in found if not _is_unicode(each)]:
        raise UsageError(f"artifact {name!r} holds {os.fsencode(strange[0])!r}, a name that is no Unicode: rename it")
    return dict(sorted(found.items()))


def _is_unicode(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def list_folder(folder: Path, name: str) -> list[str]:
    """Paths of a folder artifact's files; see `walk_folder`."""
    return list(walk_folder(folder, name))
