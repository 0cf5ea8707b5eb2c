"""A record's page: the record's facts around the executed notebook, through nbconvert with our own template."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from kit.check import Finding, describe_expectation
from kit.lineage import Again
from kit.record import CellOutcome, CellStatus, Record, Status
from kit.report.rows import FILTERS, format_seconds, main_metric
from kit.report.sanitize import MEDIA_TYPES, clean_html, embed_picture, render_ansi, render_math
from kit.report.style import page_policy, style_sheet
from kit.report.sweep import name_sweep
from kit.report.templates import FOLDER

_SCRAP = "application/scrapbook.scrap."


def render_record_page(
    record: Record,
    notebook: Mapping[str, Any],
    *,
    known_records: Collection[str] = (),
    index_href: str = "../index.html",
    content_key: str = "",
    signature: str = "",
    reproductions: Sequence[Again] = (),
    sweep_href: str = "",
) -> str:
    """One self-contained HTML page of a record.

    Args:
        record: the record.
        notebook: its executed notebook (nbformat 4 JSON); without cells the page says that there is none.
        known_records: ids of records that have a page beside this one; only these are linked.
        index_href: where the index is, seen from the page.
        content_key: kept in the page, see `kit.report.site`.
        signature: who vouches for the record, in a sentence.
        reproductions: those that did the record again; of a reproduction also what it found itself.
        sweep_href: where the page of its sweep is, seen from this one; empty if nowhere.
    """
    from kit import standins

    standins.install()
    view = _NotebookView(record, notebook)
    resources = {
        "record": record,
        "title": view.title,
        "sections": view.sections,
        "main_metric": main_metric(record),
        "failed_cell": _failed_cell(record),
        "known_records": frozenset(known_records),
        "index_href": index_href,
        "content_key": content_key,
        "signature": signature,
        "done_again": [each for each in reproductions if each.record == record.id],
        "compared": next((each for each in reproductions if each.again == record.id), None),
        "sweep": name_sweep(record.sweep),
        "sweep_href": sweep_href,
        "style": style_sheet(),
        "policy": page_policy(),
        "filters": FILTERS,
        "describe": describe_expectation,
        "Finding": Finding,
        "Status": Status,
    }
    body, _ = _exporter().from_notebook_node({"cells": view.cells}, resources)
    return re.sub(r"\n\s*\n+", "\n", body) if not view.cells else body


def _failed_cell(record: Record) -> int | None:
    if record.failure is not None and record.failure.cell is not None:
        return record.failure.cell
    ended_badly = (cell.index for cell in record.cells if cell.status not in (CellStatus.SUCCEEDED, CellStatus.NOT_RUN))
    return next(ended_badly, None)


class _NotebookView:
    """The notebook's cells with everything rendered, so that the template only places it."""

    def __init__(self, record: Record, notebook: Mapping[str, Any]) -> None:
        self.title = ""
        self.sections: list[tuple[str, str]] = []
        self._heading = record.stage
        self._figures = itertools.count(1)
        self._outcomes = {cell.index: cell for cell in record.cells}
        self._failed = _failed_cell(record)
        self.cells = [cell for index, raw in enumerate(notebook.get("cells", ())) if (cell := self._view(index, raw))]

    def _view(self, index: int, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        source = _text(raw.get("source", ""))
        if raw.get("cell_type") == "markdown":
            body = self._markdown(source, index, raw.get("attachments") or {})
            return {"cell_type": "markdown", "metadata": {}, "source": "", "index": index, "html": body}
        if raw.get("cell_type") != "code":
            return None
        outcome = self._outcomes.get(index)
        outputs = [html_ for output in raw.get("outputs", ()) if (html_ := self._output(output))]
        return {
            "cell_type": "code",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": raw.get("execution_count"),
            "index": index,
            "code": _highlight(source),
            "rendered": outputs,
            "state": _describe_outcome(outcome),
            "is_bad": index == self._failed,
            "label": _label(raw, source),
            "cut": outcome.cut_bytes if outcome else 0,
        }

    def _markdown(self, source: str, index: int, attachments: Mapping[str, Any]) -> str:
        headings: list[tuple[int, str, str]] = []
        body = clean_html(_markdown_renderer()(source, f"s-{index}", attachments, headings))
        for level, text, anchor in headings:
            self._heading = text
            if level == 1 and not self.title:
                self.title = text
                body = re.sub(rf'<h2 id="{anchor}">.*?</h2>', "", body, count=1, flags=re.DOTALL)
            elif level <= 2:
                self.sections.append((anchor, text))
        return body

    def _output(self, output: Mapping[str, Any]) -> str:
        match output.get("output_type"):
            case "stream":
                name = "stderr" if output.get("name") == "stderr" else "stdout"
                return f'<pre class="text {name}" tabindex="0">{render_ansi(_text(output.get("text", "")))}</pre>'
            case "error":
                lines = [_text(line) for line in output.get("traceback") or ()]
                text = "\n".join(lines) or f"{output.get('ename', '')}: {output.get('evalue', '')}"
                return f'<pre class="text error" tabindex="0">{render_ansi(text)}</pre>'
            case "display_data" | "execute_result":
                return self._bundle(output.get("data") or {})
        return ""

    def _bundle(self, data: Mapping[str, Any]) -> str:
        for media_type in MEDIA_TYPES:
            if media_type in data and (rendered := self._render(media_type, _text(data[media_type]))):
                return rendered
        unknown = [name for name in data if not name.startswith(_SCRAP)]
        named = html.escape(", ".join(unknown))
        return f'<p class="note">An output of type {named} is not shown.</p>' if unknown else ""

    def _render(self, media_type: str, text: str) -> str:
        if media_type.startswith("image/"):
            url = embed_picture(media_type, text)
            alt = html.escape(f"Figure {next(self._figures)}, in “{self._heading}”") if url else ""
            return f'<figure><img src="{url}" alt="{alt}"></figure>' if url else ""
        match media_type:
            case "text/html":
                cleaned = clean_html(text).strip()
                return f'<div class="rich" tabindex="0">{cleaned}</div>' if re.sub(r"<[^>]*>|\s", "", cleaned) else ""
            case "text/markdown":
                return f'<div class="prose">{clean_html(_markdown_renderer()(text, "", {}, []))}</div>'
            case "text/latex":
                return f'<div class="prose">{render_math(text.strip().strip("$"), display=True)}</div>'
        return f'<pre class="text" tabindex="0">{render_ansi(text)}</pre>'


def _text(value: Any) -> str:
    """A text of the notebook format, which may also be a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _label(raw: Mapping[str, Any], source: str) -> str:
    tags = (raw.get("metadata") or {}).get("tags") or ()
    named = "Injected parameters" if "injected-parameters" in tags else "Parameters" if "parameters" in tags else "Code"
    n_lines = len(source.splitlines())
    return f"{named} · {n_lines} line{'' if n_lines == 1 else 's'}"


def _describe_outcome(outcome: CellOutcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.status is CellStatus.SUCCEEDED:
        return "" if outcome.duration_s is None else format_seconds(outcome.duration_s)
    return outcome.status.value.replace("-", " ")


def _highlight(source: str) -> str:
    from pygments import highlight  # type: ignore[import-untyped]

    return str(highlight(source, *_highlighter()))


@cache
def _highlighter() -> tuple[Any, Any]:
    from pygments.formatters.html import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

    return PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)


@cache
def _markdown_renderer() -> Any:
    """Markdown as nbconvert has it, with MathML, headings one level down (the page has the first), and anchors of ours."""
    from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):  # type: ignore[misc]
        def __init__(self, prefix: str, attachments: Any, headings: list[tuple[int, str, str]]) -> None:
            super().__init__(escape=False, attachments=attachments, exclude_anchor_links=True)
            self.prefix, self.headings = prefix, headings

        def heading(self, text: str, level: int, **_: Any) -> str:
            anchor = f"{self.prefix}-{len(self.headings)}" if self.prefix else ""
            self.headings.append((level, html.unescape(re.sub(r"<[^>]*>", "", text)).strip(), anchor))
            tag = f"h{min(level + 1, 6)}"
            return f'<{tag} id="{anchor}">{text}</{tag}>\n' if anchor else f"<{tag}>{text}</{tag}>\n"

        def block_math(self, body: str) -> str:
            return render_math(body, display=True)

        def inline_math(self, body: str) -> str:
            return render_math(body, display=False)

        def latex_environment(self, name: str, body: str) -> str:
            return render_math(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    def render(source: str, prefix: str, attachments: Any, headings: list[tuple[int, str, str]]) -> str:
        try:
            return str(MarkdownWithMath(renderer=Renderer(prefix, attachments, headings)).render(source))
        except InvalidNotebook:  # names an attachment that the cell does not have
            return f"<pre>{html.escape(source)}</pre>"

    return render


@cache
def _exporter() -> Any:
    """The exporter for our template, with escaping on: values are text unless the view rendered them."""
    from nbconvert.exporters.templateexporter import TemplateExporter

    class RecordExporter(TemplateExporter):  # type: ignore[misc]
        file_extension = ".html"
        output_mimetype = "text/html"

        def _create_environment(self) -> Any:
            environment = super()._create_environment()
            environment.autoescape = True
            environment.filters.update(FILTERS)
            return environment

        def from_notebook_node(self, nb: Any, resources: Any = None, **_: Any) -> tuple[str, Any]:
            """As nbconvert 7.17 does it, without its deep copies: no preprocessor is there that could change anything."""
            shown = {"include_code": True, "include_markdown": True}
            body = self.template.render(nb=nb, resources={**resources, "global_content_filter": shown})
            return body.lstrip("\r\n"), resources

    exporter = RecordExporter(extra_template_basedirs=[str(FOLDER)], template_name="record")
    exporter.preprocessors = []
    exporter._preprocessors = []
    return exporter
