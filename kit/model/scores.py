"""A model's scores of all rows of a Parquet file: one finite number each, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import UsageError
from kit.model.rows import read_inputs
from kit.model.servable import Servable

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def score_rows(model: Servable, rows: Path, output: str, whose: str = "the model") -> Array:
    """Score rows in batches.

    Args:
        model: answers.
        rows: the Parquet file.
        output: the model's output that is the score.
        whose: names the model in errors.

    Returns:
        (n,) finite numbers, of the type that the model gives; n > 0.

    Raises:
        UsageError: no such output or column, not one number for each row, or one that is not finite.
        IntegrityError: the rows cannot be read.
    """
    import numpy as np

    outputs = [field.name for field in model.signature.outputs]
    if output not in outputs:
        raise UsageError(f"{whose} has no output {output!r}; it gives {', '.join(sorted(outputs))}")
    batches = read_inputs(rows, model.signature.inputs)
    parts = [_flatten(model.predict(batch)[output], batch, f"{whose} gives {output!r}") for batch in batches]
    if not parts:
        raise UsageError(f"{rows.name} has no rows")
    scores = np.concatenate(parts)
    n_broken = int((~np.isfinite(scores)).sum())
    if n_broken:
        raise UsageError(f"{whose} gives {output!r} that is not finite in {n_broken:,} of {len(scores):,} rows")
    return scores


def _flatten(answer: Array, batch: Mapping[str, Array], what: str) -> Array:
    n_rows = len(next(iter(batch.values())))
    if answer.shape not in ((n_rows,), (n_rows, 1)) or answer.dtype.kind not in "fiub":
        found = f"{answer.dtype} of shape {list(answer.shape)}"
        raise UsageError(f"{what} as {found}; expected one number for each of {n_rows:,} rows")
    return answer.reshape(-1)
