"""A code cell's outputs beside each other: texts, pictures, HTML, exceptions; what only changes every time is told apart."""

from __future__ import annotations

import base64
import difflib
import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from kit.compare.comparator import Comparator, Kind
from kit.compare.images import compare_images
from kit.compare.tally import Tally
from kit.compare.volatile import Window, normalise_markup, normalise_text
from kit.diff.lines import diff_lines
from kit.diff.values import Change, Output, OutputDiff, OutputKind
from kit.files import sha256_bytes

MAX_PIXELS = 4_000_000  # 64 bytes each while they are compared
Windows = tuple[Window | None, Window | None]

# richest first, as a record's page shows them
_MEDIA_TYPES = {
    "image/svg+xml": OutputKind.PICTURE,
    "image/png": OutputKind.PICTURE,
    "image/jpeg": OutputKind.PICTURE,
    "text/html": OutputKind.RICH,
    "text/markdown": OutputKind.TEXT,
    "text/latex": OutputKind.TEXT,
    "text/plain": OutputKind.TEXT,
}
_SCRAP = "application/scrapbook.scrap."
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # ECMA-48, section 5.4: control sequences


def read_outputs(cell: Mapping[str, Any]) -> tuple[Output, ...]:
    """The outputs of a cell of an executed notebook; metrics are none, what is not readable is left out.

    What was written to standard output is one text wherever it was interrupted, and so is standard error: how the two
    mix is chance.
    """
    raws = [raw for raw in _list(cell.get("outputs")) if isinstance(raw, Mapping)]
    streams: dict[str, list[str]] = {}
    for raw in raws:
        if raw.get("output_type") == "stream":
            streams.setdefault(str(raw.get("name")), []).append(read_text(raw.get("text")))
    outputs: list[Output | None] = []
    for raw in raws:
        if raw.get("output_type") != "stream":
            outputs.append(_read_output(raw))
        elif pieces := streams.pop(str(raw.get("name")), None):
            outputs.append(_make(OutputKind.TEXT, "text/plain", "".join(pieces)))
    return tuple(output for output in outputs if output is not None)


def diff_outputs(
    before: Sequence[Output], after: Sequence[Output], windows: Windows = (None, None)
) -> tuple[OutputDiff, ...]:
    """Both sides' outputs in pairs: equal ones first of all, between them the same kinds in their order.

    Args:
        before: of one cell.
        after: of the other.
        windows: when each was executed, so that its own times can be told from times that are results.
    """
    old, new = [f"{each.kind} {each.sha256}" for each in before], [f"{each.kind} {each.sha256}" for each in after]
    found: list[OutputDiff] = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [compare_output(a, b, windows) for a, b in zip(before[i:i_end], after[j:j_end], strict=True)]
        else:
            found += _pair_by_kind(before[i:i_end], after[j:j_end], windows)
    return tuple(found)


def compare_output(before: Output | None, after: Output | None, windows: Windows = (None, None)) -> OutputDiff:
    """One output on both sides."""
    if before is None or after is None:
        lines = diff_lines(before.text if before else "", after.text if after else "")
        return OutputDiff(Change.ADDED if before is None else Change.REMOVED, before, after, lines)
    if before.kind == after.kind and before.content == after.content and before.text == after.text:
        return OutputDiff(Change.SAME, before, after)
    lines = diff_lines(before.text, after.text)
    if before.media_type == after.media_type == "image/png" and before.content != after.content:
        is_same, detail = compare_pixels(before.content, after.content)
        return OutputDiff(Change.VOLATILE if is_same else Change.CHANGED, before, after, lines, detail)
    if before.kind == after.kind and _steady(before, windows[0]) == _steady(after, windows[1]):
        return OutputDiff(Change.VOLATILE, before, after, lines)
    return OutputDiff(Change.CHANGED, before, after, lines)


def compare_pixels(before: str, after: str) -> tuple[bool, str]:
    """Compare two PNG pictures in base64: (True if every pixel is the same, what was found in one sentence)."""
    tally = Tally(Comparator(Kind.IMAGE), "pixels")
    try:
        old, new = base64.b64decode(before, validate=True), base64.b64decode(after, validate=True)
        if max(_count_pixels(old), _count_pixels(new)) > MAX_PIXELS:
            return False, "too large to compare pixel by pixel"
        problem = compare_images(io.BytesIO(old), io.BytesIO(new), tally)
    except ValueError:
        return False, "not a readable picture"
    return not problem and not tally.n_differ, problem or tally.sentence()


def _count_pixels(png: bytes) -> int:
    """From the header (PNG specification, 11.2.2), before anything is unpacked."""
    if len(png) < 24 or not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("no PNG")
    width, height = struct.unpack(">II", png[16:24])
    return int(width * height)


def _steady(output: Output, window: Window | None) -> str:
    """The content without what changes every time; that of a bitmap is all of it."""
    if output.media_type in ("text/html", "image/svg+xml"):
        return normalise_markup(output.content, window)
    return output.content if output.kind is OutputKind.PICTURE else normalise_text(output.content, window)


def _pair_by_kind(before: Sequence[Output], after: Sequence[Output], windows: Windows) -> Iterator[OutputDiff]:
    old, new = [each.kind.value for each in before], [each.kind.value for each in after]
    for _, i, i_end, j, j_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for a, b in zip_longest(before[i:i_end], after[j:j_end]):
            yield compare_output(a, b, windows)


def _read_output(raw: Mapping[str, Any]) -> Output | None:
    match raw.get("output_type"):
        case "error":
            traceback = "\n".join(read_text(line) for line in _list(raw.get("traceback")))
            text = traceback or f"{raw.get('ename', '')}: {raw.get('evalue', '')}"
            return _make(OutputKind.ERROR, "text/plain", text)
        case "display_data" | "execute_result":
            data = raw.get("data")
            return _read_bundle(data) if isinstance(data, Mapping) else None
    return None


def _read_bundle(data: Mapping[str, Any]) -> Output | None:
    plain = read_text(data.get("text/plain"))
    for media_type, kind in _MEDIA_TYPES.items():
        if media_type in data:
            content = read_text(data[media_type])
            if kind is OutputKind.PICTURE and media_type != "image/svg+xml":
                content = "".join(content.split())
            return _make(kind, media_type, content, content if kind is OutputKind.TEXT else plain)
    others = [name for name in data if not name.startswith(_SCRAP)]
    if not others:
        return None
    return _make(OutputKind.TEXT, others[0], read_text(data[others[0]]), f"an output of type {', '.join(others)}")


def _make(kind: OutputKind, media_type: str, content: str, text: str | None = None) -> Output:
    shown = _ANSI.sub("", content if text is None else text)
    return Output(kind, media_type, content, shown, sha256_bytes(content.encode()))


def read_text(value: Any) -> str:
    """A text of the notebook format, which may also be a list of lines; what is no Unicode is written out."""
    text = "".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
