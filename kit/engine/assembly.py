"""The executed notebook, put together from the journal alone: also from one whose writer was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kit.engine.journal import FORMAT, JOURNAL_NAME, describe_cut
from kit.errors import IntegrityError
from kit.record import CellOutcome, CellStatus


def assemble_notebook(journal: Path) -> tuple[dict[str, Any], tuple[CellOutcome, ...]]:
    """The notebook and the cells' outcomes, up to the last whole line.

    A cell that was running when the writer was killed reads `RUNNING`; those after it `NOT_RUN`.

    Args:
        journal: the folder with journal.jsonl, or that file.

    Raises:
        NotFoundError, IntegrityError: no journal, or none that this kit reads.
    """
    path = journal / JOURNAL_NAME if journal.is_dir() else journal
    lines = _read_lines(path)
    header = next(lines, {})
    if header.get("kind") != "header" or header.get("format") != FORMAT:
        raise IntegrityError(f"{path}: no journal of format {FORMAT}: its first line is no header")
    notebook: dict[str, Any] = header["notebook"]
    outputs = _Outputs(notebook["cells"], header["budget_bytes"])
    cells = {
        index: CellOutcome(index, cell["id"], CellStatus.NOT_RUN)
        for index, cell in enumerate(notebook["cells"])
        if is_executable(cell)
    }
    for line in lines:
        match line["kind"]:
            case "kernel":
                notebook["metadata"]["language_info"] = line["language_info"]
            case "cell-start":
                index = line["cell"]
                cells[index] = msgspec.structs.replace(cells[index], status=CellStatus.RUNNING)
            case "cell-end":
                outcome = msgspec.convert(line["outcome"], CellOutcome)
                cells[outcome.index] = outcome
                notebook["cells"][outcome.index]["execution_count"] = outcome.execution_count
                outputs.set_cut(outcome.index, outcome.cut_bytes)
            case "output" | "update" | "clear" | "cut" as kind:
                getattr(outputs, f"add_{kind}")(line)
    outputs.finish()
    return notebook, tuple(cells.values())


def is_executable(cell: dict[str, Any]) -> bool:
    """A code cell with code in it."""
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines only: the last one may be torn by a kill."""
    with path.open("rb") as file:
        for data in file:
            if not data.endswith(b"\n"):
                return
            try:
                yield msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.DecodeError:
                return


class _Outputs:
    """Outputs of all cells as a front end would show them."""

    def __init__(self, cells: list[dict[str, Any]], budget_bytes: int) -> None:
        self._cells, self._budget_bytes = cells, budget_bytes
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._pieces: dict[int, list[str]] = {}
        self._to_clear: set[int] = set()
        self._cuts: dict[int, int] = {}

    def add_output(self, line: dict[str, Any]) -> None:
        outputs, output = self._outputs(line["cell"]), line["output"]
        if output["output_type"] == "stream":
            # Pieces are joined once, at the end: adding texts one by one would cost the square of their length.
            if outputs and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == output["name"]:
                self._pieces[id(outputs[-1])].append(output["text"])
                return
            self._pieces[id(output)] = [output["text"]]
        outputs.append(output)
        if display_id := line.get("display_id"):
            self._update(display_id, output["data"], output["metadata"])
            self._displays.setdefault(display_id, []).append(output)

    def add_update(self, line: dict[str, Any]) -> None:
        self._update(line["display_id"], line["data"], line["metadata"])

    def add_clear(self, line: dict[str, Any]) -> None:
        self._to_clear.add(line["cell"])
        if not line["wait"]:
            self._outputs(line["cell"])

    def add_cut(self, line: dict[str, Any]) -> None:
        self._cuts[line["cell"]] = 0

    def set_cut(self, index: int, cut_bytes: int) -> None:
        if cut_bytes:
            self._cuts[index] = cut_bytes

    def finish(self) -> None:
        """Join the streams and say what was cut."""
        for cell in self._cells:
            for output in cell.get("outputs", []):
                if output["output_type"] == "stream":
                    output["text"] = fold_text("".join(self._pieces[id(output)]))
        for index, cut_bytes in self._cuts.items():
            text = describe_cut(cut_bytes, self._budget_bytes) + "\n"
            self._cells[index]["outputs"].append({"output_type": "stream", "name": "stderr", "text": text})

    def _outputs(self, index: int) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = self._cells[index]["outputs"]
        if index in self._to_clear:
            self._to_clear.remove(index)
            # Kept alive in _displays or dropped; _pieces goes by identity, so forget those that go.
            for output in outputs:
                self._pieces.pop(id(output), None)
            outputs.clear()
        return outputs

    def _update(self, display_id: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        for output in self._displays.get(display_id, []):
            output["data"], output["metadata"] = data, metadata


def fold_text(text: str) -> str:
    """What a terminal would leave of carriage returns and backspaces (progress bars)."""
    if "\b" in text:
        kept: list[str] = []
        for character in text:
            if character != "\b":
                kept.append(character)
            elif kept and kept[-1] != "\n":
                kept.pop()
        text = "".join(kept)
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
