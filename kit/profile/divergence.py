"""How far a binned distribution has moved from its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from kit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    Counts = Sequence[int] | np.ndarray[Any, Any]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

HALF_A_ROW = 0.5  # Jeffreys' prior for shares: Jeffreys 1946; Krichevsky and Trofimov 1981


class Shift(msgspec.Struct, frozen=True):
    """One bin's share of the rows, in the reference and now; `bin` is its name."""

    bin: str
    expected: float
    actual: float


def population_stability_index(expected: Counts, actual: Counts) -> float:
    """How far a binned distribution has moved from its reference.

    The sum over bins of (a - e) ln(a / e), with a and e the shares of the rows. A bin that is empty on both sides is left
    out; if one is empty on one side only, half a row is added to every bin of both.

    Args:
        expected: (n_bins,) reference counts, not all 0.
        actual: (n_bins,) counts over the same bins, not all 0.

    Returns:
        Unitless, at least 0, 0 for equal shapes, the same with both exchanged; 0.1 is commonly read as a minor shift, 0.25
        as a major one.

    Raises:
        UsageError: the two differ in length, are empty, or hold a negative count.

    Source: Siddiqi 2006, Credit Risk Scorecards, chapter 6.
    """
    import numpy as np

    reference, now = _shares(expected, actual)
    return float(np.sum((now - reference) * np.log(now / reference)))


def kl_divergence(actual: Counts, expected: Counts) -> float:
    """What it costs to take rows for those of the reference: the sum over bins of a ln(a / e).

    Args:
        actual: (n_bins,) counts, not all 0; empty bins as in `population_stability_index`.
        expected: (n_bins,) reference counts over the same bins, not all 0.

    Returns:
        Nats, at least 0, 0 for equal shapes. Exchanging both gives another number; the two add up to the PSI.

    Raises:
        UsageError: the two differ in length, are empty, or hold a negative count.

    Source: Kullback and Leibler 1951, On Information and Sufficiency.
    """
    import numpy as np

    reference, now = _shares(expected, actual)
    return max(0.0, float(np.sum(now * np.log(now / reference))))  # rounding can leave -1e-17


def find_shifts(bins: Sequence[str], expected: Counts, actual: Counts, n_most: int = 3) -> tuple[Shift, ...]:
    """The bins whose shares moved most, the furthest first; bins with the same share are left out."""
    import numpy as np

    shares = [np.asarray(counts, float) / np.sum(counts) for counts in (expected, actual)]
    shifts = [Shift(name, float(was), float(now)) for name, was, now in zip(bins, *shares, strict=True) if was != now]
    return tuple(sorted(shifts, key=lambda shift: -abs(shift.actual - shift.expected))[:n_most])


def _shares(expected: Counts, actual: Counts) -> tuple[Floats, Floats]:
    import numpy as np

    reference, now = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    if reference.shape != now.shape or reference.ndim != 1:
        raise UsageError(
            f"counts must lie over the same bins: expected has shape {reference.shape}, actual {now.shape}"
        )
    for name, counts in (("expected", reference), ("actual", now)):
        if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
            raise UsageError(f"{name} must hold counts of at least 0, not all 0; found {counts.tolist()[:20]}")
    is_used = (reference > 0) | (now > 0)
    reference, now = reference[is_used], now[is_used]
    if not reference.all() or not now.all():
        reference, now = reference + HALF_A_ROW, now + HALF_A_ROW
    return reference / reference.sum(), now / now.sum()
