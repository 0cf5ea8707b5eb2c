"""Golden predictions: some inputs, what the model made of them, and how far a reproduction may be off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import IntegrityError, UsageError
from kit.files import canonical_json

FORMAT = 1
Column = tuple[float | str | None, ...]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs and outputs by name, one value for each row.

    Attributes:
        signature: of the SavedModel that is queried.
        inputs: None stands for a missing number (NaN).
        outputs: finite numbers.
        atol: largest absolute difference that counts as reproduced.
    """

    signature: str
    inputs: dict[str, Column]
    outputs: dict[str, tuple[float, ...]]
    atol: float
    format: int = FORMAT

    @property
    def n_rows(self) -> int:
        """Rows of every column; 0 without columns."""
        return min((len(column) for column in [*self.inputs.values(), *self.outputs.values()]), default=0)


def write_golden(
    path: Path,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    atol: float = 1e-5,
    signature: str = "serving_default",
) -> Golden:
    """Write golden predictions as canonical JSON.

    Args:
        path: where to.
        inputs: by name, (n,) or (n, 1) arrays of numbers or texts; NaN is a missing number.
        outputs: by name, (n,) or (n, 1) arrays of finite numbers.
        atol: at least 0; processors of another kind differ by about 1e-7 in TensorFlow.
        signature: of the SavedModel that will be queried.

    Raises:
        UsageError: no rows, columns of different length, an output that is not finite, or an impossible `atol`.
    """
    golden = Golden(
        signature,
        {name: _to_column(values) for name, values in inputs.items()},
        {name: tuple(float(_require_number(name, v)) for v in _flatten(values)) for name, values in outputs.items()},
        float(atol),
    )
    problem = find_golden_problem(golden)
    if problem:
        raise UsageError(f"{path.name}: {problem}")
    path.write_bytes(canonical_json(msgspec.to_builtins(golden)))
    return golden


def read_golden(path: Path) -> Golden:
    """Read golden predictions.

    Raises:
        IntegrityError: there are none, or they prove nothing.
    """
    try:
        golden = msgspec.json.decode(path.read_bytes(), type=Golden)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name}: not readable as golden predictions: {error}") from error
    problem = find_golden_problem(golden)
    if problem:
        raise IntegrityError(f"{path.name}: {problem}")
    return golden


def find_golden_problem(golden: Golden) -> str:
    """Why these golden predictions prove nothing; empty if they do."""
    columns = {**golden.inputs, **golden.outputs}
    lengths = {name: len(column) for name, column in columns.items()}
    if golden.format != FORMAT:
        return f"format {golden.format}, expected {FORMAT}"
    if not golden.inputs or not golden.outputs or 0 in lengths.values():
        return "golden predictions have no rows"
    if len(set(lengths.values())) > 1:
        return f"columns have different numbers of rows: {lengths}"
    if not 0 <= golden.atol < math.inf:
        return f"atol must be at least 0 and finite, found {golden.atol}"
    if not all(math.isfinite(value) for column in golden.outputs.values() for value in column):
        return "an output is not finite"
    return ""


def _to_column(values: Any) -> Column:
    return tuple(_to_json_value(value) for value in _flatten(values))


def _to_json_value(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _require_number(name: str, value: Any) -> float:
    if value is None or isinstance(value, str):
        raise UsageError(f"golden output {name!r} must be a number in every row, found {value!r}")
    return float(value)


def _flatten(values: Any) -> Sequence[Any]:
    import numpy

    return list(numpy.asarray(values).reshape(-1).tolist())
