"""A sweep as a drawing: what lies where. The template writes it as SVG.

Several axes: parallel coordinates (Inselberg 1985), one line a point, the metric on the last axis. One axis: a scatter.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import msgspec

from kit.report.axes import Axis, make_axis, tell
from kit.report.rows import format_number

if TYPE_CHECKING:
    from kit.report.sweep import PointView, SweepView

N_TONES = 9  # steps of the colour scale, 0 the worst; see sweep.css
MAX_DRAWN = 1000  # points; the best are drawn
DENSE_FROM = 150  # points from which lines are thin and let others through
_TOP, _BOTTOM = 52.0, 310.0
_FAILED_Y = 340.0  # where the lines of points without a result end, apart from the axis
_LYING_Y = 356.0  # the scatter's lying axis
_LEFT, _RIGHT, _GAP = 118.0, 104.0, 168.0
_MIN_WIDTH = 720.0
_MAX_LABEL = 16  # characters


class Label(msgspec.Struct, frozen=True):
    """A text at a place; `text` may be cut, `whole` is not."""

    x: float
    y: float
    text: str
    whole: str


class DrawnAxis(msgspec.Struct, frozen=True):
    """A straight line from (x, y) to (x2, y2), its name and its labels."""

    x: float
    y: float
    x2: float
    y2: float
    name: Label
    scale: str
    labels: tuple[Label, ...]


class Mark(msgspec.Struct, frozen=True):
    """One point: places of a line through the axes, or one place in a scatter.

    Attributes:
        places: (x, y), from the first axis to the last.
        tone: step of the colour scale, 0 the worst; -1 for a point without a result.
        told: its values and metric in a sentence.
        record: id of its record if that has a page; else empty.
        is_best: the one to mark.
    """

    places: tuple[tuple[float, float], ...]
    tone: int
    told: str
    record: str
    is_best: bool

    @property
    def path(self) -> str:
        """The places as an SVG polyline has them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.places)


class Drawing(msgspec.Struct, frozen=True):
    """A sweep's drawing.

    Attributes:
        kind: how it is drawn.
        width: in the drawing's own unit.
        height: the same.
        axes: in order; the metric's last.
        marks: in the order of drawing: without result, then the worst to the best.
        n_left_out: points that are not drawn because there are too many.
        is_dense: True if the marks are many.
        failed_y: height of the places for points without a result; None if all have one.
    """

    kind: Literal["parallel", "scatter"]
    width: float
    height: float
    axes: tuple[DrawnAxis, ...]
    marks: tuple[Mark, ...]
    n_left_out: int
    is_dense: bool
    failed_y: float | None


def draw_sweep(view: SweepView, known_records: Collection[str]) -> Drawing | None:
    """The drawing of a sweep; None for one without axes or points.

    Args:
        view: the sweep.
        known_records: ids of records that have a page; only these are linked.
    """
    if not view.axes or not view.points:
        return None
    drawn, best = view.ranked[:MAX_DRAWN], view.best
    axes = [make_axis(name, (point.values.get(name) for point in view.points)) for name in view.axes]
    metric = make_axis(view.metric, (point.metric for point in view.points if point.is_good))
    is_scatter = len(axes) == 1
    width = _MIN_WIDTH if is_scatter else max(_MIN_WIDTH, _LEFT + _RIGHT + _GAP * len(axes))
    place = _place_scatter if is_scatter else _place_lines
    marks = [
        Mark(
            place(point, axes, metric, width),
            _tone(point, metric, view.lowest),
            tell_point(point, view),
            point.record if point.record in known_records else "",
            point is best,
        )
        for point in reversed(drawn)
    ]
    return Drawing(
        "scatter" if is_scatter else "parallel",
        width,
        _LYING_Y + 46 if is_scatter else _FAILED_Y + 20,
        _draw_scatter_axes(axes[0], metric, width) if is_scatter else _draw_axes([*axes, metric], width),
        tuple(marks),
        len(view.points) - len(drawn),
        len(drawn) >= DENSE_FROM,
        None if all(point.is_good for point in drawn) else _FAILED_Y,
    )


def tell_point(point: PointView, view: SweepView) -> str:
    """`auc 0.7312 · units=64, learning_rate=0.001`."""
    values = ", ".join(f"{name}={tell(point.values.get(name))}" for name in view.axes)
    return f"{f'{view.metric} {format_number(point.metric)}' if point.is_good else point.status} · {values}"


def _tone(point: PointView, metric: Axis, lowest: bool) -> int:
    place = metric.place(point.metric) if point.is_good else None
    if place is None:
        return -1
    return min(int((1 - place if lowest else place) * N_TONES), N_TONES - 1)


def _up(place: float | None) -> float:
    """A place on an upright axis; `_FAILED_Y` for none."""
    return _FAILED_Y if place is None else _BOTTOM - place * (_BOTTOM - _TOP)


def _along(place: float | None, width: float) -> float:
    """A place on the scatter's lying axis, which ends a little before the frame does."""
    return _LEFT if place is None else _LEFT + 24 + place * (width - _LEFT - 24 - _RIGHT)


def _xs(n_axes: int, width: float) -> list[float]:
    return [_LEFT + n * (width - _LEFT - _RIGHT) / (n_axes - 1) for n in range(n_axes)]


def _place_lines(point: PointView, axes: list[Axis], metric: Axis, width: float) -> tuple[tuple[float, float], ...]:
    heights = [_up(axis.place(point.values.get(axis.name))) for axis in axes]
    end = _up(metric.place(point.metric) if point.is_good else None)
    return tuple(zip(_xs(len(axes) + 1, width), [*heights, end], strict=True))


def _place_scatter(point: PointView, axes: list[Axis], metric: Axis, width: float) -> tuple[tuple[float, float], ...]:
    across = _along(axes[0].place(point.values.get(axes[0].name)), width)
    return ((across, _up(metric.place(point.metric) if point.is_good else None)),)


def _draw_axes(axes: list[Axis], width: float) -> tuple[DrawnAxis, ...]:
    return tuple(_draw_upright(axis, x) for axis, x in zip(axes, _xs(len(axes), width), strict=True))


def _draw_scatter_axes(axis: Axis, metric: Axis, width: float) -> tuple[DrawnAxis, ...]:
    right = width - _RIGHT + 24
    labels = tuple(_label(_along(tick.place, width), _LYING_Y + 18, tick.label) for tick in axis.ticks)
    name = _label((_LEFT + right) / 2, _LYING_Y + 38, axis.name)
    return (DrawnAxis(_LEFT, _LYING_Y, right, _LYING_Y, name, axis.scale, labels), _draw_upright(metric, _LEFT))


def _draw_upright(axis: Axis, x: float) -> DrawnAxis:
    labels = tuple(_label(x - 8, _up(tick.place), tick.label) for tick in axis.ticks)
    return DrawnAxis(x, _TOP, x, _BOTTOM, _label(x, _TOP - 28, axis.name), axis.scale, labels)


def _label(x: float, y: float, text: str) -> Label:
    cut = text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"
    return Label(round(x, 1), round(y, 1), cut, text)
