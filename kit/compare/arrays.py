"""Comparing numpy arrays: shape, type, then every value, a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kit.compare.tally import Tally

PIECE = 1 << 20


def compare_arrays(name: str, before: Any, after: Any, tally: Tally) -> None:
    """Compare two arrays of one name; another shape or type is one difference, whatever the values are."""
    for fact in ("dtype", "shape"):
        old, new = getattr(before, fact), getattr(after, fact)
        if old != new:
            tally.n_compared += 1
            tally.add(1, f"{fact} of {name!r}", _plain(old), _plain(new), group=name)
            return
    if before.dtype.names:
        for field in before.dtype.names:
            compare_arrays(f"{name}.{field}", before[field], after[field], tally)
        return
    for start, old, new in _pieces(before, after):
        compare_piece(old, new, tally, partial(_place, name, before.shape, start), group=name)


def compare_piece(
    before: Any,
    after: Any,
    tally: Tally,
    place: Callable[[int], str],
    order: Callable[[int], float] = lambda _: 0,
    group: str = "",
) -> None:
    """Compare two flat arrays of one length and type.

    Args:
        before: (n,) values.
        after: (n,) values.
        tally: takes note of what is found.
        place: names the value at an index.
        order: of the value at an index among all; the first difference is the one with the lowest.
        group: what the values belong to.
    """
    import numpy

    tally.n_compared += before.size
    differs = _differing_numbers(before, after, tally) if _has_distance(before) else _differing_others(before, after)
    n_differ = int(numpy.count_nonzero(differs))
    if n_differ:
        index = int(numpy.argmax(differs))
        tally.add(n_differ, place(index), _plain(before[index]), _plain(after[index]), order(index), group)


def _differing_numbers(before: Any, after: Any, tally: Tally) -> Any:
    import numpy

    unequal = (before != after) & ~(numpy.isnan(before) & numpy.isnan(after))
    if not unequal.any():
        return unequal
    wide = numpy.clongdouble if before.dtype.kind == "c" else numpy.longdouble  # also holds every 64-bit integer
    with numpy.errstate(all="ignore"):
        old, new = before[unequal].astype(wide), after[unequal].astype(wide)
        distance, size = numpy.abs(new - old), numpy.abs(old)
        limit = tally.comparator.atol + tally.comparator.rtol * size
        # where long double is no wider than double, two large integers may be unequal at no distance
        allowed = numpy.isfinite(distance) & (distance <= limit) & ((distance > 0) | (limit > 0))
        known = ~numpy.isnan(distance)
        if known.any():
            relative = numpy.where(size > 0, distance / numpy.where(size > 0, size, 1), math.inf)
            tally.widen(float(distance[known].max()), float(relative[known].max()))
    differs = unequal.copy()
    differs[unequal] = ~allowed
    return differs


def _differing_others(before: Any, after: Any) -> Any:
    import numpy

    if before.dtype.kind in "mM":
        return before.view("i8") != after.view("i8")  # NaT is the same as NaT
    if before.dtype.kind == "V":
        sides = (numpy.ascontiguousarray(side).view("u1").reshape(side.size, -1) for side in (before, after))
        return numpy.not_equal(*sides).any(axis=1)
    return before != after


def _has_distance(array: Any) -> bool:
    return array.dtype.kind in "iufc"


def _pieces(before: Any, after: Any) -> Iterator[tuple[int, Any, Any]]:
    """(start, piece, piece) of both as flat arrays in C order: a file that is mapped need not fit into memory."""
    flat = [side.reshape(-1) if side.flags.c_contiguous else side.flat for side in (before, after)]
    for start in range(0, before.size, PIECE):
        old, new = (side[start : start + PIECE] for side in flat)
        yield start, _known_type(old), _known_type(new)


def _known_type(array: Any) -> Any:
    """What numpy itself has no kind for (bfloat16, float8) as the float32 that holds it exactly."""
    if array.dtype.kind == "V" and array.dtype.type.__module__ != "numpy":
        return array.astype("float32")
    return array


def _place(name: str, shape: tuple[int, ...], start: int, index: int) -> str:
    import numpy

    if not shape:
        return repr(name)
    return f"{name!r}[{', '.join(str(int(i)) for i in numpy.unravel_index(start + index, shape))}]"


def _plain(value: Any) -> Any:
    """Python's own value where there is one, for a sentence."""
    import numpy

    if isinstance(value, numpy.dtype):
        return str(value)
    return value.item() if isinstance(value, numpy.generic) and value.dtype.kind in "biufcUS" else value
