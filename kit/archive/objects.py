"""Objects: bytes by their SHA-256, once each, read-only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from kit.artifact import TREE_MEDIA_TYPE, Artifact, Tree, TreeEntry, media_type_of
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import copy_and_hash, create_exclusive, read_regular, sha256_bytes, sha256_file, sync_file, sync_folder

_MAX_TREE_BYTES = 256_000_000  # of the list of a folder's files, some two million of them


class Objects:
    """The folder `objects/sha256/ab/cdef…` of an archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where an object lies, there or not."""
        return self.folder / "sha256" / sha256[:2] / sha256[2:]

    def has(self, sha256: str) -> bool:
        """True if the object is there."""
        return self.path(sha256).is_file()

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; gives their digest."""
        sha256 = sha256_bytes(data)
        create_exclusive(self.path(sha256), data)
        return sha256

    def put_file(self, source: Path) -> tuple[str, int]:
        """Keep a file's bytes as they are while it is copied; gives (sha256, bytes), durable on return."""
        staging = self.folder / "tmp"
        staging.mkdir(parents=True, exist_ok=True)
        temporary = staging / secrets.token_hex(8)
        try:
            sha256, size_bytes = copy_and_hash(source, temporary)
            target = self.path(sha256)
            if not target.exists():
                temporary.chmod(0o444)
                sync_file(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256, size_bytes

    def put_artifact(self, name: str, source: Path) -> Artifact:
        """Keep a file or a folder under an artifact's name.

        Raises:
            UsageError: it is an empty folder, or holds a link or a special file.
        """
        if source.is_symlink() or not source.is_dir():
            if source.is_symlink() or not source.is_file():
                raise UsageError(f"artifact {name!r} must be a regular file or a folder of them")
            sha256, size_bytes = self.put_file(source)
            return Artifact(name, sha256, size_bytes, media_type_of(name))
        tree = Tree(tuple(TreeEntry(path, *self.put_file(source / path)) for path in list_folder(source, name)))
        return Artifact(name, self.put_bytes(tree.encode()), tree.size_bytes, TREE_MEDIA_TYPE)

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
        for entry in self.read_tree(artifact).files:
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._copy(entry.sha256, path, f"{artifact.name}/{entry.path}")

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


def hash_artifact(name: str, path: Path) -> str | None:
    """Digest that a file or folder has now, as an artifact; None if it is gone."""
    if path.is_dir():
        names = list_folder(path, name)
        files = (TreeEntry(each, sha256_file(path / each), (path / each).stat().st_size) for each in names)
        return Tree(tuple(files)).sha256
    return sha256_file(path) if path.is_file() else None


def list_folder(folder: Path, name: str) -> list[str]:
    """Paths of a folder artifact's files, relative, with `/`, sorted.

    Raises:
        UsageError: it is empty, or holds a link or a special file.
    """
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise UsageError(f"artifact {name!r} holds {path.name!r}, which is no regular file")
    if not paths:
        raise UsageError(f"artifact {name!r} is an empty folder")
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _link(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return
    sync_folder(target.parent)
