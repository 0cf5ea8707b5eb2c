"""Rows of a signature: JSON values or arrays by column become blocks of one dtype, checked, and can be joined.

A request costs by the block, not by the column: the 24 fields of the worked example are two blocks, one of texts and one
of numbers. A block is an (n, n_fields) array; a field with a shape of its own is a block (n, 1, *shape).
"""

from __future__ import annotations

import base64
import itertools
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kit.errors import IntegrityError
from kit.model.servable import STRING, Field, Signature
from kit.server.answer import RequestError, show_name, show_names

Array = np.ndarray[Any, Any]

_WORDS: dict[type, str] = {
    bool: "a boolean", bytes: "a text", dict: "an object", float: "a number", int: "an integer", list: "a list",
    str: "a text", type(None): "null",
}  # fmt: skip
_FLOATS, _INTEGERS = ("float16", "float32", "float64"), ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
# What JSON may hold for a dtype. An integer is a number, a number no integer, a boolean neither; null is missing.
_TAKEN: dict[str, frozenset[type]] = {
    **dict.fromkeys(_FLOATS, frozenset({float, int, type(None)})),
    **dict.fromkeys(_INTEGERS + _UNSIGNED, frozenset({int})),
    "bool": frozenset({bool}),
    STRING: frozenset({str, bytes}),
}
_EXPECTED = {
    **dict.fromkeys(_FLOATS, "a number"),
    **dict.fromkeys(_INTEGERS + _UNSIGNED, "an integer"),
    "bool": "a boolean",
    STRING: "a text",
}


def require_types(signature: Signature) -> None:
    """Refuse a signature with a type that no client can send or read, or without inputs or outputs.

    Raises:
        IntegrityError: says which.
    """
    for what, fields in (("input", signature.inputs), ("output", signature.outputs)):
        if not fields:
            raise IntegrityError(f"the model's signature has no {what}s: there would be no rows")
        for field in fields:
            if field.dtype not in _TAKEN:
                raise IntegrityError(f"{what} {field.name!r} is {field.dtype}; served are {', '.join(_TAKEN)}")


class Rows(NamedTuple):
    """Rows that a model can be asked about: `blocks` as the layout has them, `n_rows` at least 1."""

    blocks: tuple[Array, ...]
    n_rows: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the blocks but for the rows; only rows of equal shapes can be joined."""
        return tuple(block.shape[1:] for block in self.blocks)


class Block:
    """Some fields of a signature that travel as one array."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields, self.names = tuple(fields), tuple(field.name for field in fields)
        self.dtype, self.shape = fields[0].dtype, fields[0].shape
        self.taken = _TAKEN[self.dtype]
        pick = operator.itemgetter(*self.names)
        self.pick: Callable[[Mapping[str, Any]], tuple[Any, ...]] = (
            pick if len(fields) > 1 else lambda row: (pick(row),)
        )


class Layout:
    """How the inputs of a signature are laid out in blocks; see `require_types`.

    Args:
        fields: the inputs.
        max_rows: that one request may have. More are refused before their cells are looked at, which holds up all others.
    """

    def __init__(self, fields: Sequence[Field], max_rows: int = sys.maxsize) -> None:
        self.max_rows = max_rows
        self.fields = {field.name: field for field in fields}
        plain = sorted((field for field in fields if not field.shape), key=lambda field: field.dtype)
        groups = [list(group) for _, group in itertools.groupby(plain, lambda field: field.dtype)]
        self.blocks = tuple(map(Block, [*groups, *([field] for field in fields if field.shape)]))

    def from_records(self, records: Sequence[Any]) -> Rows:
        """Rows from one JSON object for each.

        Raises:
            RequestError: a row is no object, a column is missing or unknown, or a value is none of the field's.
        """
        n_fields = len(self.fields)
        self.require_rows(len(records))
        for number, record in enumerate(records):
            if type(record) is not dict:
                found = _WORDS.get(type(record), "a value")
                raise RequestError(400, f"row {number + 1}: expected an object with {n_fields} columns, found {found}")
            if len(record) != n_fields or not self.fields.keys() >= record.keys():
                self._require_names(record, f"row {number + 1}: ")
        blocks = tuple(_fill(block, [block.pick(record) for record in records], by_row=True) for block in self.blocks)
        return Rows(blocks, len(records))

    def from_columns(self, columns: Mapping[str, Any]) -> Rows:
        """Rows from a JSON list, or an array of the field's dtype, for each column.

        Raises:
            RequestError: a column is missing or unknown, columns differ in length, or a value is none of the field's.
        """
        self._require_names(columns, "")
        for name, values in columns.items():
            if not isinstance(values, list | np.ndarray):
                found = _WORDS.get(type(values), "a value")
                raise RequestError(400, f"column {show_name(name)}: expected a list of values, found {found}")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            fewest, most = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
            raise RequestError(
                400, f"columns have different numbers of rows: {show_name(fewest)} {lengths[fewest]}, "
                f"{show_name(most)} {lengths[most]}",
            )  # fmt: skip
        n_rows = next(iter(lengths.values()))
        self.require_rows(n_rows)
        blocks = tuple(_fill(block, [columns[name] for name in block.names], by_row=False) for block in self.blocks)
        return Rows(blocks, n_rows)

    def columns(self, rows: Rows) -> dict[str, Array]:
        """(n, *shape) arrays by name, views of the blocks."""
        return {
            name: array[:, index]
            for block, array in zip(self.blocks, rows.blocks, strict=True)
            for index, name in enumerate(block.names)
        }

    def require_rows(self, n_rows: int) -> None:
        """Refuse a request without rows, or with more than it may have.

        Raises:
            RequestError: 400 or 413.
        """
        if not n_rows:
            raise RequestError(400, "there are no rows; expected at least one")
        if n_rows > self.max_rows:
            raise RequestError(413, f"a request may have {self.max_rows} rows, this one has {n_rows}: split it")

    def _require_names(self, found: Mapping[str, Any], where: str) -> None:
        if missing := [name for name in self.fields if name not in found]:
            raise RequestError(400, f"{where}missing {_columns(missing)}; the model takes {show_names([*self.fields])}")
        if unknown := [name for name in found if name not in self.fields]:
            raise RequestError(400, f"{where}unknown {_columns(unknown)}; the model takes {show_names([*self.fields])}")


def join(parts: Sequence[Rows]) -> Rows:
    """Several requests' rows as one, in order."""
    if len(parts) == 1:
        return parts[0]
    blocks = tuple(map(np.concatenate, zip(*(part.blocks for part in parts), strict=True)))
    return Rows(blocks, sum(part.n_rows for part in parts))


def split(rows: Rows, size: int) -> list[Rows]:
    """Rows in parts of at most `size`, views."""
    starts = range(0, rows.n_rows, size)
    return [
        Rows(tuple(block[start : start + size] for block in rows.blocks), min(size, rows.n_rows - start))
        for start in starts
    ]


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {show_names(names)}"


def _fill(block: Block, lines: list[Any], *, by_row: bool) -> Array:
    """A block from its cells, given by row or by column."""
    if block.shape:
        array = _to_shaped(block, [line[0] for line in lines] if by_row else lines[0])
        return array.reshape(len(array), 1, *array.shape[1:])
    if any(isinstance(line, np.ndarray) for line in lines):
        return np.stack([_to_plain(field, line) for field, line in zip(block.fields, lines, strict=True)], axis=1)
    if not block.taken.issuperset(map(type, itertools.chain.from_iterable(lines))):
        lines = _translate(block, lines, by_row=by_row)
    try:
        array = _to_array(lines, block.dtype)
    except OverflowError:
        raise RequestError(400, _find_out_of_range(block, lines, by_row=by_row)) from None
    return array if by_row else array.T


def _to_plain(field: Field, values: Any) -> Array:
    return values if isinstance(values, np.ndarray) else _fill(Block([field]), [values], by_row=False)[:, 0]


def _to_array(values: Any, dtype: str) -> Array:
    """An array of a dtype from checked values.

    Raises:
        OverflowError: a number is out of its range.
    """
    if dtype == STRING:
        return np.array(values, object)
    if dtype not in _FLOATS:
        return np.array(values, dtype)
    numbers = np.array(values, np.float64)  # null becomes NaN
    try:
        with np.errstate(over="raise"):
            return numbers.astype(dtype)
    except FloatingPointError:
        raise OverflowError(dtype) from None


def _translate(block: Block, lines: list[Any], *, by_row: bool) -> list[Any]:
    """Cells in which an object with `b64` became bytes and null an empty text; anything else is refused."""
    return [
        [_to_cell(value, *_place(block, outer, inner, by_row=by_row)) for inner, value in enumerate(line)]
        for outer, line in enumerate(lines)
    ]


def _to_cell(value: Any, field: Field, row: int) -> Any:
    if type(value) in _TAKEN[field.dtype]:
        return value
    where = f"column {show_name(field.name)}, row {row + 1}"
    if field.dtype == STRING and value is None:
        return ""
    if field.dtype == STRING and isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (TypeError, ValueError):
            raise RequestError(400, f"{where}: 'b64' holds no base64") from None
    found = _WORDS.get(type(value), "a value")
    raise RequestError(400, f"{where}: expected {_EXPECTED[field.dtype]} ({field.dtype}), found {found}")


def _place(block: Block, outer: int, inner: int, *, by_row: bool) -> tuple[Field, int]:
    return (block.fields[inner], outer) if by_row else (block.fields[outer], inner)


def _find_out_of_range(block: Block, lines: list[Any], *, by_row: bool) -> str:
    for outer, line in enumerate(lines):
        for inner, value in enumerate(line):
            try:
                _to_array(value, block.dtype)
            except OverflowError:
                field, row = _place(block, outer, inner, by_row=by_row)
                return f"column {show_name(field.name)}, row {row + 1}: out of the range of {block.dtype}"
    return f"columns {show_names(block.names)}: a number is out of the range of {block.dtype}"


def _to_shaped(block: Block, values: Any) -> Array:
    """(n, *shape) array of a field that has several values a row."""
    if isinstance(values, np.ndarray):
        return values
    field = block.fields[0]
    sizes = _measure(values[0], field.shape)
    cells: list[Any] = []
    for row, value in enumerate(values):
        _collect(value, sizes, field, row, cells)
    try:
        return _to_array(cells, field.dtype).reshape(len(values), *sizes)
    except OverflowError:
        sentence = f"column {show_name(field.name)}: a number is out of the range of {field.dtype}"
        raise RequestError(400, sentence) from None


def _measure(value: Any, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The shape, with the sizes of the first row's value where it is open."""
    sizes = []
    for size in shape:
        length = len(value) if isinstance(value, list) else 0
        sizes.append(length if size is None else size)
        value = value[0] if length else None
    return tuple(sizes)


def _collect(value: Any, sizes: tuple[int, ...], field: Field, row: int, cells: list[Any]) -> None:
    if not sizes:
        cells.append(_to_cell(value, field, row))
        return
    if not isinstance(value, list) or len(value) != sizes[0]:
        shape = ", ".join("any" if size is None else str(size) for size in field.shape)
        found = f"{len(value)} values" if isinstance(value, list) else _WORDS.get(type(value), "a value")
        where = f"column {show_name(field.name)}, row {row + 1}, dimension {len(field.shape) - len(sizes) + 1}"
        raise RequestError(400, f"{where}: expected {sizes[0]} values (shape [{shape}] a row), found {found}")
    for inner in value:
        _collect(inner, sizes[1:], field, row, cells)
