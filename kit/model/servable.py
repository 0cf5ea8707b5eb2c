"""A model that answers: its signature, and predictions from arrays to arrays, whatever is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kit.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]


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
    """What a model takes and gives, by name."""

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
    """A SavedModel's signature, called as it is: never `model.predict`."""

    def __init__(self, function: Any, owner: Any) -> None:
        self._function, self._owner = function, owner  # a signature does not keep its variables alive
        self.signature = _read_signature(function)

    def predict(self, columns: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """See `Servable`."""
        import tensorflow as tf

        answers = self._function(**{name: tf.constant(values) for name, values in columns.items()})
        return {name: tensor.numpy() for name, tensor in answers.items()}


def open_saved_model(folder: Path, signature: str = "serving_default") -> SavedModelServable:
    """Load a SavedModel; imports TensorFlow and runs whatever the model is.

    Raises:
        IntegrityError: it does not load, or has no such signature.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        raise IntegrityError(f"{folder.name} does not load as a SavedModel: {error}") from error
    if signature not in loaded.signatures:
        found = ", ".join(sorted(loaded.signatures)) or "none"
        raise IntegrityError(f"{folder.name}: no signature {signature!r}; the model has {found}")
    return SavedModelServable(loaded.signatures[signature], loaded)


def _read_signature(function: Any) -> Signature:
    specs = function.structured_input_signature[1]
    return Signature(
        tuple(_read_field(name, spec) for name, spec in specs.items()),
        tuple(_read_field(name, spec) for name, spec in function.structured_outputs.items()),
    )


def _read_field(name: str, spec: Any) -> Field:
    dtype = "string" if spec.dtype.name == "string" else spec.dtype.as_numpy_dtype.__name__
    return Field(name, dtype, tuple(spec.shape[1:]))
