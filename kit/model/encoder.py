"""An encoding at work, in numpy alone: columns of raw fields in, rows of the inner model's input out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kit.errors import UsageError
from kit.model.encoding import Encoding, Missing, OneHot, Standardised

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class Encoder:
    """An encoding at work; keeps nothing between calls."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._numbers = [field.name for field in encoding.fields if field.dtype == "number"]
        self._texts: list[_Lookup] = []
        self._steps: list[_Standardise | _Flag] = []
        start = 0
        for part in encoding.parts:
            self._add(part, slice(start, start + part.width))
            start += part.width

    def _add(self, part: OneHot | Standardised | Missing, place: slice) -> None:
        if isinstance(part, OneHot):
            self._texts.append(_Lookup(part.field, _number_texts(part.vocabulary, place.start), place.start))
        elif isinstance(part, Standardised):
            self._steps.append(_Standardise(part, _find(part.fields, self._numbers), place))
        else:
            self._steps.append(_Flag(_find(part.fields, self._numbers), place))

    def encode(self, columns: Mapping[str, Any]) -> Array:
        """Rows of the inner model's input.

        Args:
            columns: by field, (n,) arrays: texts as `str`, or as `bytes` in UTF-8; numbers of any width, NaN is missing.

        Returns:
            (n, width) float32.

        Raises:
            UsageError: a field is missing, has another length, or values of another kind; names it.
        """
        import numpy as np

        arrays = self._require_columns(columns)
        n_rows = len(next(iter(arrays.values())))
        encoded = np.zeros((n_rows, self.encoding.width), np.float32)
        if self._texts:
            places = np.array([text.places_of(arrays[text.field]) for text in self._texts], np.intp)
            encoded[np.arange(n_rows), places] = 1.0
        if self._numbers:
            self._write_numbers(arrays, encoded)
        return encoded

    def _write_numbers(self, arrays: Mapping[str, Array], encoded: Array) -> None:
        import numpy as np

        numbers = np.empty((len(encoded), len(self._numbers)), np.float32)
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite, as it is to TensorFlow
            for index, name in enumerate(self._numbers):
                numbers[:, index] = arrays[name]
            is_missing = np.isnan(numbers)
            for step in self._steps:
                step.write(numbers, is_missing, encoded)

    def _require_columns(self, columns: Mapping[str, Any]) -> dict[str, Array]:
        import numpy as np

        arrays: dict[str, Array] = {}
        shape = None
        for field in self.encoding.fields:
            if field.name not in columns:
                raise UsageError(f"field {field.name!r} is missing; found {', '.join(sorted(columns)) or 'none'}")
            array = arrays[field.name] = np.asarray(columns[field.name])
            shape = array.shape[:1] if shape is None else shape
            if array.ndim != 1 or array.shape != shape:
                raise UsageError(f"field {field.name!r} has shape {list(array.shape)}, expected {list(shape) or '[n]'}")
            if array.dtype.kind not in ("OUST" if field.dtype == "text" else "fiub"):
                raise UsageError(f"field {field.name!r} must be a {field.dtype}, found type {array.dtype}")
        return arrays


class _Lookup(NamedTuple):
    """`OneHot` with a dictionary from text to column, and the column of texts that it does not have."""

    field: str
    known: dict[str | bytes, int]
    unknown: int

    def places_of(self, texts: Array) -> list[int]:
        values = texts.tolist()
        try:
            places = [self.known.get(value, self.unknown) for value in values]
        except TypeError:  # a list has no hash
            places = [self.unknown] * len(values)
        if self.unknown in places:
            self._require_texts(values)
        return places

    def _require_texts(self, values: list[Any]) -> None:
        for row, value in enumerate(values):
            if not isinstance(value, str | bytes):
                found = f"{type(value).__name__} in row {row}"
                raise UsageError(f"field {self.field!r} must be a text, found {found}; a missing text is empty")


class _Standardise:
    """`Standardised` with its constants in float32, as Keras has them."""

    def __init__(self, part: Standardised, chosen: slice | list[int], place: slice) -> None:
        import numpy as np

        self._chosen, self._place = chosen, place
        self._mean = np.array(part.mean, np.float32)
        self._deviation = np.maximum(np.sqrt(np.array(part.variance, np.float32)), np.float32(part.epsilon))
        self._clip = math.inf if part.clip is None else part.clip

    def write(self, numbers: Array, is_missing: Array, encoded: Array) -> None:
        import numpy as np

        values = encoded[:, self._place]
        np.subtract(numbers[:, self._chosen], self._mean, out=values)
        np.divide(values, self._deviation, out=values)
        np.copyto(values, 0.0, where=is_missing[:, self._chosen])
        np.minimum(values, self._clip, out=values)
        np.maximum(values, -self._clip, out=values)


class _Flag(NamedTuple):
    """`Missing` with the columns that it reads and writes."""

    chosen: slice | list[int]
    place: slice

    def write(self, numbers: Array, is_missing: Array, encoded: Array) -> None:
        del numbers
        encoded[:, self.place] = is_missing[:, self.chosen]


def _number_texts(vocabulary: tuple[str, ...], start: int) -> dict[str | bytes, int]:
    """The column of each text, as `str` and as `bytes`; `start` is that of the unknown ones."""
    known: dict[str | bytes, int] = {}
    for place, text in enumerate(vocabulary, start + 1):
        known[text] = known[text.encode()] = place
    return known


def _find(names: tuple[str, ...], among: list[str]) -> slice | list[int]:
    """Where names are among others: a slice if they stand side by side, which copies nothing."""
    places = [among.index(name) for name in names]
    together = list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[-1] + 1) if places == together else places
