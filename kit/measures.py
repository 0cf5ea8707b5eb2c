"""How good are scores? Measures of (n,) labels and (n,) scores, each one number, and which way each is better.

numpy is imported inside functions only; importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

N_BINS = 10


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: how often a 1 is scored above a 0; a tie counts one half.

    Args:
        labels: (n,) 0 or 1, both of them.
        scores: (n,) finite, on any scale.

    Raises:
        UsageError: only one class, no rows, other labels, shapes that differ, a number that is not finite.

    Source: Hanley, McNeil 1982: the rank sum of Mann and Whitney, ranks of ties averaged.
    """
    import numpy as np

    truth, values = _read_pair(labels, scores)
    _require_classes(truth)
    n_ones = int(truth.sum())
    n_zeros = len(truth) - n_ones
    if not n_ones or not n_zeros:
        raise UsageError(f"all {len(truth):,} labels are {int(truth[0])}; both 0 and 1 are needed")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth == 1].sum() - n_ones * (n_ones + 1) / 2) / (n_ones * n_zeros))


def accuracy(labels: Array, scores: Array) -> float:
    """Share of rows on the right side of 0.5, which itself counts as 1; labels 0 or 1, scores in [0, 1]."""
    truth, values = _read_probabilities(labels, scores)
    return float(((values >= 0.5) == (truth == 1)).mean())


def log_loss(labels: Array, scores: Array) -> float:
    """Mean negative log likelihood, in nats; labels 0 or 1, scores in [0, 1].

    Scores are clipped to [eps, 1 - eps] first; eps is that of their own type, 1.2e-7 for float32 and 2.2e-16 for float64,
    as scikit-learn does.
    """
    import numpy as np

    truth, values = _read_probabilities(labels, scores)
    own = np.asarray(scores).dtype
    eps = float(np.finfo(own if own.kind == "f" else np.float64).eps)
    likely = np.clip(np.where(truth == 1, values, 1 - values), eps, 1 - eps)
    return float(-np.log(likely).mean())


def brier(labels: Array, scores: Array) -> float:
    """Mean squared distance of probability and outcome; labels 0 or 1, scores in [0, 1]."""
    truth, values = _read_probabilities(labels, scores)
    return float(((values - truth) ** 2).mean())


def calibration_error(labels: Array, scores: Array, n_bins: int = N_BINS) -> float:
    """Expected calibration error: mean distance of predicted and observed shares, weighted by rows.

    Bins hold equally many rows, by rank of the score; equal scores keep the order of the rows.

    Source: Naeini, Cooper, Hauskrecht 2015, with bins of equally many rows.
    """
    import numpy as np

    truth, values = _read_probabilities(labels, scores)
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    bins = ranks * n_bins // len(values)
    gaps = np.bincount(bins, weights=values - truth, minlength=n_bins)  # sums: a mean times the rows of its bin
    return float(np.abs(gaps).sum() / len(values))


def mae(labels: Array, scores: Array) -> float:
    """Mean absolute error, in the label's unit."""
    truth, values = _read_pair(labels, scores)
    return float(abs(values - truth).mean())


def rmse(labels: Array, scores: Array) -> float:
    """Root of the mean squared error, in the label's unit."""
    truth, values = _read_pair(labels, scores)
    return float(((values - truth) ** 2).mean() ** 0.5)


MEASURES: Mapping[str, Callable[[Array, Array], float]] = MappingProxyType(
    {
        "auc": auc,
        "accuracy": accuracy,
        "log_loss": log_loss,
        "brier": brier,
        "calibration_error": calibration_error,
        "mae": mae,
        "rmse": rmse,
    }
)
_SMALLER_IS_BETTER = ("log_loss", "brier", "calibration_error", "mae", "rmse")


def is_larger_better(name: str) -> bool:
    """True for `auc`, `accuracy` and every metric that is not named here; False for losses and errors named here."""
    return name not in _SMALLER_IS_BETTER


def measure(labels: Array, scores: Array) -> dict[str, float]:
    """All measures that are defined for these rows, by name; see `measure_each`."""
    return measure_each(labels, scores)[0]


def measure_each(labels: Array, scores: Array) -> tuple[dict[str, float], dict[str, str]]:
    """All measures by name: those that are defined, and why the others are not.

    Args:
        labels: (n,) numbers or booleans.
        scores: (n,) numbers.
    """
    defined: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for name, function in MEASURES.items():
        try:
            defined[name] = function(labels, scores)
        except UsageError as error:
            undefined[name] = str(error)
    return defined, undefined


def _read_pair(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Both as float64, of one shape (n,), n > 0, finite."""
    import numpy as np

    truth, values = np.asarray(labels), np.asarray(scores)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise UsageError(
            f"labels and scores must be of one shape (n,); found {list(truth.shape)} and {list(values.shape)}"
        )
    if not len(truth):
        raise UsageError("there are no rows")
    truth, values = truth.astype(np.float64), values.astype(np.float64)
    for what, numbers in (("labels", truth), ("scores", values)):
        n_broken = int((~np.isfinite(numbers)).sum())
        if n_broken:
            raise UsageError(f"{n_broken:,} of {len(numbers):,} {what} are not finite")
    return truth, values


def _read_probabilities(labels: Array, scores: Array) -> tuple[Array, Array]:
    truth, values = _read_pair(labels, scores)
    _require_classes(truth)
    n_outside = int(((values < 0) | (values > 1)).sum())
    if n_outside:
        raise UsageError(f"scores must be probabilities, in [0, 1]; {n_outside:,} of {len(values):,} are not")
    return truth, values


def _require_classes(truth: Array) -> None:
    n_others = int(((truth != 0) & (truth != 1)).sum())
    if n_others:
        raise UsageError(f"labels must be 0 or 1; {n_others:,} of {len(truth):,} are neither")
