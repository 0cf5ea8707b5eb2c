"""Comparing what the cells of two executed notebooks show."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from kit.compare.comparator import CELLS, Comparator, Kind, metric_comparator
from kit.compare.comparison import Agreement, Comparison
from kit.compare.images import compare_images
from kit.compare.metrics import compare_metric
from kit.compare.moments import Window
from kit.compare.parts import SCRAP, Part, join_lines, read_parts
from kit.compare.structure import compare_values
from kit.compare.tally import Tally, show
from kit.compare.volatile import normalise_markup, normalise_text

INJECTED = "injected-parameters"
_MARKUP = ("text/html", "image/svg+xml", "text/markdown", "text/latex")
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_WIDGETS = "application/vnd.jupyter.widget-"  # their models are named at random, and the page cannot show them alone
_TEXT_COMPARATOR = "text"
_SHOWN = 100


def read_cells(notebook: Mapping[str, Any]) -> dict[str, str]:
    """Source of each code cell by its id, without the parameters that papermill injected."""
    return {key: join_lines(cell.get("source", "")) for key, cell in _code_cells(notebook).items() if key != INJECTED}


def compare_cells(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    comparators: Mapping[str, Comparator],
    *,
    windows: tuple[Window | None, Window | None] = (None, None),
) -> tuple[Comparison, ...]:
    """Compare the outputs of two executed notebooks cell by cell, aligned by cell id.

    Args:
        before: notebook of format 4.
        after: the same.
        comparators: as the project declares them; for a cell `ignore`, `bytes` (nothing is normalised) or `image`.
        windows: start and end of each execution, to tell its own times from others; None: as papermill noted it.
    """
    old, new = _code_cells(before), _code_cells(after)
    spans = (windows[0] or read_window(before), windows[1] or read_window(after))
    ids = [*old, *(key for key in new if key not in old)]
    found = []
    for key in ids:
        if key == INJECTED and not any(cells.get(key, {}).get("outputs") for cells in (old, new)):
            continue
        found.append(_compare_cell(key, old.get(key), new.get(key), comparators, spans))
    return tuple(found)


def read_window(notebook: Mapping[str, Any]) -> Window | None:
    """Start and end of an execution as papermill notes them in the notebook; None if it does not."""
    facts = notebook.get("metadata", {}).get("papermill", {})
    try:
        start, end = (datetime.fromisoformat(facts[key]) for key in ("start_time", "end_time"))
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (start, end))  # type: ignore[return-value]


def _code_cells(notebook: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    cells: dict[str, Mapping[str, Any]] = {}
    for index, cell in enumerate(notebook.get("cells", ())):
        if cell.get("cell_type") != "code":
            continue
        key = str(cell.get("id") or f"#{index}")
        if INJECTED in (cell.get("metadata") or {}).get("tags", ()):
            key = INJECTED  # papermill gives it a new id each time
        cells[key if key not in cells else f"{key} at {index}"] = cell
    return cells


def _compare_cell(
    key: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    comparators: Mapping[str, Comparator],
    windows: tuple[Window | None, Window | None],
) -> Comparison:
    comparator = comparators.get(CELLS + key)
    told = str(comparator) if comparator else _TEXT_COMPARATOR
    if comparator and comparator.kind is Kind.IGNORE:
        return Comparison(CELLS + key, told, Agreement.IGNORED, comparator.reason)
    if before is None or after is None:
        detail = "there is no such cell any more" if after is None else "there was no such cell"
        return Comparison(CELLS + key, told, Agreement.DIFFERENT, detail)
    old, new = read_parts(before), read_parts(after)
    if old == new:
        return Comparison(CELLS + key, told, Agreement.IDENTICAL)
    if [(part.place, part.media_type) for part in old] != [(part.place, part.media_type) for part in new]:
        return Comparison(CELLS + key, told, Agreement.DIFFERENT, _tell_missing(old, new))
    for was, now in zip(old, new, strict=True):
        problem = _compare_part(was, now, comparator, comparators, windows)
        if problem:
            return Comparison(CELLS + key, told, Agreement.DIFFERENT, f"{was.place}: {problem}")
    return Comparison(CELLS + key, told, Agreement.EQUAL, "the same but for what changes each time")


def _tell_missing(before: list[Part], after: list[Part]) -> str:
    old, new = ([f"{part.place}" for part in parts] for parts in (before, after))
    gone, come = ([place for place in side if place not in other] for side, other in ((old, new), (new, old)))
    told = ([f"without {', '.join(gone[:3])}"] if gone else []) + ([f"with new {', '.join(come[:3])}"] if come else [])
    return "; ".join(told) or "outputs in another order"


def _compare_part(
    before: Part,
    after: Part,
    comparator: Comparator | None,
    comparators: Mapping[str, Comparator],
    windows: tuple[Window | None, Window | None],
) -> str:
    """How two parts of one kind differ; empty if they do not."""
    media_type, old, new = before.media_type, before.content, after.content
    if old == new:
        return ""
    if media_type.startswith(SCRAP):
        return _compare_scraps(old, new, comparators)
    if comparator and comparator.kind is Kind.BYTES:
        return _first_line(str(old), str(new))
    if media_type.startswith(_WIDGETS):
        return ""
    if media_type in _PICTURES:
        return _compare_pictures(old, new, comparator or Comparator(Kind.IMAGE))
    if media_type in _MARKUP or media_type.startswith("text/"):
        normalise = normalise_markup if media_type in _MARKUP else normalise_text
        return _first_line(*(normalise(str(text), window) for text, window in zip((old, new), windows, strict=True)))
    tally = Tally(Comparator(Kind.JSON))
    compare_values("", old, new, tally)
    return tally.sentence() if tally.n_differ else ""


def _compare_scraps(before: Any, after: Any, comparators: Mapping[str, Comparator]) -> str:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return "not a readable scrap"
    old, new = before.get("data"), after.get("data")
    if all(isinstance(value, bool | int | float | str) for value in (old, new)):
        comparator = metric_comparator(str(before.get("name")), comparators)
        if comparator.kind is Kind.IGNORE:
            return ""
        agreement, detail = compare_metric(old, new, comparator)
        return "" if agreement.holds else detail
    tally = Tally(Comparator(Kind.JSON))
    compare_values("", old, new, tally)
    return tally.sentence() if tally.n_differ else ""


def _compare_pictures(before: Any, after: Any, comparator: Comparator) -> str:
    tally = Tally(comparator, "pixels")
    try:
        old, new = (io.BytesIO(base64.b64decode(str(side), validate=False)) for side in (before, after))
        problem = compare_images(old, new, tally)
    except (ValueError, binascii.Error) as error:
        return f"not a readable image: {error}"
    return problem or (tally.sentence() if tally.n_differ else "")


def _first_line(before: str, after: str) -> str:
    """Where two texts differ first, and in how many lines; empty if they do not."""
    if before == after:
        return ""
    pairs = list(zip_longest(before.split("\n"), after.split("\n")))
    differing = [number for number, (old, new) in enumerate(pairs, 1) if old != new]
    old, new = pairs[differing[0] - 1]
    count = f"{len(differing)} lines differ, first " if len(differing) > 1 else ""
    return f"{count}line {differing[0]}: {_cut(old)}, now {_cut(new)}"


def _cut(line: str | None) -> str:
    return "missing" if line is None else show(line) if len(line) <= _SHOWN // 2 else repr(line[:_SHOWN] + "…")
