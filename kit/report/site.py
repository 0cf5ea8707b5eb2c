"""The site: pages of records, of older records, sweeps and environments, and the index; written atomically, and only if new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import IntegrityError, KitError, NotFoundError
from kit.files import utc_now, write_atomically
from kit.lineage import Again
from kit.record import Record
from kit.report import lists, pages, shards
from kit.report.index import N_NEWEST, Index, render
from kit.report.life import Life, render_life
from kit.report.listing import digest_rows
from kit.report.page import render_record_page
from kit.report.pages import Around, Keeper, content_key, make_key
from kit.report.rows import ReleaseRow, newest_first
from kit.report.shards import remove_old, write_runs
from kit.report.survey import Survey, find_linked, survey_records
from kit.report.sweep import SweepView, find_sweeps, name_sweep, render_sweep

_TELL_EVERY = 500  # pages


class Source(msgspec.Struct, frozen=True):
    """How to get at one record by its id; asked only for pages that must be made.

    Attributes:
        read_record: gives the record, with its cells.
        read_notebook: gives its executed notebook.
        read_signature: gives the sentence on who vouches for it.
    """

    read_record: Callable[[str], Record]
    read_notebook: Callable[[str], Mapping[str, Any]]
    read_signature: Callable[[str], str] = lambda _: ""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What a site is made from, beside its records.

    Attributes:
        folder: where it lies; `index.html`, `records/`, `lists/`, `search/`, `sweeps/` and `environments/` in it are ours.
        title: the project's name.
        coverage: see `Index`.
        releases: releases and refusals.
        environments: see `Index`.
        lives: what was live in each environment.
        reproductions: all that the ledger tells of.
        sweeps: those that have a page.
        now: the time.
        memory: file of the throw-away database that remembers which pages are up to date; None for none.
    """

    folder: Path
    title: str = "Records and releases"
    coverage: str = ""
    releases: Sequence[ReleaseRow] = ()
    environments: Sequence[str] = ()
    lives: Sequence[Life] = ()
    reproductions: Sequence[Again] = ()
    sweeps: Sequence[SweepView] = ()
    now: datetime
    memory: Path | None = None


def write_reports(
    records: Iterable[Record],
    read_notebook: Callable[[str], Mapping[str, Any]],
    releases: Iterable[ReleaseRow],
    folder: Path,
    *,
    environments: Sequence[str] = (),
    title: str = "Records and releases",
    coverage: str = "",
    read_signature: Callable[[str], str] = lambda _: "",
    reproductions: Sequence[Again] = (),
    lives: Sequence[Life] = (),
    now: datetime | None = None,
) -> Path:
    """Bring the site of so many records up to date as can be held; all that are new have a page. See `write_site`."""
    held = {record.id: record for record in newest_first(records)}
    site = Site(
        folder=folder,
        title=title,
        coverage=coverage,
        releases=tuple(releases),
        environments=environments,
        lives=lives,
        reproductions=reproductions,
        sweeps=find_sweeps(folder),
        now=now or utc_now(),
    )
    source = Source(held.__getitem__, read_notebook, read_signature)
    linked = find_linked(site.releases, reproductions, site.sweeps)
    survey = survey_records(held.values(), source.read_record, linked, pages.list_pages(folder))
    return write_site(site, survey, source)


def write_site(site: Site, survey: Survey, source: Source, notify: Callable[[str], None] = lambda _: None) -> Path:
    """Bring the site up to date.

    Args:
        site: what it shows.
        survey: the records.
        source: where pages that must be made get their content.
        notify: told how far it is, in a sentence.

    Returns:
        The index page.
    """
    is_long = len(survey.rows) > N_NEWEST
    planned = lists.plan_lists(survey.rows) if is_long else []
    keeper = Keeper(site.folder, site.memory)
    try:
        known = _write_records(keeper, site, survey, source, notify)
        for sweep in site.sweeps:
            _write_sweep(keeper, sweep, known)
        for page in planned:
            _write_list(keeper, page, site.title, known)
    finally:
        keeper.close()
    for life in site.lives:
        text = render_life(life, title=site.title, known_records=known, now=site.now)
        write_atomically(site.folder / "environments" / f"{life.environment}.html", text.encode("utf-8", "replace"))
    index = Index(
        title=site.title,
        rows=survey.rows,
        known=known,
        coverage=site.coverage,
        releases=site.releases,
        environments=site.environments,
        lives=site.lives,
        sweeps=site.sweeps,
        lists=planned,
        shards=shards.write_shards(survey.rows, site.folder) if is_long else [],
    )
    return _write_index(index, site.folder)


def _write_records(
    keeper: Keeper, site: Site, survey: Survey, source: Source, notify: Callable[[str], None]
) -> frozenset[str]:
    """Make the pages of records that are not up to date; gives the ids of those that have one now."""
    about, swept = pages.group_reproductions(site.reproductions), {sweep.id for sweep in site.sweeps}
    known, failed, n_made = survey.known, set[str](), 0
    for facts in survey.chosen:
        sweep = name_sweep(facts.sweep)
        around = Around(known, about.get(facts.id, []), f"../sweeps/{sweep}.html" if sweep in swept else "")
        name, key = f"{pages.FOLDER}/{facts.id}.html", content_key(facts, around)
        if not facts.is_open and keeper.is_current(name, key):
            continue
        try:
            text = _render(facts.id, around, key, source)
        except (NotFoundError, IntegrityError, FileNotFoundError):  # gone, or damaged since it was listed
            failed.add(facts.id)
            continue
        keeper.write(name, key, text)
        n_made += 1
        if n_made % _TELL_EVERY == 0:
            notify(f"{n_made} pages of records made")
    return known - failed


def _render(record_id: str, around: Around, key: str, source: Source) -> str:
    return render_record_page(
        source.read_record(record_id),
        _read(source.read_notebook, record_id),
        known_records=around.known,
        content_key=key,
        signature=source.read_signature(record_id),
        reproductions=around.reproductions,
        sweep_href=around.sweep_href,
    )


def _read(read_notebook: Callable[[str], Mapping[str, Any]], record_id: str) -> Mapping[str, Any]:
    try:
        return read_notebook(record_id)
    except (OSError, ValueError, KitError):  # the record stands without it; its page says that there is none
        return {}


def _write_sweep(keeper: Keeper, sweep: SweepView, known: frozenset[str]) -> None:
    linked = known & {point.record for point in sweep.points}
    keeper.refresh(
        f"sweeps/{sweep.id}.html",
        key := make_key(sweep, sorted(linked)),
        lambda: render_sweep(sweep, known_records=linked, data_href=f"./{sweep.id}.json", content_key=key),
    )


def _write_list(keeper: Keeper, page: lists.ListPage, title: str, known: frozenset[str]) -> None:
    linked = write_runs(place for place, row in enumerate(page.rows) if row.id in known)
    key = make_key(digest_rows(page.rows), linked, page.newer, page.older, title)
    keeper.refresh(
        f"{lists.FOLDER}/{page.name}",
        key,
        lambda: lists.render_list(page, title=title, known_records=known, content_key=key),
    )


def _write_index(index: Index, folder: Path) -> Path:
    """Write the index, and only then remove what none names any more."""
    path = folder / "index.html"
    write_atomically(path, render(index).encode("utf-8", "replace"))
    remove_old(folder / shards.FOLDER, (shard.name for shard in index.shards), shards.NAME)
    remove_old(folder / lists.FOLDER, (page.name for page in index.lists), lists.NAME)
    return path
