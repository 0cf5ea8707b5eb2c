"""Pages of older records: a few hundred records each, with ways to the newer and the older ones. No script."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC

import msgspec

from kit.record import ID_TIME
from kit.report.listing import Cut, RecordRow, cut_rows
from kit.report.rows import format_day
from kit.report.style import page_policy, style_sheet
from kit.report.templates import load_template

FOLDER = "lists"
LISTS = Cut(least=150, one_in=200, most=600)
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.html")


class ListPage(msgspec.Struct, frozen=True):
    """One page of older records.

    Attributes:
        name: of its file, from its newest record: another record more does not change it.
        rows: oldest first.
        newer: name of the page with the next newer ones; empty if the index has them.
        older: name of the page with the next older ones; empty if there are none.
    """

    name: str
    rows: Sequence[RecordRow]
    newer: str = ""
    older: str = ""

    @property
    def newest_first(self) -> Sequence[RecordRow]:
        """The rows as they are shown."""
        return self.rows[::-1]

    @property
    def title(self) -> str:
        """`1 Mar 2026 to 3 Mar 2026`, or the day alone."""
        days = dict.fromkeys(format_day(row.started) for row in (self.rows[0], self.rows[-1]))
        return " to ".join(days)


def plan_lists(rows: Iterable[RecordRow]) -> list[ListPage]:
    """The pages of all records but the newest few, which only the index shows; oldest first.

    Args:
        rows: of all records, oldest first.
    """
    pieces = [piece for piece in cut_rows(rows, LISTS) if LISTS.ends_at(piece[-1], len(piece))]
    names = ["", *map(_name, pieces), ""]
    return [
        ListPage(names[n], piece, newer=names[n + 1], older=names[n - 1]) for n, piece in enumerate(pieces, start=1)
    ]


def _name(rows: Sequence[RecordRow]) -> str:
    newest = rows[-1]
    return f"{newest.started.astimezone(UTC):{ID_TIME}}-{zlib.crc32(newest.id.encode('utf-8', 'replace')):08x}.html"


def render_list(page: ListPage, *, title: str, known_records: Collection[str], content_key: str = "") -> str:
    """One page of older records.

    Args:
        page: which.
        title: the project's name.
        known_records: ids of records that have a page; only these are linked.
        content_key: kept in the page, see `kit.report.site`.
    """
    rendered: str = load_template("list_page.html.j2").render(
        page=page, title=title, known=known_records, key=content_key, style=style_sheet(), policy=page_policy()
    )
    return rendered
