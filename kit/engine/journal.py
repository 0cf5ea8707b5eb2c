"""The journal: what an execution put out, appended message by message, so that a kill loses nothing that had arrived.

`journal.jsonl` holds one JSON object a line: `header` (the notebook as executed), `kernel`, then for each cell
`cell-start`, any of `output`, `update`, `clear`, `cut`, and `cell-end`; last `end`. Every line is handed to the operating
system before the next message is read; what is made of it is made durable where it is sealed. `log.txt` gets the text
streams as they come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from kit.record import CellOutcome, Failure, Status
from kit.redaction import Redactor, StreamRedactor

JOURNAL_NAME = "journal.jsonl"
LOG_NAME = "log.txt"
FORMAT = 1
# What a cell may still put out over its budget in small pieces that are no streams: a result is not lost to a chatty loop.
RESERVE_BYTES = 1_000_000
SMALL_BYTES = 64_000
# Outputs that were cleared are not in the notebook but are in the journal; there may be so many times the budget of them.
CLEARED_FACTOR = 10
TRACEBACK_CHARACTERS = 200_000

Open = Callable[[Path], IO[bytes]]


def open_new(path: Path) -> IO[bytes]:
    """A new file without a buffer of ours."""
    return path.open("xb", buffering=0)


class JournalError(OSError):
    """The journal or the log could not be written."""


class Journal:
    """Writes journal.jsonl and log.txt, redacted and within the budget.

    Raises:
        JournalError: from any method that writes, when the bytes could not be written; what was written stays readable.
    """

    def __init__(self, folder: Path, redactor: Redactor, budget_bytes: int, open_file: Open = open_new) -> None:
        self._redactor, self._budget_bytes = redactor, budget_bytes
        self._journal, self._journal_bytes = open_file(folder / JOURNAL_NAME), 0
        self._log, self._log_text = open_file(folder / LOG_NAME), redactor.stream()
        self._cell = _CellBudget(budget_bytes)
        self._streams: dict[str, StreamRedactor] = {}
        self._index = -1

    def write_header(self, notebook: dict[str, Any]) -> None:
        """The notebook as it is executed, before anything came out."""
        header = {"kind": "header", "format": FORMAT, "budget_bytes": self._budget_bytes}
        self._append({**header, "notebook": self._redactor.value(notebook)})

    def write_kernel(self, language_info: dict[str, Any]) -> None:
        """The kernel is ready."""
        self._append({"kind": "kernel", "language_info": language_info})

    def start_cell(self, index: int, position: str, source: str) -> None:
        """A cell was sent; `position` as in "3 of 9"."""
        self._index, self._cell, self._streams = index, _CellBudget(self._budget_bytes), {}
        self._append({"kind": "cell-start", "cell": index})
        first = next((line for line in source.splitlines() if line.strip()), "")
        self.log(f"--- cell {position}: {first[:100]}\n")

    def add_stream(self, name: str, text: str) -> None:
        """Text on stdout or stderr."""
        self._write_stream(name, self._streams.setdefault(name, self._redactor.stream()).feed(text))

    def add_output(self, output: dict[str, Any], display_id: str | None = None) -> None:
        """A display, a result or an error."""
        if output["output_type"] == "error":
            output = {**output, "traceback": _limit(output.get("traceback", []))}
        output = self._redactor.value(output)
        line = {"kind": "output", "cell": self._index, "output": output}
        self._append_within_budget({**line, "display_id": display_id} if display_id else line)
        if output["output_type"] == "error":
            self.log("".join(f"{text}\n" for text in output["traceback"]))

    def update_display(self, display_id: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """New content for displays that are already there."""
        content = {"data": self._redactor.value(data), "metadata": self._redactor.value(metadata)}
        self._append_within_budget({"kind": "update", "cell": self._index, "display_id": display_id, **content})

    def count_cut(self, size_bytes: int) -> None:
        """The kernel has cut output itself, because it was far over the budget."""
        self._say_cut()
        self._cell.cut(size_bytes)

    def clear_output(self, wait: bool) -> None:
        """The cell takes its outputs back, now or when the next one comes."""
        self._append({"kind": "clear", "cell": self._index, "wait": wait})
        self._cell.clear()

    def finish_cell(self, outcome: CellOutcome) -> CellOutcome:
        """A cell has ended; gives the outcome completed by what was cut."""
        for name, stream in self._streams.items():
            self._write_stream(name, stream.finish())
        outcome = msgspec.structs.replace(outcome, cut_bytes=self._cell.cut_bytes)
        if self._cell.cut_bytes:
            self.log("\n" + describe_cut(self._cell.cut_bytes, self._budget_bytes) + "\n")
        self._append({"kind": "cell-end", "outcome": outcome})
        return outcome

    def write_end(self, status: Status, failure: Failure | None) -> None:
        """Everything has ended."""
        self.log(f"--- {status}" + (f": {failure.kind}: {failure.message}" if failure else "") + "\n")
        self._write(self._log, self._log_text.finish().encode("utf-8", "replace"))
        self._append({"kind": "end", "status": status, "failure": failure})

    def log(self, text: str) -> None:
        """Append to log.txt. The log is one stream: a secret split over stdout and stderr is found here, too."""
        self._write(self._log, self._log_text.feed(text).encode("utf-8", "replace"))

    def close(self) -> None:
        """Close both files; what they hold was written before."""
        with contextlib.suppress(OSError):
            self._journal.close()
        with contextlib.suppress(OSError):
            self._log.close()

    def _write_stream(self, name: str, text: str) -> None:
        if not text:
            return
        size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        room = self._cell.room(size_bytes)
        if room < size_bytes:
            self._say_cut()
            kept = text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
            # A cut must not leave the first half of what a marker stands for: text is redacted already.
            text, size_bytes = kept, size_bytes - self._cell.cut(size_bytes - room)
        if text:
            self._cell.take(size_bytes)
            output = {"output_type": "stream", "name": name, "text": text}
            self._append({"kind": "output", "cell": self._index, "output": output})
            self.log(text)

    def _append_within_budget(self, line: dict[str, Any]) -> None:
        data = encode_line(line)
        essential = line["kind"] == "output" and line["output"]["output_type"] == "error"
        if self._cell.room(len(data)) < len(data) and not essential and not self._cell.take_from_reserve(len(data)):
            self._say_cut()
            self._cell.cut(len(data))
            return
        self._cell.take(len(data))
        self._write_journal(data)

    def _say_cut(self) -> None:
        if not self._cell.cut_bytes:
            self._append({"kind": "cut", "cell": self._index})

    def _append(self, line: dict[str, Any]) -> None:
        self._write_journal(encode_line(line))

    def _write_journal(self, data: bytes) -> None:
        try:
            self._write(self._journal, data)
        except OSError:
            # Half a line in the middle would end the reading there: take it back, so that what follows can be read.
            with contextlib.suppress(OSError):
                self._journal.truncate(self._journal_bytes)
                self._journal.seek(self._journal_bytes)
            raise
        self._journal_bytes += len(data)

    @staticmethod
    def _write(file: IO[bytes], data: bytes) -> None:
        view = memoryview(data)
        with _telling(file):
            while view:
                view = view[file.write(view) :]


@contextlib.contextmanager
def _telling(file: IO[bytes]) -> Iterator[None]:
    """Errors of this file apart from all others."""
    try:
        yield
    except OSError as error:
        raise JournalError(error.errno, error.strerror, file.name) from error


class _CellBudget:
    """Bytes that one cell has used, kept and lost."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes, self._kept, self._written, self._reserve = budget_bytes, 0, 0, RESERVE_BYTES
        self.cut_bytes = 0

    def room(self, size_bytes: int) -> int:
        """How many of these bytes may still be kept."""
        room = min(self._budget_bytes - self._kept, CLEARED_FACTOR * self._budget_bytes - self._written)
        return max(0, min(size_bytes, room))

    def take(self, size_bytes: int) -> None:
        self._kept += size_bytes
        self._written += size_bytes

    def take_from_reserve(self, size_bytes: int) -> bool:
        if size_bytes > min(SMALL_BYTES, self._reserve):
            return False
        self._reserve -= size_bytes
        return True

    def cut(self, size_bytes: int) -> int:
        self.cut_bytes += size_bytes
        return size_bytes

    def clear(self) -> None:
        self._kept = 0


def describe_cut(cut_bytes: int | None, budget_bytes: int) -> str:
    """The sentence that the notebook shows where output was cut; None where the number was lost with the process."""
    amount = f"{cut_bytes / 1e6:.3g} MB of output" if cut_bytes else "output"
    return f"[kit: {amount} over the budget of {budget_bytes / 1e6:.3g} MB {'were' if cut_bytes else 'was'} cut]"


def encode_line(line: dict[str, Any]) -> bytes:
    """One line of JSON; half surrogates, which are no Unicode text, become question marks."""
    try:
        return msgspec.json.encode(line) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_clean(msgspec.to_builtins(line))) + b"\n"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def _limit(traceback: list[str]) -> list[str]:
    """A traceback is kept whatever the budget says, so it must not be endless."""
    text = "\n".join(traceback)
    half = TRACEBACK_CHARACTERS // 2
    return traceback if len(text) <= 2 * half else [text[:half], "[kit: traceback cut here]", text[-half:]]
