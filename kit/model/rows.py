"""Rows of a Parquet file as a gate scores them: inputs by field in batches, the label, the values of a slice column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.errors import IntegrityError, UsageError
from kit.model.servable import Field

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BATCH_ROWS = 16_384
MAX_SLICES = 1_000
MISSING, EMPTY = "(missing)", "(empty)"


class Slices(msgspec.Struct, frozen=True):
    """Which value of a column each row has.

    Attributes:
        names: of the values, in the order in which they first come; `(missing)` for none, `(empty)` for the empty text.
        codes: (n,) position in `names`.
    """

    names: tuple[str, ...]
    codes: Array

    def rows_by_name(self) -> dict[str, Array]:
        """Row numbers of each value, ascending."""
        import numpy as np

        order = np.argsort(self.codes, kind="stable")
        ends = np.searchsorted(self.codes[order], np.arange(len(self.names) + 1))
        return {name: order[ends[code] : ends[code + 1]] for code, name in enumerate(self.names)}


def read_label(path: Path, name: str) -> Array:
    """The column with the truth: (n,) numbers or booleans, n > 0.

    Raises:
        IntegrityError: the file cannot be read.
        UsageError: no such column or no rows; a label that is missing, not finite, or neither number nor boolean.
    """
    import numpy as np

    parts = [_to_numbers(batch.column(0), name) for batch in _read_batches(path, [name])]
    label = np.concatenate(parts) if parts else np.empty(0)
    if not len(label):
        raise UsageError(f"{path.name} has no rows")
    n_missing = int((~np.isfinite(label)).sum())
    if n_missing:
        raise UsageError(
            f"{path.name}: label {name!r} is missing or not finite in {n_missing:,} of {len(label):,} rows"
        )
    return label


def read_slices(path: Path, name: str) -> Slices:
    """The values of a slice column and which row has which.

    Raises:
        IntegrityError: the file cannot be read.
        UsageError: no such column, nested values, or more than 1,000 different ones.
    """
    import numpy as np
    import pyarrow as pa

    codes_by_name: dict[str, int] = {}
    parts = []
    for batch in _read_batches(path, [name]):
        if pa.types.is_nested(batch.column(0).type):
            raise UsageError(
                f"{path.name}: column {name!r} holds {batch.column(0).type}, and slices need single values"
            )
        encoded = _decode(batch.column(0)).dictionary_encode(null_encoding="encode")
        names = [_name_of(value) for value in encoded.dictionary.to_pylist()]
        own = np.array([codes_by_name.setdefault(each, len(codes_by_name)) for each in names], np.int32)
        if len(codes_by_name) > MAX_SLICES:
            raise UsageError(f"{path.name}: column {name!r} has more than {MAX_SLICES:,} values: no column for slices")
        parts.append(own[encoded.indices.to_numpy(zero_copy_only=False)])
    return Slices(tuple(codes_by_name), np.concatenate(parts) if parts else np.empty(0, np.int32))


def read_inputs(path: Path, fields: Sequence[Field], batch_rows: int = BATCH_ROWS) -> Iterator[dict[str, Array]]:
    """Batches of a model's inputs by name: (m, *shape) arrays of each field's type, texts as objects.

    A missing text is empty and a missing number NaN, as in golden predictions.

    Raises:
        IntegrityError: the file cannot be read.
        UsageError: a column is missing, or cannot become what the field takes; names it.
    """
    for batch in _read_batches(path, [field.name for field in fields], batch_rows):
        yield {field.name: _to_field(batch.column(field.name), field) for field in fields}


def _read_batches(path: Path, names: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            for name in names:
                if there.count(name) != 1:
                    what = "has no column" if name not in there else "has several columns"
                    raise UsageError(f"{path.name} {what} {name!r}; it has {', '.join(there)[:300]}")
            yield from file.iter_batches(batch_rows, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).replace(str(path), path.name)[:200]
        raise IntegrityError(f"{path.name} cannot be read as Parquet: {reason}") from error


def _to_field(column: Any, field: Field) -> Array:
    if field.shape not in ((), (1,), (None,)):
        raise UsageError(f"input {field.name!r} takes {list(field.shape)} values for each row; a column holds one")
    values = _to_texts(column, field.name) if field.dtype == "string" else _to_type(column, field)
    return values.reshape(-1, 1) if field.shape else values


def _to_texts(column: Any, name: str) -> Array:
    import pyarrow as pa

    column, types = _decode(column), pa.types
    tests = (types.is_string, types.is_large_string, types.is_null)
    if not any(test(column.type) for test in tests):
        raise UsageError(f"column {name!r} holds {column.type}; the model takes texts")
    texts: Array = column.cast(pa.large_string()).fill_null("").to_numpy(zero_copy_only=False)
    return texts


def _to_type(column: Any, field: Field) -> Array:
    import numpy as np

    values, target = _to_numbers(column, field.name), np.dtype(field.dtype)
    if target.kind == "f":
        return values.astype(target)
    with np.errstate(invalid="ignore"):
        cast = values.astype(target)
    n_changed = int((cast != values).sum())
    if n_changed:
        raise UsageError(f"column {field.name!r} has {n_changed:,} values that are missing or no {field.dtype}")
    return cast


def _to_numbers(column: Any, name: str) -> Array:
    """Numbers and booleans in their own type; as float64, with NaN, where some are missing."""
    import pyarrow as pa

    column, types = _decode(column), pa.types
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
        raise UsageError(f"column {name!r} holds {column.type}; expected numbers or booleans")
    if column.null_count:
        column = column.cast(pa.float64(), safe=False)
    numbers: Array = column.to_numpy(zero_copy_only=False)
    return numbers


def _decode(column: Any) -> Any:
    """The values in place: in no dictionary, and in no views, of which pyarrow 26 encodes a missing one as the empty text."""
    import pyarrow as pa

    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return plain.cast(pa.large_string()) if pa.types.is_string_view(plain.type) else plain


def _name_of(value: Any) -> str:
    """A value as a slice's name; no two different ones have the same."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if value == "":
        return EMPTY
    if isinstance(value, str):
        is_plain = value.isprintable() and value not in (MISSING, EMPTY) and value[0] not in "'\""
        return value if is_plain else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
