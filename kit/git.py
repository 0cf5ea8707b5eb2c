"""git, as far as provenance needs it: which files are sources, which commit, changed or not; checkpoints kept in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kit.errors import ProjectError

_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")


def is_repository(folder: Path) -> bool:
    """True if the folder lies in a git working tree and git is installed."""
    try:
        return _git(folder, "rev-parse", "--is-inside-work-tree").strip() == "true"
    except ProjectError:
        return False


def list_files(folder: Path, *, untracked: bool) -> list[str]:
    """Paths below a folder that git tracks and that exist, with `/`, sorted; `untracked`: also new ones not ignored."""
    selection = ["--cached", "--others", "--exclude-standard"] if untracked else ["--cached"]
    names = set(_git(folder, "ls-files", "-z", *selection).split("\0")) - {""}
    return sorted(name for name in names if os.path.lexists(folder / name))


def read_commit(folder: Path) -> str | None:
    """The commit that is checked out; None before the first."""
    try:
        return _git(folder, "rev-parse", "--verify", "HEAD").strip()
    except ProjectError:
        return None


def list_changes(folder: Path) -> list[str]:
    """Tracked paths below a folder that differ from the commit, and new ones not ignored, sorted."""
    output = _git(folder, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    prefix = _git(folder, "rev-parse", "--show-prefix").removesuffix("\n")
    names = [entry[3:] for entry in output.split("\0") if entry]
    return sorted(name.removeprefix(prefix) for name in names)


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
    # safe.directory trusts other people's repositories, so none of their programs may run (core.fsmonitor).
    settings = ["core.quotePath=false", "core.fsmonitor=false", "safe.directory=*"]
    command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
    # In a git hook, GIT_DIR and the like name the repository of the hook; reading must not write the index.
    variables = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    variables["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(command, cwd=folder, env=variables, input=data, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise ProjectError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise ProjectError(f"git {arguments[0]} failed in {folder}: {message}") from error
    return done.stdout.decode("utf-8", "surrogateescape")
