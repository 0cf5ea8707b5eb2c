"""The cells of two executed notebooks, aligned and compared.

Cells are matched by their ids, which editors and kit keep; the cell of injected parameters, whose id is drawn at each
execution, with its like; the rest by equal, then by similar sources (difflib). nbdime aligns by similarity alone and
would bring its own server and JupyterLab parts along: where ids are kept it knows less than they tell.
"""

from __future__ import annotations

import bisect
import difflib
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from kit.diff.lines import diff_lines
from kit.diff.outputs import Windows, diff_outputs, read_outputs, read_text
from kit.diff.values import Cell, CellDiff, Change, Output, OutputDiff
from kit.record import CellOutcome

INJECTED = "injected-parameters"
SIMILAR = 0.6  # of difflib's ratio; what the module's own documentation calls close
MAX_COMPARED = 100  # cells a side, and
MAX_COMPARED_CHARACTERS = 5000  # a cell, beyond which similarity is not looked for: difflib is quadratic


def read_cells(notebook: Mapping[str, Any], outcomes: Sequence[CellOutcome]) -> tuple[Cell, ...]:
    """The cells of an executed notebook, as `kit.notebook.read_notebook` gives it."""
    by_index = {outcome.index: outcome for outcome in outcomes}
    return tuple(_read_cell(index, raw, by_index.get(index)) for index, raw in enumerate(notebook.get("cells", ())))


def _read_cell(index: int, raw: Mapping[str, Any], outcome: CellOutcome | None) -> Cell:
    tags = (raw.get("metadata") or {}).get("tags") or ()
    return Cell(
        index=index,
        id=read_text(raw.get("id")),
        kind=str(raw.get("cell_type", "")),
        role=next((role for role in (INJECTED, "parameters") if role in tags), ""),
        source=read_text(raw.get("source")),
        status=outcome.status.value if outcome else "",
        duration_s=outcome.duration_s if outcome else None,
    )


def diff_cells(
    before: Sequence[Cell],
    after: Sequence[Cell],
    outputs_before: Sequence[Sequence[Output]],
    outputs_after: Sequence[Sequence[Output]],
    windows: Windows = (None, None),
) -> tuple[CellDiff, ...]:
    """All cells of both sides in pairs, in the second's order, what only the first has where it stood."""
    pairs = align_cells(before, after)
    moved = _find_moved([pairs[j] for j in sorted(pairs)])
    matched = set(pairs.values())
    gone: dict[int, list[CellDiff]] = defaultdict(list)
    place = -1
    for i, cell in enumerate(before):
        if i in matched:
            place = i
        else:
            outputs = diff_outputs(outputs_before[i], ())
            gone[place].append(
                CellDiff(Change.REMOVED, before=cell, lines=diff_lines(cell.source, ""), outputs=outputs)
            )
    found = gone.pop(-1, [])
    for j, cell in enumerate(after):
        if (i := pairs.get(j, -1)) >= 0:
            outputs = diff_outputs(outputs_before[i], outputs_after[j], windows)
            found += [_compare(before[i], cell, i in moved, outputs), *gone[i]]
        else:
            outputs = diff_outputs((), outputs_after[j])
            found.append(CellDiff(Change.ADDED, after=cell, lines=diff_lines("", cell.source), outputs=outputs))
    return tuple(found)


def read_all_outputs(notebook: Mapping[str, Any]) -> list[tuple[Output, ...]]:
    """The outputs of each cell of a notebook."""
    return [read_outputs(raw) for raw in notebook.get("cells", ())]


def _compare(before: Cell, after: Cell, moved: bool, outputs: tuple[OutputDiff, ...]) -> CellDiff:
    is_same = before.source == after.source and before.status == after.status
    change = Change.SAME if is_same else Change.CHANGED
    return CellDiff(change, moved, before, after, diff_lines(before.source, after.source), outputs)


def align_cells(before: Sequence[Cell], after: Sequence[Cell]) -> dict[int, int]:
    """Position in `after` -> position in `before`, for the cells that are the same cell."""
    pairs: dict[int, int] = {}
    free_before, free_after = set(range(len(before))), set(range(len(after)))

    def match(key: Callable[[Cell], Hashable]) -> None:
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for i in sorted(free_before, reverse=True):
            waiting[before[i].kind, key(before[i])].append(i)
        for j in sorted(free_after):
            if key(after[j]) and (candidates := waiting[after[j].kind, key(after[j])]):
                keep(candidates.pop(), j)

    def keep(i: int, j: int) -> None:
        pairs[j] = i
        free_before.discard(i)
        free_after.discard(j)

    match(lambda cell: cell.role == INJECTED)
    match(lambda cell: cell.id)
    match(lambda cell: cell.source)
    for i, j in _match_similar(before, after, sorted(free_before), sorted(free_after)):
        keep(i, j)
    return pairs


def _match_similar(
    before: Sequence[Cell], after: Sequence[Cell], free_before: list[int], free_after: list[int]
) -> list[tuple[int, int]]:
    """Pairs of similar sources, the most similar first, each cell once."""
    scores = []
    for j in free_after[:MAX_COMPARED]:
        matcher = difflib.SequenceMatcher(None, autojunk=False)
        matcher.set_seq2(after[j].source[:MAX_COMPARED_CHARACTERS])
        for i in free_before[:MAX_COMPARED]:
            if before[i].kind == after[j].kind:
                matcher.set_seq1(before[i].source[:MAX_COMPARED_CHARACTERS])
                if matcher.real_quick_ratio() >= SIMILAR and matcher.quick_ratio() >= SIMILAR:
                    scores.append((-matcher.ratio(), abs(i - j), i, j))
    used: set[tuple[str, int]] = set()
    pairs = []
    for score, _, i, j in sorted(scores):
        if -score >= SIMILAR and not {("i", i), ("j", j)} & used:
            used |= {("i", i), ("j", j)}
            pairs.append((i, j))
    return pairs


def _find_moved(order: Sequence[int]) -> set[int]:
    """Those that are not in the longest rising run (patience sorting): the fewest that must have moved."""
    tails: list[int] = []
    ranks = []
    for value in order:
        rank = bisect.bisect_left(tails, value)
        tails[rank : rank + 1] = [value]
        ranks.append(rank)
    kept: set[int] = set()
    wanted = len(tails) - 1
    for value, rank in zip(reversed(order), reversed(ranks), strict=True):
        if rank == wanted:
            kept.add(value)
            wanted -= 1
    return set(order) - kept
