"""The page of a sweep: its points drawn and in a table. One self-contained file without script or request."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from kit.files import write_atomically
from kit.report.axes import is_number, tell
from kit.report.drawing import draw_sweep
from kit.report.pages import find_pages
from kit.report.style import own_style, page_policy, style_sheet
from kit.report.templates import load_template

FOLDER = "sweeps"
MAX_OTHER_METRICS = 6  # columns of the table beside the sweep's own metric


class PointView(msgspec.Struct, frozen=True):
    """One point of a sweep.

    Attributes:
        values: axis name -> this point's value.
        record: id of the record that has its result; empty if it was not executed yet.
        status: the record's, or `waiting`.
        metric: the sweep's metric; None if the point has none.
        metrics: all that it recorded.
        seconds: how long it took; None if that is not known.
        reused: True if another execution's record was taken.
    """

    values: dict[str, Any]
    record: str
    status: str
    metric: float | None
    metrics: dict[str, Any] = {}
    seconds: float | None = None
    reused: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it succeeded with a metric that can be compared."""
        return self.status == "succeeded" and self.metric is not None and math.isfinite(self.metric)


class SweepView(msgspec.Struct, frozen=True):
    """A sweep as its page shows it.

    Attributes:
        id: `sweep-4f09c1a2b3c4`; also names the page.
        stage: which stage was swept.
        environment: its environment.
        metric: what the points are compared by.
        lowest: True if the lowest is the best.
        axes: names of the swept parameters, in the order of the command line.
        points: in any order.
    """

    id: str
    stage: str
    environment: str
    metric: str
    lowest: bool
    axes: tuple[str, ...]
    points: tuple[PointView, ...]

    @property
    def ranked(self) -> tuple[PointView, ...]:
        """The best first; those without a result last, in their order."""
        sign = 1 if self.lowest else -1
        good = sorted((p for p in self.points if p.is_good), key=lambda point: sign * (point.metric or 0.0))
        return (*good, *(point for point in self.points if not point.is_good))

    @property
    def best(self) -> PointView | None:
        """The point with the best metric; None if no point has one."""
        return next((point for point in self.ranked if point.is_good), None)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the other metrics that are numbers in some point, at most `MAX_OTHER_METRICS`."""
        named = (name for point in self.points for name, value in point.metrics.items() if is_number(value))
        return tuple(name for name in dict.fromkeys(named) if name != self.metric)[:MAX_OTHER_METRICS]

    @property
    def newest(self) -> str:
        """The largest id of a record in it; ids begin with a time, so sweeps can be ordered by it."""
        return max((point.record for point in self.points), default="")


def name_sweep(sha256: str) -> str:
    """Id of the sweep whose definition has that digest, as `Record.sweep` has it; empty for none."""
    return f"sweep-{sha256[:12]}" if sha256 else ""


def write_sweep_page(view: SweepView, folder: Path, known_records: Collection[str] | None = None) -> Path:
    """Write the page of a sweep, and beside it its points as JSON, from which `kit report` makes the page again.

    Args:
        view: the sweep.
        folder: the reports; `sweeps/<id>.html` and `sweeps/<id>.json` in it are replaced.
        known_records: ids of records that have a page; without it those that are there.

    Returns:
        The page.
    """
    if known_records is None:
        known_records = find_pages(folder, {point.record for point in view.points if point.record})
    page = folder / FOLDER / f"{view.id}.html"
    text = render_sweep(view, known_records=known_records, data_href=f"./{view.id}.json")
    write_atomically(page.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(view), indent=1))
    write_atomically(page, text.encode("utf-8", "replace"))
    return page


def find_sweeps(folder: Path) -> list[SweepView]:
    """The sweeps that have a page; what cannot be read is none."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            view = msgspec.json.decode(path.read_bytes(), type=SweepView)
            found += [view] if view.id == path.stem else []
    return found


def render_sweep(
    view: SweepView,
    *,
    known_records: Collection[str] = (),
    index_href: str = "../index.html",
    data_href: str = "",
    content_key: str = "",
) -> str:
    """One self-contained HTML page of a sweep: parallel coordinates, or a scatter where there is one axis; a table.

    Args:
        view: the sweep; a page with 1,000 points has 0.6 MB.
        known_records: ids of records that have a page in `../records/`; only these are linked.
        index_href: where the index is, seen from the page.
        data_href: where the points are as JSON, seen from the page; empty if nowhere.
        content_key: kept in the page, see `kit.report.site`.
    """
    known = frozenset(known_records)
    style = f"{style_sheet()}\n{own_style('sweep.css')}"
    page: str = load_template("sweep_page.html.j2", brief=tell).render(
        view=view,
        drawing=draw_sweep(view, known),
        known=known,
        index_href=index_href,
        data_href=data_href,
        content_key=content_key,
        style=style,
        policy=page_policy(style),
    )
    return page
