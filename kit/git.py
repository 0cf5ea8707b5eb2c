"""git, as far as provenance needs it: which files are sources, which commit, changed or not; checkpoints kept in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kit.errors import ProjectError

_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")


class Checkout(msgspec.Struct, frozen=True):
    """A folder of a git working tree: what stands there, by paths below the folder with `/`, each list sorted.

    Attributes:
        commit: that is checked out; None before the first.
        tracked: files that git tracks and that exist.
        new: files that it neither tracks nor ignores.
        changed: tracked files that differ from the commit, deleted ones too, and new ones.
    """

    commit: str | None
    tracked: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]


def read_checkout(folder: Path) -> Checkout | None:
    """How a folder stands to git; None if it lies in no working tree, or git is not installed.

    Raises:
        ProjectError: git cannot read its own files.
    """
    status = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    asked = (("rev-parse", "--is-inside-work-tree", "--show-prefix"), ("ls-files", "-z", "--cached"), status)
    try:
        place, tracked, standing = _ask(folder, *asked)
    except FileNotFoundError:
        return None
    is_inside, _, prefix = place.text.partition("\n")
    if place.fault or is_inside != "true":
        return None
    commit, changed, new = _parse_status(standing.require(), prefix.removesuffix("\n"))
    root = os.fspath(folder)
    there = {name for name in tracked.require().split("\0") if name and os.path.lexists(f"{root}/{name}")}
    return Checkout(commit, tuple(sorted(there)), tuple(sorted(new)), tuple(sorted({*changed, *new})))


def _parse_status(output: str, prefix: str) -> tuple[str | None, list[str], list[str]]:
    """(commit, changed, new) of `git status --porcelain=v2 --branch -z`: a path is the last of 9 fields, of a conflict of 11."""
    commit, changed, new = None, [], []
    for entry in output.split("\0"):
        kind = entry[:2]
        if entry.startswith("# branch.oid ") and not entry.endswith(" (initial)"):
            commit = entry.rpartition(" ")[2]
        elif kind in ("1 ", "u "):
            changed.append(entry.split(" ", 8 if kind == "1 " else 10)[-1].removeprefix(prefix))
        elif kind == "? ":
            new.append(entry[2:].removeprefix(prefix))
    return commit, changed, new


def read_committed(folder: Path, name: str) -> bytes | None:
    """A file's bytes in the commit that is checked out, by its path below a folder; None if it is not in it."""
    try:
        return _git(folder, "show", f"HEAD:./{name}").encode("utf-8", "surrogateescape")
    except ProjectError:
        return None


def commit_to_ref(folder: Path, ref: str, name: str, data: bytes, message: str) -> bool:
    """Commit one file to a ref of its own, beside all branches: no branch, index or file of the working tree changes.

    Returns:
        False if the ref has exactly this file already; then nothing is committed.

    Raises:
        ProjectError: git is not there, does not know who commits, or someone else committed there just now.
    """
    blob = _git(folder, "hash-object", "-w", "--stdin", data=data).strip()
    tree = _git(folder, "mktree", data=f"100644 blob {blob}\t{name}\n".encode()).strip()
    try:
        parent = _git(folder, "rev-parse", "--verify", "--quiet", ref).strip()
    except ProjectError:
        parent = ""
    if parent and _git(folder, "rev-parse", f"{parent}^{{tree}}").strip() == tree:
        return False
    parents = ["-p", parent] if parent else []
    commit = _git(folder, "commit-tree", tree, *parents, "-m", message).strip()
    _git(folder, "update-ref", ref, commit, parent or "0" * len(commit))
    return True


def _git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    """What git says.

    Raises:
        ProjectError: it is not installed, or fails.
    """
    try:
        return _finish(_start(folder, arguments, subprocess.PIPE), folder, arguments, data).require()
    except FileNotFoundError as error:
        raise ProjectError("git is not installed") from error


def _ask(folder: Path, *questions: Sequence[str]) -> list[_Answer]:
    """What git says to some questions, asked at the same time.

    Raises:
        FileNotFoundError: it is not installed.
    """
    processes = [_start(folder, question, subprocess.DEVNULL) for question in questions]
    return [_finish(process, folder, question) for process, question in zip(processes, questions, strict=True)]


class _Answer(NamedTuple):
    """What git printed, and what went wrong."""

    text: str
    fault: str

    def require(self) -> str:
        """What it printed.

        Raises:
            ProjectError: it failed.
        """
        if self.fault:
            raise ProjectError(self.fault)
        return self.text


def _start(folder: Path, arguments: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
    # safe.directory trusts other people's repositories, so none of their programs may run (core.fsmonitor).
    settings = ["core.quotePath=false", "core.fsmonitor=false", "safe.directory=*"]
    command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
    # In a git hook, GIT_DIR and the like name the repository of the hook; reading must not write the index.
    variables = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    variables["GIT_OPTIONAL_LOCKS"] = "0"
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _finish(
    process: subprocess.Popen[bytes], folder: Path, arguments: Sequence[str], data: bytes | None = None
) -> _Answer:
    with process:
        output, complaint = process.communicate(data)
    message = complaint.decode(errors="replace").strip()
    fault = f"git {arguments[0]} failed in {folder}: {message}" if process.returncode else ""
    return _Answer(output.decode("utf-8", "surrogateescape"), fault)
