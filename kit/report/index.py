"""The index: environments and what is live in them, releases and their gates, sweeps, metrics over time, the newest records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from kit.record import Record
from kit.report.life import Life
from kit.report.listing import RecordRow, oldest_first, row_of
from kit.report.lists import FOLDER as LISTS_FOLDER
from kit.report.lists import LISTS, ListPage
from kit.report.rows import ReleaseRow
from kit.report.shards import FOLDER as SHARDS_FOLDER
from kit.report.shards import Shard, write_runs
from kit.report.style import index_policy, index_script, style_sheet
from kit.report.sweep import SweepView
from kit.report.templates import load_template
from kit.report.trends import find_trends, trends_of

__all__ = ["Index", "find_trends", "render", "render_index"]

N_NEWEST = LISTS.most  # so that the index has all that no other list has yet
MAX_RELEASES = 50
MAX_SWEEPS = 100


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What the index is made from.

    Attributes:
        title: the project's name.
        rows: of all records, oldest first.
        known: ids of records that have a page; only these are linked.
        coverage: what vouches for the archive as a whole, in a sentence.
        releases: releases and refusals, in any order.
        environments: names to show even if nothing happened in them yet, first and in this order.
        lives: what was live in each environment; these have pages of their own.
        sweeps: those that have a page.
        lists: pages of older records, oldest first; without any the index has all.
        shards: what is searched, oldest first; without any the page itself is.
    """

    title: str = "Records and releases"
    rows: Sequence[RecordRow] = ()
    known: Collection[str] = ()
    coverage: str = ""
    releases: Sequence[ReleaseRow] = ()
    environments: Sequence[str] = ()
    lives: Sequence[Life] = ()
    sweeps: Sequence[SweepView] = ()
    lists: Sequence[ListPage] = ()
    shards: Sequence[Shard] = ()

    @property
    def newest(self) -> Sequence[RecordRow]:
        """The rows that it shows, newest first."""
        return self.rows[-N_NEWEST:][::-1] if self.lists else self.rows[::-1]

    @property
    def table(self) -> Mapping[str, str]:
        """Attributes of the table, from which the script knows what there is beside it."""
        if not self.shards:
            return {"id": "records-table", "data-total": str(len(self.rows))}
        return {
            "id": "records-table",
            "data-total": str(len(self.rows)),
            "data-shards": " ".join(f"{SHARDS_FOLDER}/{shard.name}:{shard.sha256}" for shard in self.shards),
            "data-pages": write_runs(place for place, row in enumerate(self.rows) if row.id in self.known),
        }


def render_index(
    records: Iterable[Record],
    releases: Iterable[ReleaseRow] = (),
    *,
    environments: Sequence[str] = (),
    title: str = "Records and releases",
    coverage: str = "",
    lives: Sequence[Life] = (),
) -> str:
    """The index page of few records, each of which has a page; see `Index` for the arguments."""
    rows = oldest_first(map(row_of, records))
    known = {row.id for row in rows}
    return render(
        Index(
            title=title,
            rows=rows,
            known=known,
            coverage=coverage,
            releases=tuple(releases),
            environments=environments,
            lives=lives,
        )
    )


def render(index: Index) -> str:
    """The index page."""
    released = sorted(index.releases, key=lambda release: (release.time, release.id), reverse=True)
    swept = sorted(index.sweeps, key=lambda sweep: sweep.newest, reverse=True)
    page: str = load_template("index_page.html.j2").render(
        index=index,
        releases=released[:MAX_RELEASES],
        n_older_releases=len(released[MAX_RELEASES:]),
        environments=_environments(index.rows, released, index.environments),
        lives={life.environment: life for life in index.lives},
        sweeps=swept[:MAX_SWEEPS],
        n_older_sweeps=len(swept[MAX_SWEEPS:]),
        trends=trends_of(index.rows),
        lists_folder=LISTS_FOLDER,
        style=style_sheet(),
        script=index_script(),
        policy=index_policy(loads=bool(index.shards)),
    )
    return page


def _environments(
    rows: Sequence[RecordRow], releases: Sequence[ReleaseRow], named: Sequence[str]
) -> list[tuple[str, ReleaseRow | None, RecordRow | None]]:
    live = {release.environment: release for release in reversed(releases) if release.live}
    newest = {row.environment: row for row in rows if not row.reproduces}
    names = dict.fromkeys([*named, *sorted({*live, *newest})])
    return [(name, live.get(name), newest.get(name)) for name in names]
