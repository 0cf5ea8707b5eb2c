"""Text for a terminal: nothing in it moves the cursor or turns the reading direction; colour only where a person looks."""

from __future__ import annotations

import itertools
import os
import sys
import unicodedata
from collections.abc import Sequence

import click

_REORDERING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # UAX #9, section 2
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
MAX_CHARACTERS = 160


def printable(text: str, max_characters: int | None = MAX_CHARACTERS) -> str:
    """One line in which an escape or whatever else could act on a terminal is written out, cut to a length."""
    cut = max_characters is not None and len(text) > max_characters
    shown = text[: max_characters - 1] if cut and max_characters else text
    escaped = "".join(_escape(character) if _is_active(character) else character for character in shown)
    return f"{escaped}…" if cut else escaped


def _is_active(character: str) -> bool:
    if character == "\t" or " " <= character <= "~":
        return False
    return character in _REORDERING or unicodedata.category(character) in _ESCAPED


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def count(n: int, noun: str) -> str:
    """`1 record`, `1,024 records`, `2 ledger entries`."""
    many = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"


def paint(text: str, colour: str, *, in_colour: bool) -> str:
    """The text, coloured if that is wanted."""
    return click.style(text, fg=colour) if in_colour and text else text


def wants_colour() -> bool:
    """True on a terminal whose user has not said otherwise (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_redrawn() -> bool:
    """True if standard error is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def align(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows as lines with aligned columns; a row may be shorter than the others."""
    n_columns = max(map(len, rows), default=0)
    widths = [max((width_of(row[i]) for row in rows if i < len(row)), default=0) for i in range(n_columns)]
    return [indent + "  ".join(map(pad, row, widths)).rstrip() for row in rows]


def width_of(text: str) -> int:
    """Cells of a terminal that a printable text takes: two for a wide character, none for one that joins the one before."""
    return len(text) if text.isascii() else sum(map(_count_cells, text))


def _count_cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, n_cells: int) -> str:
    """The text with spaces behind it, up to a width."""
    return text + " " * (n_cells - width_of(text))


def clip(text: str, n_cells: int) -> str:
    """As much of a text as a line has room for; `…` where it was cut."""
    if width_of(text) <= n_cells:
        return text
    ends = itertools.accumulate(map(_count_cells, text))
    return text[: sum(end < n_cells for end in ends)] + "…"
