"""The site: a page for each record and the index, written atomically; pages that are up to date are left alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import KitError
from kit.files import canonical_json, sha256_bytes, utc_now, write_atomically
from kit.lineage import Again
from kit.record import Record, Status
from kit.report.index import render_index
from kit.report.life import Life, render_life
from kit.report.page import render_record_page
from kit.report.rows import ReleaseRow

_HEAD_BYTES = 2048


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
    """Bring the site up to date.

    Args:
        records: all records of the archive.
        read_notebook: gives the executed notebook of a record by id; called only for pages that must be made.
        releases: see `render_index`.
        folder: where the site lies; `records/<id>.html`, `environments/<name>.html` and `index.html` in it are replaced.
        environments: see `render_index`.
        title: see `render_index`.
        coverage: see `render_index`.
        read_signature: gives the sentence on who vouches for a record; called as `read_notebook` is.
        reproductions: all that the ledger tells of.
        lives: what was live in each environment.
        now: the time; without it the clock's.

    Returns:
        The index page.
    """
    found = list(records)
    known = frozenset(record.id for record in found)
    about = group_reproductions(reproductions)
    for record in found:
        again = about.get(record.id, [])
        path, key = folder / "records" / f"{record.id}.html", content_key(record, known, again)
        if record.status is Status.STARTED or not _has_key(path, key):
            notebook, signature = _read(read_notebook, record.id), read_signature(record.id)
            page = render_record_page(
                record, notebook, known_records=known, content_key=key, signature=signature, reproductions=again
            )
            write_atomically(path, page.encode("utf-8", "replace"))
    for life in lives:
        page = render_life(life, title=title, known_records=known, now=now or utc_now())
        write_atomically(folder / "environments" / f"{life.environment}.html", page.encode("utf-8", "replace"))
    index = folder / "index.html"
    page = render_index(found, releases, environments=environments, title=title, coverage=coverage, lives=lives)
    write_atomically(index, page.encode("utf-8", "replace"))
    return index


def group_reproductions(reproductions: Iterable[Again]) -> dict[str, list[Again]]:
    """Each under the id of the record that was done again, and of the one that did it."""
    about: dict[str, list[Again]] = defaultdict(list)
    for each in reproductions:
        for record_id in {each.record, each.again}:
            about[record_id].append(each)
    return about


def content_key(record: Record, known: frozenset[str], reproductions: Sequence[Again] = ()) -> str:
    """Digest of everything that a page is made from; the notebook is sealed with its record."""
    linked = {item.record for item in record.inputs} | {record.code.build or "", record.reproduces or ""}
    linked |= {each.again for each in reproductions}
    facts = [sorted(linked & known), msgspec.to_builtins(reproductions)]
    return sha256_bytes(b"\n".join([record.encode(), *map(canonical_json, facts), _makers_key().encode()]))


@cache
def _makers_key() -> str:
    """Digest of this package's sources and templates: a new look makes all pages again."""
    files = sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".j2", ".css", ".json"))
    return sha256_bytes(b"\0".join(path.read_bytes() for path in files))


def _has_key(path: Path, key: str) -> bool:
    try:
        with path.open("rb") as file:
            return f'name="kit-content-key" content="{key}"'.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _read(read_notebook: Callable[[str], Mapping[str, Any]], record_id: str) -> Mapping[str, Any]:
    try:
        return read_notebook(record_id)
    except (OSError, ValueError, KitError):  # the record stands without it; its page says that there is none
        return {}
