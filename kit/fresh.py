"""A module of kit in a fresh process of its own: asked in JSON, answering in JSON, never trusted to end or to answer.

For what must not be imported here (TensorFlow, Great Expectations), what a stranger made (models), and what may never end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kit.errors import KitError
from kit.signing import KEY_VARIABLE

_Order = TypeVar("_Order")
_Answer = TypeVar("_Answer")

MAX_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A process that gave none.

    Attributes:
        problem: what it did instead, behind the name of the process: `ended with 3 and no answer`.
        last_line: the end of what it said, up to 300 characters; may hold anything, a row's values too.
        is_late: True if its time was over.
    """

    problem: str
    last_line: str = ""
    is_late: bool = False

    def describe(self, process: str) -> str:
        """The sentence with the process' name and its last line."""
        return f"{process} {self.problem}{self.last_line and ': '}{self.last_line}"


def ask(
    module: str, order: Any, kind: type[_Answer], timeout_s: float, variables: Mapping[str, str] | None = None
) -> _Answer | NoAnswer:
    """Start `python -m module` in an empty folder, without the signing key, and read its answer.

    Args:
        module: hands its arguments to `answer`.
        order: what is asked; paths in it must be absolute.
        kind: of the answer.
        timeout_s: for the whole process, its imports too.
        variables: environment variables beside those that are set here.
    """
    with tempfile.TemporaryDirectory(prefix="kit-fresh-") as name:
        folder = Path(name)
        (folder / "order.json").write_bytes(msgspec.json.encode(order))
        try:
            code = _start(module, folder, timeout_s, variables or {})
        except subprocess.TimeoutExpired:
            return NoAnswer(f"gave no answer in {timeout_s:g} s", is_late=True)
        except OSError as error:
            return NoAnswer(f"did not start: {error.strerror or type(error).__name__}")
        try:
            result = msgspec.json.decode((folder / "answer.json").read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return NoAnswer(f"ended with {code} and no answer", _read_last_line(folder / "log.txt"))
        # a process that fails after its answer, as at TensorFlow's own end, was not well when it gave it
        return result if code == 0 else NoAnswer(f"ended with {code}", _read_last_line(folder / "log.txt"))


def _start(module: str, folder: Path, timeout_s: float, variables: Mapping[str, str]) -> int:
    """The code it ends with."""
    inherited = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    # -P: a `kit` or `pandas` folder that happens to lie in the working directory must not be imported.
    command = [sys.executable, "-P", "-m", module, "order.json", "answer.json"]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.run(
            command, env={**inherited, **variables}, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            timeout=timeout_s, check=False,
        ).returncode  # fmt: skip


def _read_last_line(log: Path) -> str:
    return log.read_text("utf-8", "replace").strip().rpartition("\n")[2].strip()[:MAX_CHARACTERS]


def answer(arguments: Sequence[str], order_type: type[_Order], work: Callable[[_Order], Any]) -> None:
    """The process itself: read the order, do the work, write the answer; without that it counts for nothing.

    Args:
        arguments: of the command line: the order's file, the answer's file.
        order_type: what `ask` was given.
        work: from the order to the answer.
    """
    order_path, answer_path = map(Path, arguments)
    order = msgspec.json.decode(order_path.read_bytes(), type=order_type)
    answer_path.write_bytes(msgspec.json.encode(work(order)))


def first_line(error: BaseException) -> str:
    """An exception as one line of up to 300 characters, with its kind if it is none of kit's own."""
    line = str(error).strip().partition("\n")[0][:MAX_CHARACTERS]
    return line if isinstance(error, KitError) else f"{type(error).__name__}: {line}"
