"""What a cell of an executed notebook shows, part by part; written by a notebook, so nothing of its form is taken for granted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

SCRAP = "application/scrapbook.scrap."


class Part(NamedTuple):
    """One thing that a cell shows: its place in words, media type, content."""

    place: str
    media_type: str
    content: Any


def read_parts(cell: Mapping[str, Any]) -> list[Part]:
    """Each stream joined, then errors and displays in their order, then whatever is no output as nbformat 4 has them."""
    outputs = cell.get("outputs")
    listed = outputs if isinstance(outputs, list | tuple) else [outputs]
    whole = [output for output in listed if isinstance(output, dict)]
    parts = [*_read_streams(whole), *_read_displays(whole)]
    broken = [output for output in listed if not isinstance(output, dict) and output is not None]
    return parts + [Part("malformed output", "application/json", output) for output in broken]


def join_lines(value: Any) -> Any:
    """A notebook stores text as one string or as a list of lines; anything else is left as it is."""
    return "".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value


def _read_streams(outputs: list[dict[str, Any]]) -> Iterator[Part]:
    texts: dict[str, str] = {}
    for output in outputs:
        if output.get("output_type") == "stream":
            name = str(output.get("name", ""))
            texts[name] = texts.get(name, "") + str(join_lines(output.get("text", "")))
    for name in sorted(texts):
        yield Part(name, "text/plain", texts[name])


def _read_displays(outputs: list[dict[str, Any]]) -> Iterator[Part]:
    counts: Counter[str] = Counter()
    for output in outputs:
        if output.get("output_type") == "error":
            yield Part("error", "text/plain", f"{output.get('ename')}: {output.get('evalue')}")
            continue
        data = output.get("data")
        for media_type, content in sorted(data.items()) if isinstance(data, dict) else ():
            counts[media_type] += 1
            name = content.get("name") if media_type.startswith(SCRAP) and isinstance(content, dict) else None
            place = f"scrap {name!r}" if name else f"{media_type} {counts[media_type]}"
            yield Part(place, media_type, join_lines(content))
