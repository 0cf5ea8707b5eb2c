"""One Parquet column as a model's field takes it, and the rows whose value it cannot take.

A missing text becomes the empty one and a missing number NaN, as in golden predictions (`kit.model.golden`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.model.servable import Field

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Faults = dict[str, Array]  # what is wrong -> (n,) which rows

MISSING, INFINITE, OUT_OF_RANGE = "is missing", "is infinite", "is out of range"


def find_type_problem(field: Field, column_type: Any) -> str:
    """Why a column of a type cannot become what a field takes; empty if it can."""
    import pyarrow as pa

    if field.shape not in ((), (1,), (None,)):
        return f"the model takes {list(field.shape)} values for each row, and a column holds one"
    types, values = pa.types, value_type(column_type)
    is_number = types.is_integer(values) or types.is_floating(values) or types.is_decimal(values)
    if field.dtype == "string":
        fits, expected = is_text(values), "texts"
    else:
        kind = _kind_of(field.dtype)
        fits, expected = {
            "f": (is_number or types.is_boolean(values), f"numbers ({field.dtype})"),
            "i": (types.is_integer(values), f"whole numbers ({field.dtype})"),
            "u": (types.is_integer(values), f"whole numbers ({field.dtype})"),
            "b": (types.is_boolean(values), "truth values"),
        }.get(kind, (False, f"{field.dtype}, which no column can become"))
    return "" if fits or types.is_null(values) else f"expected {expected}, found {column_type}"


def convert(column: Any, field: Field) -> tuple[Array, Faults]:
    """A pyarrow array as (n, *shape) values of the field's type, and which rows have a value that the field cannot take.

    Args:
        column: of a type in which `find_type_problem` finds nothing.
        field: what the model takes; texts come as an object array of `bytes`.
    """
    values, faults = _to_texts(column) if field.dtype == "string" else _to_numbers(column, field.dtype)
    return values.reshape(-1, 1) if field.shape else values, {what: rows for what, rows in faults.items() if rows.any()}


def find_missing(column: Any) -> Array:
    """(n,) which rows have no value: null, NaN, the empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = decode(column)
    if is_text(column.type):
        return _to_mask(pc.equal(pc.binary_length(column.cast(pa.large_binary())).fill_null(0), 0))
    return _to_mask(pc.is_null(column, nan_is_null=True))


def is_text(column_type: Any) -> bool:
    """True for texts and bytes in any of Arrow's layouts."""
    import pyarrow as pa

    types = pa.types
    tests = (
        types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary,
        types.is_binary_view, types.is_fixed_size_binary,
    )  # fmt: skip
    return any(test(column_type) for test in tests)


def value_type(column_type: Any) -> Any:
    """The type of a column's values, whether or not they are kept in a dictionary or as views."""
    import pyarrow as pa

    if pa.types.is_dictionary(column_type):
        return value_type(column_type.value_type)
    if pa.types.is_string_view(column_type):  # pyarrow 26 cannot filter views
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(column_type) else column_type


def decode(column: Any) -> Any:
    """The column with its values in place, not in a dictionary and not as views."""
    import pyarrow as pa

    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    kind = value_type(column.type)
    return plain if plain.type == kind else plain.cast(kind)


def _kind_of(dtype: str) -> str:
    """The letter of numpy for a kind of type; `?` for one that it does not know."""
    import numpy as np

    try:
        return np.dtype(dtype).kind
    except TypeError:
        return "?"


def _to_texts(column: Any) -> tuple[Array, Faults]:
    """Texts as bytes; each different one is made once if there are few, which is most of the cost of texts."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.full(len(column), b"", object), {}
    encoded = column if pa.types.is_dictionary(column.type) else decode(column).dictionary_encode()
    if 2 * len(encoded.dictionary) > len(encoded):
        return _to_bytes(decode(column)), {}
    different = np.append(_to_bytes(encoded.dictionary), np.array([b""], object))
    return different[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)], {}


def _to_bytes(texts: Any) -> Array:
    import pyarrow as pa

    values: Array = texts.cast(pa.large_binary()).fill_null(b"").to_numpy(zero_copy_only=False)
    return values


def _to_numbers(column: Any, dtype: str) -> tuple[Array, Faults]:
    import numpy as np
    import pyarrow as pa

    column, target = decode(column), np.dtype(dtype)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if target.kind != "f":
        return _to_whole_numbers(column, target)
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is found
        values = column.to_numpy(zero_copy_only=False).astype(target, copy=False)
    return values, {INFINITE: np.isinf(values)}


def _to_whole_numbers(column: Any, target: Any) -> tuple[Array, Faults]:
    import numpy as np
    import pyarrow as pa

    faults = {MISSING: _to_mask(column.is_null())}
    filled = pa.nulls(len(column), pa.uint8()) if pa.types.is_null(column.type) else column
    values = filled.fill_null(0).to_numpy(zero_copy_only=False)
    if not np.can_cast(values.dtype, target) and target.kind != "b":
        bounds = np.iinfo(target)
        faults[OUT_OF_RANGE] = (values < bounds.min) | (values > bounds.max)
    return values.astype(target), faults


def _to_mask(booleans: Any) -> Array:
    mask: Array = booleans.to_numpy(zero_copy_only=False)
    return mask
