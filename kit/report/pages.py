"""Which pages must be made: each once per content, and none is opened to find out."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from kit.database import ThrowAway
from kit.files import canonical_json, sha256_bytes, write_atomically
from kit.lineage import Again

FOLDER = "records"
_HEAD_BYTES = 2048
_SCHEMA = "CREATE TABLE pages (path TEXT PRIMARY KEY, key TEXT NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID"
_VERSION = 1


class PageFacts(msgspec.Struct, frozen=True, gc=False):
    """What decides whether a record's page is up to date, without the record.

    Attributes:
        id: of the record.
        sha256: digest of all that the record says.
        links: ids of the records that its page links if these have pages.
        sweep: digest of the sweep that it is a point of; empty if of none.
        is_open: True while it runs: its page is made again each time.
    """

    id: str
    sha256: str
    links: tuple[str, ...]
    sweep: str
    is_open: bool


def group_reproductions(reproductions: Iterable[Again]) -> dict[str, list[Again]]:
    """Each under the id of the record that was done again, and of the one that did it."""
    about: dict[str, list[Again]] = defaultdict(list)
    for each in reproductions:
        for record_id in {each.record, each.again}:
            about[record_id].append(each)
    return about


class Around(msgspec.Struct, frozen=True):
    """What a record's page is made from beside the record.

    Attributes:
        known: ids of all records that have a page.
        reproductions: those that did the record again, and what it found itself as one.
        sweep_href: where the page of its sweep is, seen from its own; empty if nowhere.
    """

    known: frozenset[str]
    reproductions: Sequence[Again] = ()
    sweep_href: str = ""


def content_key(facts: PageFacts, around: Around) -> str:
    """Digest of everything that a record's page is made from; the notebook is sealed with its record."""
    linked = {*facts.links, *(each.again for each in around.reproductions)} & around.known
    return make_key(facts.sha256, sorted(linked), around.sweep_href, around.reproductions)


def make_key(*facts: object) -> str:
    """Digest of facts that are plain values and of what makes pages of them."""
    return sha256_bytes(canonical_json(msgspec.to_builtins([*facts, _makers_key()])))


@cache
def _makers_key() -> str:
    """Digest of this package's sources and templates: a new look makes all pages again."""
    files = sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".j2", ".css", ".json"))
    return sha256_bytes(b"\0".join(path.read_bytes() for path in files))


class Keeper:
    """Writes pages whose content is new; remembers the content key and the stat of each in a throw-away database.

    A page that the database does not know says its key itself, in its head; one whose stat is another is made again.

    Args:
        folder: the reports.
        memory: the database's file; None for no memory.
    """

    def __init__(self, folder: Path, memory: Path | None = None) -> None:
        self._folder = folder
        self._database = ThrowAway(memory, _SCHEMA, _VERSION) if memory else None
        self._known = self._read_known()
        self._new: dict[str, tuple[str, str]] = {}

    def is_current(self, name: str, key: str) -> bool:
        """Whether the page of that name, seen from the reports, is there and was made from this content."""
        known = self._known.get(name)
        if known is None:
            return _has_key(self._folder / name, key) and self._remember(name, key)
        return known == (key, _mark(self._folder / name))

    def write(self, name: str, key: str, text: str) -> None:
        """Write a page; characters that no encoding has are replaced."""
        write_atomically(self._folder / name, text.encode("utf-8", "replace"))
        self._remember(name, key)

    def refresh(self, name: str, key: str, make: Callable[[], str]) -> None:
        """Make and write a page unless it is current."""
        if not self.is_current(name, key):
            self.write(name, key, make())

    def close(self) -> None:
        """Keep what was learned; without a database that can be written it is found out again next time."""
        if self._database:
            with contextlib.suppress(sqlite3.Error), self._database.use() as connection:
                rows = ((name, *facts) for name, facts in self._new.items())
                connection.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", rows)
            self._database.close()

    def _remember(self, name: str, key: str) -> bool:
        self._known[name] = self._new[name] = (key, _mark(self._folder / name))
        return True

    def _read_known(self) -> dict[str, tuple[str, str]]:
        if self._database:
            with contextlib.suppress(sqlite3.Error), self._database.use() as connection:
                return {name: (key, mark) for name, key, mark in connection.execute("SELECT * FROM pages")}
        return {}


def list_pages(folder: Path) -> frozenset[str]:
    """Ids of the records that have a page."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder / FOLDER) as entries:
        return frozenset(entry.name.removesuffix(".html") for entry in entries if entry.name.endswith(".html"))
    return frozenset()


def find_pages(folder: Path, ids: Iterable[str]) -> frozenset[str]:
    """Those of some records that have a page."""
    return frozenset(each for each in ids if (folder / FOLDER / f"{each}.html").is_file())


def _mark(path: Path) -> str:
    """What tells a file from every other of its name: its number, size and time; empty if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _has_key(path: Path, key: str) -> bool:
    try:
        with path.open("rb") as file:
            return f'name="kit-content-key" content="{key}"'.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False
