"""One look at all records: their rows, and which of them have a page. A few hundred bytes a record are held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from kit.errors import KitError
from kit.files import sha256_bytes
from kit.graph import RELEASE
from kit.index import Row
from kit.lineage import Again
from kit.record import Record, Status
from kit.report.listing import RecordRow, oldest_first, row_of
from kit.report.pages import PageFacts
from kit.report.rows import ReleaseRow
from kit.report.sweep import SweepView

N_PAGES = 1000  # newest records that have a page without being linked from anywhere
LINKED_POINTS = 200  # of each sweep, the best: thousands of points do not make thousands of pages


class Choice:
    """Decides, record by record and newest first, which have a page. Only these are read.

    The newest `n_newest`, refused releases, those that something links, those that have one already; and whatever record any
    of these was made from, so that an origin can be followed.

    Args:
        read: gives a record by its id.
        linked: ids of records that other pages link.
        made: ids of records that have a page already.
        n_newest: None for all.
    """

    def __init__(
        self, read: Callable[[str], Record], linked: Iterable[str], made: Collection[str], n_newest: int | None
    ) -> None:
        self._read, self._wanted, self._made, self._n_newest = read, set(linked), made, n_newest
        self._n_seen = 0
        self.chosen: list[PageFacts] = []
        self.refusals: list[ReleaseRow] = []

    def add(self, listed: Record | Row) -> None:
        """Look at the next older record; one that cannot be read has no page."""
        is_new = self._n_newest is None or self._n_seen < self._n_newest
        self._n_seen += 1
        is_refusal = listed.stage == RELEASE and listed.failure is not None and not listed.reproduces
        if is_new or is_refusal or listed.id in self._wanted or listed.id in self._made:
            with contextlib.suppress(KitError, OSError):
                record = self._read(listed.id)
                links = links_of(record)
                self._wanted.update(links)
                self.chosen.append(facts_of(record, links))
                self.refusals += [refusal_of(record)] if is_refusal and record.failure else []


def facts_of(record: Record, links: tuple[str, ...]) -> PageFacts:
    """What decides whether its page is up to date."""
    sha256 = sha256_bytes(msgspec.json.encode(record))
    return PageFacts(record.id, sha256, links, record.sweep, record.status is Status.STARTED)


def links_of(record: Record) -> tuple[str, ...]:
    """Ids of the records that a record names: what it was made from, what it does again, earlier attempts."""
    named = [*(item.record for item in record.inputs), record.code.build, record.reproduces, *record.attempts]
    return tuple(dict.fromkeys(name for name in named if name))


def refusal_of(record: Record) -> ReleaseRow:
    """What the index shows of a release that its gate refused."""
    message = record.failure.message if record.failure else ""
    return ReleaseRow(
        id="",
        environment=record.environment,
        time=record.started,
        record=record.id,
        who=f"{record.machine.user}@{record.machine.host}",
        passed=False,
        reasons=tuple(message.split("\n  - ")[1:]) or (message,),
    )


class Survey(msgspec.Struct, frozen=True):
    """What one look at all records gives.

    Attributes:
        rows: of all records, oldest first.
        chosen: those that have a page.
        refusals: of releases.
    """

    rows: Sequence[RecordRow]
    chosen: Sequence[PageFacts]
    refusals: Sequence[ReleaseRow]

    @property
    def known(self) -> frozenset[str]:
        """Ids of the records that have a page."""
        return frozenset(facts.id for facts in self.chosen)


def survey_records(
    records: Iterable[Record | Row],
    read: Callable[[str], Record],
    linked: Iterable[str],
    made: Collection[str],
    n_newest: int | None = N_PAGES,
) -> Survey:
    """Look at all records once.

    Args:
        records: newest first.
        read: see `Choice`.
        linked: see `Choice`.
        made: see `Choice`.
        n_newest: see `Choice`.
    """
    choice, rows = Choice(read, linked, made, n_newest), dict[str, RecordRow]()
    for record in records:
        if record.id not in rows:
            rows[record.id] = row_of(record)
            choice.add(record)
    return Survey(oldest_first(rows.values()), choice.chosen, choice.refusals)


def find_linked(
    releases: Iterable[ReleaseRow], reproductions: Iterable[Again], sweeps: Iterable[SweepView]
) -> Iterator[str]:
    """Ids of the records that other pages than those of records link."""
    for release in releases:
        yield from (release.record, release.training)
    for again in reproductions:
        yield from (again.record, again.again)
    for sweep in sweeps:
        yield from (point.record for point in sweep.ranked[:LINKED_POINTS])
