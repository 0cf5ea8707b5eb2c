"""git, as far as provenance needs it: which files are sources, which commit, changed or not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kit.errors import ProjectError


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
    prefix = _git(folder, "rev-parse", "--show-prefix").strip()
    names = [entry[3:] for entry in output.split("\0") if entry]
    return sorted(name.removeprefix(prefix) for name in names)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.quotePath=false", "-c", "safe.directory=*", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise ProjectError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise ProjectError(f"git {arguments[0]} failed in {folder}: {message}") from error
    return done.stdout.decode("utf-8", "surrogateescape")
