"""A model that answers: its signature, and predictions from arrays to arrays, whatever is behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kit.errors import IntegrityError
from kit.model.golden import Golden
from kit.model.importing import import_tensorflow_without_keras

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

STRING = "string"
SIGNATURE = "serving_default"


class Field(msgspec.Struct, frozen=True):
    """One input or output of a signature.

    Attributes:
        name: as clients write it.
        dtype: numpy's name, `float32`, `int64`, `bool`, …; `string` for texts, which come as object arrays.
        shape: without the first dimension, the rows; `()` for a vector, None for a size that is not fixed.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives; a SavedModel's in the order of their names."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


class Servable(Protocol):
    """A loaded model. `predict` may be called from one thread at a time."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    def predict(self, columns: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Answers for rows.

        Args:
            columns: by input name, (n, *shape) arrays of the field's dtype; texts as object arrays of `str` or `bytes`.

        Returns:
            By output name, (n, *shape) arrays.
        """


class SavedModelServable:
    """A SavedModel's signature, called as it is: never `model.predict`.

    What a call costs is mostly its number of arguments (24 fields: 500 µs; the same in two stacks, one of texts and one
    of numbers: 190 µs, TensorFlow 2.21). So fields of one dtype and shape cross into TensorFlow as one stack, and a
    traced graph takes it apart in front of the signature; the answers are the same to the bit.
    """

    def __init__(self, function: Any, owner: Any) -> None:
        self._owner = owner  # a signature does not keep its variables alive
        self.signature = _read_signature(function)
        self._stacks = _stack_fields(self.signature.inputs)
        self._call = _trace_stacks(function, self._stacks)

    def predict(self, columns: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """See `Servable`."""
        import numpy as np
        import tensorflow as tf

        stacks = [
            columns[names[0]] if len(names) == 1 else np.stack([columns[name] for name in names])
            for names in self._stacks
        ]
        answers = self._call(*map(tf.constant, stacks))
        return {name: tensor.numpy() for name, tensor in answers.items()}


def open_saved_model(folder: Path, signature: str = SIGNATURE) -> SavedModelServable:
    """Load a SavedModel; imports TensorFlow and runs whatever the model is.

    Raises:
        IntegrityError: it does not load, or has no such signature, or not one from rows to rows.
    """
    import_tensorflow_without_keras()
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        raise IntegrityError(f"{folder.name} does not load as a SavedModel: {error}") from error
    if signature not in loaded.signatures:
        found = ", ".join(sorted(loaded.signatures)) or "none"
        raise IntegrityError(f"{folder.name}: no signature {signature!r}; the model has {found}")
    return SavedModelServable(loaded.signatures[signature], loaded)


def golden_columns(golden: Golden, signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of golden predictions as a signature takes them; a missing number is NaN, a missing text empty.

    Raises:
        IntegrityError: the signature takes other fields, or fields of several values.
    """
    import numpy as np

    if {field.name for field in signature.inputs} != golden.inputs.keys():
        expected = ", ".join(sorted(golden.inputs))
        found = ", ".join(sorted(field.name for field in signature.inputs))
        raise IntegrityError(f"golden predictions are for inputs {expected}; the model takes {found}")
    columns = {}
    for field in signature.inputs:
        if field.shape not in ((), (1,), (None,)):
            raise IntegrityError(
                f"golden input {field.name!r} has one value a row; the model takes {list(field.shape)}"
            )
        missing, dtype = ("", object) if field.dtype == STRING else (math.nan, np.dtype(field.dtype))
        values = np.array([missing if value is None else value for value in golden.inputs[field.name]], object)
        columns[field.name] = values.astype(dtype).reshape(-1, *(1 for _ in field.shape))
    return columns


def _read_signature(function: Any) -> Signature:
    """Fields by name, because TensorFlow gives them in another order in each process."""
    taken, given = function.structured_input_signature[1], function.structured_outputs
    return Signature(
        tuple(_read_field(name, taken[name], "input") for name in sorted(taken)),
        tuple(_read_field(name, given[name], "output") for name in sorted(given)),
    )


def _read_field(name: str, spec: Any, what: str) -> Field:
    if not spec.shape.rank or spec.shape[0] is not None:
        raise IntegrityError(
            f"{what} {name!r} has shape {spec.shape}; a signature's first dimension must be the rows, and open: [None, …]"
        )
    dtype = STRING if spec.dtype.name == "string" else spec.dtype.as_numpy_dtype.__name__
    return Field(name, dtype, tuple(spec.shape[1:]))


def _stack_fields(fields: Sequence[Field]) -> tuple[tuple[str, ...], ...]:
    """Names of the fields that make one stack: same dtype, same fixed shape; a field of open shape alone."""

    def kind(field: Field) -> tuple[str, ...]:
        return (field.dtype, str(field.shape), field.name if None in field.shape else "")

    groups = itertools.groupby(sorted(fields, key=kind), key=kind)
    return tuple(tuple(field.name for field in group) for _, group in groups)


def _trace_stacks(function: Any, stacks: Sequence[tuple[str, ...]]) -> Any:
    """One graph that takes stacks, (n_fields, n, *shape) or (n, *shape) for a single field, and calls the signature."""
    import tensorflow as tf

    specs = function.structured_input_signature[1]

    def call(*tensors: Any) -> Any:
        fields: dict[str, Any] = {}
        for names, tensor in zip(stacks, tensors, strict=True):
            parts = [tensor] if len(names) == 1 else tf.unstack(tensor, len(names))
            fields |= dict(zip(names, parts, strict=True))
        return function(**fields)

    taken = [
        tf.TensorSpec([len(names)] * (len(names) > 1) + specs[names[0]].shape.as_list(), specs[names[0]].dtype)
        for names in stacks
    ]
    return tf.function(call, input_signature=taken, autograph=False).get_concrete_function()
