"""The index: environments and what is live in them, releases and their gates, metrics over time, all records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from kit.record import Record
from kit.report.life import Life
from kit.report.rows import FILTERS, ReleaseRow, main_metric, newest_first
from kit.report.style import index_policy, index_script, style_sheet


class Trend(msgspec.Struct, frozen=True):
    """A stage's main metric in one environment, oldest first; `points` is an SVG polyline in a box of 100 × 30."""

    stage: str
    environment: str
    metric: str
    values: tuple[float, ...]

    @property
    def points(self) -> str:
        """Evenly spaced records; the lowest value at the bottom, a flat line in the middle."""
        low, high = min(self.values), max(self.values)
        step = 100 / (len(self.values) - 1)
        heights = [27 - 24 * ((value - low) / (high - low) if high > low else 0.5) for value in self.values]
        return " ".join(f"{n * step:.2f},{height:.2f}" for n, height in enumerate(heights))


def render_index(
    records: Iterable[Record],
    releases: Iterable[ReleaseRow] = (),
    *,
    environments: Sequence[str] = (),
    title: str = "Records and releases",
    coverage: str = "",
    lives: Sequence[Life] = (),
) -> str:
    """The index page.

    Args:
        records: all records; shown newest first.
        releases: releases and refusals; shown newest first.
        environments: names to show even if nothing happened in them yet, first and in this order.
        title: the project's name.
        coverage: what vouches for the archive as a whole, in a sentence.
        lives: what was live in each environment; these have pages of their own.
    """
    ordered = newest_first(records)
    released = sorted(releases, key=lambda release: (release.time, release.id), reverse=True)
    page: str = _template().render(
        title=title,
        coverage=coverage,
        records=ordered,
        known={record.id for record in ordered},
        rows=[(record, main_metric(record)) for record in ordered],
        releases=released,
        environments=_environments(ordered, released, environments),
        lives={life.environment: life for life in lives},
        trends=find_trends(ordered),
        style=style_sheet(),
        script=index_script(),
        policy=index_policy(),
    )
    return page


def find_trends(records: Iterable[Record]) -> list[Trend]:
    """A trend for each stage and environment with a main metric in at least two succeeded records; none done again."""
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for record in reversed(newest_first(records)):
        metric = main_metric(record) if record.succeeded and not record.reproduces else None
        if metric is not None:
            values[record.stage, record.environment, metric[0]].append(metric[1])
    return [Trend(*key, tuple(found)) for key, found in sorted(values.items()) if len(found) > 1]


def _environments(
    records: Sequence[Record], releases: Sequence[ReleaseRow], named: Sequence[str]
) -> list[tuple[str, ReleaseRow | None, Record | None]]:
    live = {release.environment: release for release in reversed(releases) if release.live}
    newest = {record.environment: record for record in reversed(records) if not record.reproduces}
    names = dict.fromkeys([*named, *sorted({*live, *newest})])
    return [(name, live.get(name), newest.get(name)) for name in names]


@cache
def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "template")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(FILTERS)
    return environment.get_template("index_page.html.j2")
