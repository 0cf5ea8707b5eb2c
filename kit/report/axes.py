"""Axes of a drawing: where a value lies between 0 and 1, and which values are written beside it."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

MAX_TICKS = 8
MAX_CATEGORIES = 24  # more cannot be written below each other
LOG_FROM = 100.0  # ratio of the largest to the smallest value from which an axis is logarithmic
_MOST = sys.float_info.max
_LONG_NUMBER = 9  # characters
_NEAREST = 0.055  # labels that are closer than this part of the axis would overlap


class Tick(msgspec.Struct, frozen=True):
    """A label at a place between 0 and 1."""

    place: float
    label: str


class Axis(msgspec.Struct, frozen=True):
    """One axis.

    Attributes:
        name: what is drawn on it.
        scale: `linear` or `log` for numbers; `category` for anything else, evenly spaced.
        low: the smallest number; 0 for categories.
        high: the largest number; 0 for categories.
        categories: their JSON texts, from the bottom up; empty for numbers.
        ticks: what is written beside it, from the bottom up.
    """

    name: str
    scale: Literal["linear", "log", "category"]
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()
    ticks: tuple[Tick, ...] = ()

    def place(self, value: Any) -> float | None:
        """Where a value lies, 0 at the bottom and 1 at the top; None for one that is not on this axis."""
        if self.scale == "category":
            text = _write(value)
            return _spread(self.categories.index(text), len(self.categories)) if text in self.categories else None
        if not is_number(value):
            return None
        low, high, at = (self._measure(each) for each in (self.low, self.high, value))
        if low is None or high is None or at is None:
            return None
        whole = high / 2 - low / 2  # halves: the difference of two large numbers may be none
        return (at / 2 - low / 2) / whole if whole > 0 else 0.5

    def _measure(self, value: float) -> float | None:
        if self.scale == "linear":
            return float(value)
        return math.log10(value) if value > 0 else None


def is_number(value: Any) -> bool:
    """Whether a value has a place on an axis of numbers: finite, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST <= value <= _MOST


def tell(value: Any) -> str:
    """A value in a few words: a text without quotes, a long number with four digits, all else as JSON writes it."""
    if isinstance(value, str):
        return value
    text = _write(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > _LONG_NUMBER else text


def _write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def make_axis(name: str, values: Iterable[Any]) -> Axis:
    """The axis on which these values have places: logarithmic from two decades up, categories where one is no number."""
    found = list(values)
    if not found or not all(is_number(value) for value in found):
        return _make_categories(name, {_write(value): tell(value) for value in found})
    distinct = sorted({_plain(value) for value in found})
    low, high = float(distinct[0]), float(distinct[-1])
    is_log = low > 0 and high / low >= LOG_FROM
    axis = Axis(name, "log" if is_log else "linear", low, high)
    return msgspec.structs.replace(axis, ticks=_choose_ticks(axis, distinct))


def _plain(value: float) -> float:
    """A whole number whole, so that 1 and 1.0 are one tick."""
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else float(value)


def _make_categories(name: str, told: Mapping[str, str]) -> Axis:
    step = max(math.ceil(len(told) / MAX_CATEGORIES), 1)
    ticks = [Tick(_spread(n, len(told)), text) for n, text in enumerate(told.values()) if n % step == 0]
    return Axis(name, "category", categories=tuple(told), ticks=tuple(ticks))


def _spread(n: int, n_all: int) -> float:
    return n / (n_all - 1) if n_all > 1 else 0.5


def _choose_ticks(axis: Axis, distinct: Sequence[float]) -> tuple[Tick, ...]:
    """The values themselves where they are few and apart, else round numbers between the ends."""
    own = _ticks_at(axis, distinct)
    is_readable = all(b.place - a.place >= _NEAREST for a, b in itertools.pairwise(own))
    if len(own) <= MAX_TICKS and is_readable:
        return own
    round_numbers = _decades(axis) if axis.scale == "log" else _steps(axis.low, axis.high)
    ends = _ticks_at(axis, [distinct[0], distinct[-1]])
    inner = [
        tick for tick in _ticks_at(axis, round_numbers) if all(abs(tick.place - end.place) >= _NEAREST for end in ends)
    ]
    return (ends[0], *inner, ends[-1])


def _ticks_at(axis: Axis, values: Iterable[float]) -> tuple[Tick, ...]:
    placed = ((axis.place(value), f"{value:.4g}") for value in values)
    return tuple(Tick(place, label) for place, label in placed if place is not None)


def _decades(axis: Axis) -> list[float]:
    first, last = math.ceil(math.log10(axis.low)), math.floor(math.log10(axis.high))
    step = max(1, math.ceil((last - first + 1) / MAX_TICKS))
    return [10.0**exponent for exponent in range(first, last + 1, step)]


def _steps(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at most `MAX_TICKS`: steps of 1, 2 or 5 times a power of ten."""
    rough = (high / 2 - low / 2) / (MAX_TICKS - 1) * 2
    if rough < sys.float_info.min:
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]
