"""Counting where and how much two results differ, value by value."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import Any

from kit.compare.comparator import Comparator

_SHOWN = 60


class Tally:
    """What a comparison of many values has found so far.

    Attributes:
        n_compared: values that were compared.
        n_differ: of them, how many differ by more than the comparator allows.
        first: where the first one is; empty if none differs.
        largest: largest absolute difference between numbers, whether allowed or not.
        largest_relative: largest of them by the number before.
        groups: how many differ, by column, tensor or the like.
    """

    def __init__(self, comparator: Comparator, unit: str = "values") -> None:
        self.comparator, self._unit = comparator, unit
        self.n_compared = self.n_differ = 0
        self.first, self._first_order = "", math.inf
        self.largest = self.largest_relative = 0.0
        self._has_relative = False  # what a level of a pixel differs by is relative to nothing
        self.groups: Counter[str] = Counter()

    def compare(self, place: str, before: Any, after: Any, order: float = 0, group: str = "") -> None:
        """Compare two scalars."""
        self.n_compared += 1
        numbers = is_number(before) and is_number(after)
        if not (self._agree(before, after) if numbers else type(before) is type(after) and before == after):
            self.add(1, place, before, after, order, group)

    def add(self, n_differ: int, place: str, before: Any, after: Any, order: float = 0, group: str = "") -> None:
        """Note differing values, already counted as compared; of the first one where it is and what it was."""
        self.n_differ += n_differ
        if group:
            self.groups[group] += n_differ
        if order < self._first_order:
            self._first_order, self.first = order, f"{place}: {show(before)}, now {show(after)}"

    def widen(self, largest: float, relative: float | None = None) -> None:
        """Take note of a difference between numbers."""
        self.largest = max(self.largest, largest)
        if relative is not None:
            self._has_relative, self.largest_relative = True, max(self.largest_relative, relative)

    def sentence(self) -> str:
        """What was found, in one sentence."""
        is_one = self.n_compared == 1
        compared = f"{self.n_compared:,} {self._unit.removesuffix('s') if is_one else self._unit}"
        if not self.n_differ:
            if not self.largest:
                return f"the same {compared}, stored in other bytes"
            return f"{compared} within the tolerance, {self._distance()}"
        differ = "differs" if is_one else "differ"
        told = f"{self.n_differ:,} of {compared} {differ}{self._by_group()}, first {self.first}"
        return f"{told}; {self._distance()}" if self.largest else told

    def _by_group(self) -> str:
        shown = ", ".join(f"{name} ({n:,})" for name, n in self.groups.most_common(3))
        rest = f" and {len(self.groups) - 3} more" if len(self.groups) > 3 else ""
        return f" in {shown}{rest}" if shown else ""

    def _distance(self) -> str:
        relative = f" (relative {self.largest_relative:.3g})" if self._has_relative else ""
        return f"largest difference {self.largest:.3g}{relative}"

    def _agree(self, before: Any, after: Any) -> bool:
        if before == after:
            return True
        try:
            old, new = float(before), float(after)
            distance = (
                abs(new - old) if isinstance(before, float) or isinstance(after, float) else _exact(before, after)
            )
        except OverflowError:  # an integer beyond every float
            return False
        if math.isnan(old) or math.isnan(new):
            return math.isnan(old) and math.isnan(new)
        self.widen(distance, distance / abs(old) if old else math.inf)
        return math.isfinite(distance) and distance <= self.comparator.atol + self.comparator.rtol * abs(old)


def _exact(before: Any, after: Any) -> float:
    return float(abs(Decimal(after) - Decimal(before)))  # whole numbers that one float cannot tell apart


def is_number(value: Any) -> bool:
    """True for what has a distance; a truth value is no number."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def show(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
