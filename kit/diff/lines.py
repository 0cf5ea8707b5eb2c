"""The difference of two texts, line by line, with the characters that differ within a line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from kit.diff.values import Line, LineKind

CONTEXT_LINES = 3
MAX_ALIGNED_LINES = 1000  # difflib is quadratic: 1000 × 1000 lines take under a second
MAX_SHOWN_LINES = 40  # of each side where the texts are too long to align
MAX_MARKED_WORDS = 60  # that differ in a line whose words are aligned; else one mark reaches from the first to the last
_SIMILAR = 0.5
Marks = tuple[tuple[int, int], ...]
_TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)


def diff_lines(before: str, after: str, context: int = CONTEXT_LINES) -> tuple[Line, ...]:
    """A unified difference; empty for equal texts.

    Args:
        before: the first text.
        after: the second.
        context: equal lines to show around a difference.
    """
    if before == after:
        return ()
    old, new = _split(before, after), _split(after, before)
    start = _count_equal(old, new)
    end = _count_equal(old[start:][::-1], new[start:][::-1])
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    head, tail = old[max(0, start - context) : start], old[len(old) - end :][:context]
    lines = [*_skip(start - len(head), "equal"), *_same(head)]
    lines += _diff_middle(middle_old, middle_new, context)
    return (*lines, *_same(tail), *_skip(end - len(tail), "equal"))


def _split(text: str, other: str) -> list[str]:
    """Lines by the line feed alone, so that another end of line is seen; the last end counts only where the two differ in it."""
    if not text:
        return []
    return (text[:-1] if text.endswith("\n") and (not other or other.endswith("\n")) else text).split("\n")


def _count_equal(old: Sequence[str], new: Sequence[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _diff_middle(old: list[str], new: list[str], context: int) -> Iterator[Line]:
    if max(len(old), len(new)) > MAX_ALIGNED_LINES:
        yield from _show_first(LineKind.REMOVED, old)
        yield from _show_first(LineKind.ADDED, new)
        return
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from _shorten(old[i:i_end], context)
        else:
            yield from _replace(old[i:i_end], new[j:j_end])


def _shorten(equal: list[str], context: int) -> Iterator[Line]:
    if len(equal) <= 2 * context + 1:
        yield from _same(equal)
        return
    yield from _same(equal[:context])
    yield from _skip(len(equal) - 2 * context, "equal")
    yield from _same(equal[len(equal) - context :])


def _replace(old: list[str], new: list[str]) -> Iterator[Line]:
    marks = [mark_line(a, b) for a, b in zip(old, new, strict=False)]
    for index, text in enumerate(old):
        yield Line(LineKind.REMOVED, text, marks[index][0] if index < len(marks) else ())
    for index, text in enumerate(new):
        yield Line(LineKind.ADDED, text, marks[index][1] if index < len(marks) else ())


def mark_line(before: str, after: str) -> tuple[Marks, Marks]:
    """(start, end) of what differs in either of two lines; nothing for lines that have little in common."""
    start = _count_equal(before, after)
    end = min(min(len(before), len(after)) - start, _count_equal(before[::-1], after[::-1]))
    old, new = (_TOKEN.findall(text[start : len(text) - end]) for text in (before, after))
    if max(len(old), len(new)) > MAX_MARKED_WORDS:
        return _mark(start, len(before) - end), _mark(start, len(after) - end)
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    n_equal = start + end + sum(len(text) for tag, i, i_end, _, _ in blocks if tag == "equal" for text in old[i:i_end])
    if 2 * n_equal < _SIMILAR * (len(before) + len(after)):
        return (), ()
    differing = [block for block in blocks if block[0] != "equal"]
    return (
        tuple(_span(old, i, i_end, start) for _, i, i_end, _, _ in differing if i < i_end),
        tuple(_span(new, j, j_end, start) for _, _, _, j, j_end in differing if j < j_end),
    )


def _mark(start: int, end: int) -> Marks:
    return ((start, end),) if start < end else ()


def _span(tokens: Sequence[str], first: int, end: int, offset: int) -> tuple[int, int]:
    start = offset + sum(map(len, tokens[:first]))
    return start, start + sum(map(len, tokens[first:end]))


def _same(texts: Sequence[str]) -> Iterator[Line]:
    return (Line(LineKind.SAME, text) for text in texts)


def _show_first(kind: LineKind, texts: Sequence[str]) -> Iterator[Line]:
    yield from (Line(kind, text) for text in texts[:MAX_SHOWN_LINES])
    yield from _skip(len(texts) - MAX_SHOWN_LINES, kind.value)


def _skip(n_lines: int, what: str) -> Iterator[Line]:
    if n_lines > 0:
        yield Line(LineKind.SKIPPED, f"{n_lines} more {what} line{'' if n_lines == 1 else 's'}")
