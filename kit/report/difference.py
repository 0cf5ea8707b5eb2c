"""The page of a difference: two records or two releases beside each other. No script, no request, sanitised outputs."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from kit.diff import RecordDiff, ReleaseDiff
from kit.diff.records import cell_differs
from kit.diff.values import CellDiff, Change, Line, LineKind, Output, OutputDiff, OutputKind
from kit.diff.words import tell_difference, tell_relative, tell_value
from kit.files import write_atomically
from kit.project import Project
from kit.report.sanitize import clean_html, embed_picture
from kit.report.style import own_style, page_policy, style_sheet
from kit.report.templates import load_template

_TONES = {Change.ADDED: "good", Change.REMOVED: "bad", Change.CHANGED: "open"}


def make_difference_page(project: Project, difference: RecordDiff | ReleaseDiff) -> Path:
    """Make the page of a difference in `reports/diffs/`; gives its path."""
    names = [difference.before.id, difference.after.id]
    page = project.reports / "diffs" / f"{names[0]}--{names[1]}.html"
    linked = [*names, *(getattr(side, "training_record", "") for side in (difference.before, difference.after))]
    known = [name for name in linked if (project.reports / "records" / f"{name}.html").is_file()]
    text = render_difference_page(difference, known_records=known)
    write_atomically(page, text.encode("utf-8", "replace"))
    return page


def render_difference_page(
    difference: RecordDiff | ReleaseDiff, *, known_records: Collection[str] = (), index_href: str = "../index.html"
) -> str:
    """One self-contained HTML page of a difference.

    Args:
        difference: of two records or two releases.
        known_records: ids of records that have a page in `../records/`; only these are linked.
        index_href: where the index is, seen from the page.
    """
    style = f"{style_sheet()}\n{own_style('difference.css')}"
    cells = difference.cells if isinstance(difference, RecordDiff) else ()
    template = load_template(
        "difference.html.j2", lines=_render_lines, tell=tell_value, difference=tell_difference, relative=tell_relative
    )
    page: str = template.render(
        d=difference,
        is_record=isinstance(difference, RecordDiff),
        groups=[*_fact_groups(difference)],
        cells=[_view_cell(each) for each in cells if _is_shown(each)],
        n_same_cells=sum(not _is_shown(each) for each in cells),
        known_records=frozenset(known_records),
        index_href=index_href,
        style=style,
        policy=page_policy(style),
        tones=_TONES,
    )
    return page


def _fact_groups(difference: RecordDiff | ReleaseDiff) -> Iterator[tuple[str, list[Any]]]:
    """(title, facts that are not the same), empty groups left out."""
    names = ("outcome", "code", "manifest", "configuration", "software", "packages", "machine", "determinism")
    for name in names:
        facts = [fact for fact in getattr(difference, name, ()) if fact.change is not Change.SAME]
        if facts:
            yield name.capitalize(), facts


def _is_shown(cell: CellDiff) -> bool:
    return cell_differs(cell) or any(output.change is not Change.SAME for output in cell.outputs)


def _view_cell(cell: CellDiff) -> dict[str, Any]:
    shown = next(side for side in (cell.after, cell.before) if side)
    role = cell_role(shown.role, shown.kind)
    name = f"Cell {shown.index + 1}{role}"
    outputs = [(index, each) for index, each in enumerate(cell.outputs, 1) if each.change is not Change.SAME]
    return {
        "name": name,
        "told": _tell_cell(cell),
        "tone": _TONES.get(cell.change, ""),
        "lines": cell.lines,
        "outputs": [_view_output(f"output {index} of {name.lower()}", each) for index, each in outputs],
    }


def cell_role(role: str, kind: str) -> str:
    """What to add to a cell's number: its role, or its kind if it is no code."""
    return f", {role.replace('-', ' ')}" if role else f", {kind}" if kind != "code" else ""


def _tell_cell(cell: CellDiff) -> str:
    if cell.before is None or cell.after is None:
        return cell.change.value
    told = [f"moved, is cell {cell.before.index + 1} of A"] if cell.moved else []
    if cell.before.status != cell.after.status:
        told.append(f"{cell.before.status or 'not known'} → {cell.after.status or 'not known'}")
    if cell.lines:
        told.append("changed")
    return ", ".join(told)


def _view_output(name: str, output: OutputDiff) -> dict[str, Any]:
    return {
        "name": name,
        "change": output.change,
        "detail": output.detail,
        "sides": [
            ("A", _render_output(output.before, output.lines, LineKind.REMOVED, f"{name} in A")),
            ("B", _render_output(output.after, output.lines, LineKind.ADDED, f"{name} in B")),
        ],
    }


def _render_output(output: Output | None, lines: tuple[Line, ...], own: LineKind, name: str) -> str:
    """One side's output as inert HTML: a picture or a cleaned table, else its lines with what differs marked."""
    if output is None:
        return '<p class="note">No such output.</p>'
    if output.kind is OutputKind.PICTURE:
        url = embed_picture(output.media_type, output.content)
        if url:
            return f'<figure><img src="{url}" alt="{html.escape(name[:1].upper() + name[1:])}"></figure>'
    if output.kind is OutputKind.RICH:
        cleaned = clean_html(output.content).strip()
        if re.sub(r"<[^>]*>|\s", "", cleaned):
            return f'<div class="rich" tabindex="0">{cleaned}</div>'
    kept = [line for line in lines if line.kind in (LineKind.SAME, LineKind.SKIPPED, own)]
    body = "".join(map(render_line, kept)) if kept else html.escape(output.text)
    tone = " error" if output.kind is OutputKind.ERROR else ""
    return f'<pre class="text lines{tone}" tabindex="0">{body}</pre>' if body else '<p class="note">Not shown.</p>'


def render_line(line: Line) -> str:
    """One line of a difference: `<del>`, `<ins>` or plain, what differs within it marked."""
    match line.kind:
        case LineKind.SKIPPED:
            return f'<span class="line skipped">… {html.escape(line.text)}</span>'
        case LineKind.SAME:
            return f'<span class="line"> {html.escape(line.text)}</span>'
        case LineKind.REMOVED:
            return f'<del class="line">-{_mark(line)}</del>'
        case LineKind.ADDED:
            return f'<ins class="line">+{_mark(line)}</ins>'


def _mark(line: Line) -> str:
    parts, place = [], 0
    for start, end in line.marks:
        parts += [html.escape(line.text[place:start]), f"<mark>{html.escape(line.text[start:end])}</mark>"]
        place = end
    return "".join([*parts, html.escape(line.text[place:])])


def _render_lines(lines: Iterable[Line]) -> str:
    return "".join(map(render_line, lines))
