"""git, as far as provenance needs it: which files are sources, which commit, changed or not; checkpoints kept in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from kit.errors import ProjectError

GIT = "git"
ASKED = "kit.git"  # an audit event (PEP 578): something rests on how a folder stands to git, see `list_grounds`
_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_RULES = (".gitignore", ".gitattributes")
_REF = "ref: "


class Checkout(msgspec.Struct, frozen=True):
    """A folder of a git working tree: what stands there, by paths below the folder with `/`, each list sorted.

    Attributes:
        commit: that is checked out; None before the first.
        tracked: files that git tracks and that exist.
        new: files that it neither tracks nor ignores.
        changed: tracked files that differ from the commit, deleted ones too, and new ones; also those that git was told not to
            look at (`update-index --assume-unchanged`, `--skip-worktree`).
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
    sys.audit(ASKED, os.fspath(folder))
    if not _has_git(folder):
        return None
    status = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    asked = (("rev-parse", "--is-inside-work-tree", "--show-prefix"), ("ls-files", "-z", "-v", "--cached"), status)
    try:
        place, tracked, standing = _ask(folder, *asked)
    except FileNotFoundError:
        return None
    is_inside, _, prefix = place.text.partition("\n")
    if place.fault or is_inside != "true":
        return None
    commit, changed, new = _parse_status(standing.require(), prefix.removesuffix("\n"))
    root = os.fspath(folder)
    tags = {entry[2:]: entry[0] for entry in tracked.require().split("\0") if entry}
    there = {name for name in tags if os.path.lexists(f"{root}/{name}")}
    unseen = (name for name, tag in tags.items() if (tag == "S" or tag.islower()) and _differs(folder, name))
    return Checkout(commit, tuple(sorted(there)), tuple(sorted(new)), tuple(sorted({*changed, *new, *unseen})))


def _has_git(folder: Path) -> bool:
    """Whether git would find a repository (git(1), DISCOVERY); three processes need not be started to hear that it does not."""
    start = folder.absolute()
    return any(os.path.lexists(each / ".git") for each in (start, *start.parents))


def _differs(folder: Path, name: str) -> bool:
    """True for a file that is not as the commit has it."""
    path = folder / name
    return not path.is_file() or path.read_bytes() != read_committed(folder, name)


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
    command = [GIT, *(word for setting in settings for word in ("-c", setting)), *arguments]
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


def list_grounds(folder: Path, apart: Iterable[Path]) -> set[str]:
    """All that `read_checkout` rests on, there or not: sources, folders that could hold others, git's own files and settings.

    While the stamps of these are the same, git would say the same. Gives absolute paths; of a folder its own stamp counts.

    Args:
        folder: that was asked about.
        apart: folders in which nobody looks for sources.

    Raises:
        ProjectError: that cannot be listed, because a program of the user's decides it, or git stores refs in a way that is not
            known here.
    """
    programs = {f"{place}/{GIT}" for place in os.get_exec_path()}
    if not _has_git(folder):
        return programs | {f"{each}/.git" for each in (folder, *folder.parents)}
    questions = (
        ("rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir"),
        ("config", "--list", "--show-origin", "-z"),
        ("ls-files", "-z", "--cached"),
        ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignored=matching", "--", "."),
    )
    try:
        places, settings, tracked, standing = _ask(folder, *questions)
    except FileNotFoundError:
        return programs
    if places.fault:
        raise ProjectError(f"{folder} lies in a repository that git cannot read: {places.fault}")
    top, own, common = places.text.splitlines()
    found = programs | _list_own_files(own, common) | _list_settings(settings.require(), top)
    names, ignored = _parse_names(standing.require(), os.path.relpath(folder, top))
    names |= set(filter(None, tracked.require().split("\0")))
    without = tuple(f"{each}/" for each in apart)
    paths = (f"{folder}/{name}" for name in names)
    found |= {path for path in paths if not path.startswith(without)}
    found |= set(_walk(folder, {f"{folder}/{name}" for name in ignored} | set(without)))
    above = [each for each in (folder, *folder.parents) if each.is_relative_to(top)]
    found |= {f"{each}/{name}" for each in above for name in _RULES}
    found |= {
        f"{each}/.git" for each in above if not (each / ".git").is_dir()
    }  # whoever looks locks something in the folder
    _require_no_filter(found)
    return found


def _list_own_files(own: str, common: str) -> set[str]:
    """Where git keeps what is checked out.

    Args:
        own: git's folder of the working tree.
        common: that of all working trees of the repository.
    """
    found = {f"{own}/{name}" for name in ("HEAD", "index", "config.worktree", "info/sparse-checkout")}
    found |= {f"{common}/{name}" for name in ("config", "packed-refs", "shallow", "info/exclude", "info/attributes")}
    found |= {f"{common}/{name}" for name in ("info/grafts", "refs/replace", "reftable/tables.list")}
    head = Path(own, "HEAD").read_text(encoding="utf-8").strip()
    if head.startswith(_REF):
        ref = Path(common, head.removeprefix(_REF))
        if ref.is_file() and ref.read_text(encoding="utf-8").startswith(_REF):
            raise ProjectError(f"{ref} names another ref")
        found |= {str(ref), f"{own}/{head.removeprefix(_REF)}"}
    return found


def _list_settings(output: str, top: str) -> set[str]:
    """Files of settings, and those that they name, of `git config --list --show-origin -z`."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    found = {f"{home}/git/{name}" for name in ("config", "ignore", "attributes")}
    program = os.path.realpath(shutil.which(GIT) or "/")
    systems = {"/etc", f"{os.path.dirname(os.path.dirname(program))}/etc"}  # noqa: PTH120
    found |= {f"{each}/{name}" for each in systems for name in ("gitconfig", "gitattributes")}
    found.add(os.path.expanduser("~/.gitconfig"))  # noqa: PTH111
    entries = output.split("\0")
    for origin, setting in zip(entries[::2], entries[1::2], strict=False):
        file = os.path.join(top, origin.removeprefix("file:"))  # noqa: PTH118
        key, _, value = setting.partition("\n")
        found |= {file} if origin.startswith("file:") else set()
        is_include = key.startswith(("include.", "includeif.")) and key.endswith(".path")
        if is_include or key in ("core.excludesfile", "core.attributesfile"):
            if value.startswith("%"):
                raise ProjectError(f"{key} is {value!r}, below where git is installed")
            base = os.path.dirname(file) if is_include else top  # noqa: PTH120
            found.add(os.path.join(base, os.path.expanduser(value)))  # noqa: PTH111, PTH118
    return found


def _parse_names(output: str, prefix: str) -> tuple[set[str], set[str]]:
    """(changed and new names, ignored ones) of `git status --porcelain=v2 --ignored`, below the folder; `/` ends a folder's."""
    below = "" if prefix == "." else f"{prefix}/"
    _, changed, new = _parse_status(output, below)
    ignored = (entry[2:].removeprefix(below) for entry in output.split("\0") if entry.startswith("! "))
    return {*changed, *new}, set(ignored)


def _walk(folder: Path, without: Set[str]) -> Iterator[str]:
    """A folder and those below, each with the files that tell git what to ignore and how to compare."""
    waiting = [os.fspath(folder)]
    while waiting:
        yield (path := waiting.pop())
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    if entry.name in _RULES:
                        yield entry.path
                elif entry.name != ".git" and f"{entry.path}/" not in without:
                    waiting.append(entry.path)


def _require_no_filter(paths: Iterable[str]) -> None:
    """Refuse attributes by which a program of the user's tells whether a file has changed."""
    for path in paths:
        if path.endswith("attributes") and os.path.isfile(path) and b"filter" in Path(path).read_bytes():  # noqa: PTH113
            raise ProjectError(f"{path} names a filter")
