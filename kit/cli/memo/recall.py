"""Answering from a memo. What is imported here is all that a command with nothing to do imports: no click, no msgspec, no re.

A memo is a text: the digest of the rest; when it was kept and until when it holds, in ns since 1970; a line for each thing that
it rests on, with the stamp that `kit.digests` explains, `>` before that of what a link leads to, or `-` for what was not there;
an empty line; what was said, each line with the number of its stream before it.

Its name is the digest of the circumstances: arguments, folder, interpreter and its path, user, streams, and the variables of
the environment. They are told apart by a digest alone, because variables hold secrets.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False  # the one of typing costs as much as all of this module
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER = ".kit/memo"  # below the project
FORMAT = 1
COMMANDS = ("all", "status")
ABSENT, FOLLOWED = "- ", "> "  # before a line
_OTHERS_MAY_WRITE = 0o022
# of a shell and its window: they say where one was, or how wide it is
_WITHOUT_WEIGHT = frozenset(("_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES"))


class Question:
    """A command line that a memo may answer.

    Args:
        arguments: without the program's name.
        clock: the present, ns since 1970.

    Attributes:
        folder: where it was asked.
        began_ns: when; whatever the answer rests on is looked at later.
        name: of its memo.
        said: what the ordinary path prints, as (1 for stdout or 2 for stderr, text).
        grounds: what the ordinary path found nothing to do in; None as long as it has not. See `kit.cli.memo.keep`.
    """

    def __init__(self, arguments: Sequence[str], clock: Callable[[], int]) -> None:
        self.arguments, self.clock, self.began_ns = tuple(arguments), clock, clock()
        self.folder = os.getcwd()  # noqa: PTH109 - strings: pathlib takes as long to import as all of this
        self.name = _digest(_describe_circumstances(self).encode("utf-8", "surrogatepass"))
        self.said: list[tuple[int, str]] = []
        self.grounds: object = None


def ask(arguments: Sequence[str], clock: Callable[[], int]) -> Question | None:
    """The question that a command line is; None for one that no memo answers."""
    if tuple(arguments[:1]) not in [(name,) for name in COMMANDS] or not hasattr(os, "geteuid"):
        return None
    rest = arguments[1:]
    is_plain = not rest or (len(rest) == 2 and rest[0] == "--env") or (len(rest) == 1 and rest[0].startswith("--env="))
    if not is_plain or any(_encoding(stream) != "utf-8" for stream in (sys.stdout, sys.stderr)):
        return None
    try:
        return Question(arguments, clock)
    except OSError:
        return None  # the folder is gone


def recall(question: Question) -> list[tuple[int, str]] | None:
    """What was said when the question was asked last; None where there is no memo, or anything is not as it was then."""
    try:
        text = _read(question)
        digest, _, rest = text.partition("\n")
        if digest != _digest(rest.encode("utf-8", "surrogateescape")):
            return None
        facts, _, said = rest.partition("\n\n")
        times, *lines = facts.split("\n")
        kept_ns, until_ns = map(int, times.split())
        if not kept_ns <= question.clock() < until_ns or not all(map(_holds, lines)):
            return None
        return [(int(line[0]), line[2:]) for line in said.split("\n")[:-1]]
    except (OSError, ValueError, IndexError):
        return None


def say(said: Sequence[tuple[int, str]]) -> None:
    """Print what was said, on the same streams in the same order.

    Raises:
        OSError: it cannot be written.
    """
    streams = {1: sys.stdout, 2: sys.stderr}
    for number, line in said:
        streams[number].write(f"{line}\n")
        streams[number].flush()


def encode(kept_ns: int, until_ns: int, lines: Sequence[str], said: Sequence[tuple[int, str]]) -> bytes:
    """A memo's bytes.

    Raises:
        ValueError: a path holds a line break.
    """
    if any("\n" in line for line in lines):
        raise ValueError("a path holds a line break")
    spoken = "".join(f"{number} {line}\n" for number, text in said for line in text.split("\n"))
    rest = "\n".join([f"{kept_ns} {until_ns}", *lines]) + f"\n\n{spoken}"
    data = rest.encode("utf-8", "surrogateescape")
    return f"{_digest(data)}\n".encode() + data


def describe(path: str, status: os.stat_result) -> str:
    """A line about something that is there."""
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{status.st_dev} {status.st_ino} {status.st_size} {times} {path}"


def describe_absence(path: str) -> str:
    """A line about something that is not there."""
    return ABSENT + path


def _holds(line: str) -> bool:
    """Whether what a line is about is as it was."""
    if line.startswith(ABSENT):
        return _is_absent(line.removeprefix(ABSENT))
    if line.startswith(FOLLOWED):
        path = line.split(" ", 6)[6]
        return FOLLOWED + describe(path, os.stat(path)) == line  # noqa: PTH116
    path = line.split(" ", 5)[5]
    return describe(path, os.lstat(path)) == line


def _is_absent(path: str) -> bool:
    """False also where that cannot be told."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _read(question: Question) -> str:
    """The text of the memo in the nearest folder above.

    Raises:
        OSError: there is none, or another user could have written it.
    """
    folder = question.folder
    while not os.path.lexists(path := f"{folder.rstrip('/')}/{FOLDER}/{question.name}"):
        folder, above = os.path.dirname(folder), folder  # noqa: PTH120
        if folder == above:
            raise FileNotFoundError(path)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="", opener=_open_own) as file:
        return file.read()


def _open_own(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE:
        return descriptor
    os.close(descriptor)
    raise PermissionError(path)


def _describe_circumstances(question: Question) -> str:
    """All that decides an answer beside what lies on disk."""
    variables = sorted(each for each in os.environ.items() if each[0] not in _WITHOUT_WEIGHT)
    interpreter = (sys.version, sys.executable, sys.flags, sys.path, sys.warnoptions)
    streams = [stream.isatty() for stream in (sys.stdout, sys.stderr)]
    user = (os.geteuid(), os.getegid(), os.getuid(), os.getgroups())
    return repr((FORMAT, question.arguments, question.folder, interpreter, user, streams, variables))


def _encoding(stream: object) -> str:
    return str(getattr(stream, "encoding", "")).lower()


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
