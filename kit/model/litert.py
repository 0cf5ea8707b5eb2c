"""LiteRT's adapter: an inner Keras model as a flatbuffer with canonical bytes, and a servable that needs no TensorFlow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import IntegrityError, UndecidableError, UsageError
from kit.files import write_atomically
from kit.model.encoder import Encoder
from kit.model.encoding import read_encoding
from kit.model.saving import save_saved_model
from kit.model.servable import SIGNATURE, Signature

if TYPE_CHECKING:
    import numpy as np

    from kit.model.servable import Arrays

SUFFIX = ".tflite"
CHUNK_ROWS = 1024  # rows that stay in a processor's cache: 100,000 rows in 9 ms, in one piece 74 ms


def save_litert(inner: Any, path: Path) -> None:
    """Convert a Keras model on encoded rows to a LiteRT flatbuffer: the same model, the same bytes.

    Weights stay float32, the number of rows is free. Names of layers are part of the bytes: name them.

    Args:
        inner: takes (n, n_encoded) float32 and gives (n, 1); dropout and the like do nothing.
        path: must end in `.tflite`.

    Raises:
        UsageError: another name, another kind of input or output, or an operation that LiteRT does not have built in.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"a LiteRT model file must end in {SUFFIX}, found {path.name!r}")
    entry, output, width = _require_form(inner)
    import tensorflow as tf

    def score(**rows: Any) -> dict[str, Any]:
        return {output: inner(rows[entry], training=False)}

    module = tf.Module(name="inner")
    # Not the model itself: what else refers to its weights, an optimizer, would keep them from becoming constants.
    module.weights = [variable.value for variable in inner.variables]
    module.score = tf.function(score).get_concrete_function(**{entry: tf.TensorSpec([None, width], tf.float32, entry)})
    with tempfile.TemporaryDirectory(prefix="kit-litert-") as folder:
        save_saved_model(module, Path(folder), {SIGNATURE: module.score})
        write_atomically(path, _convert(Path(folder)))


def _require_form(inner: Any) -> tuple[str, str, int]:
    """Names of input and output, and the input's width; refuses all but one row of float32 in and one number out."""
    inputs, outputs = (list(getattr(inner, name, None) or []) for name in ("inputs", "outputs"))
    found = [f"{each.dtype} {list(each.shape)}" for each in (*inputs, *outputs)]
    width = inputs[0].shape[-1] if inputs else None
    if found != [f"float32 [None, {width}]", "float32 [None, 1]"] or width is None:
        raise UsageError(
            "a LiteRT model is made of a built Keras model with one input, float32 [None, n_encoded], and one output, "
            f"float32 [None, 1]; found {', '.join(found) or 'no inputs'}; give the inner model, without its encoder"
        )
    names = inputs[0].name, inner.output_names[0]
    entry, output = (
        name if name.isidentifier() else f"{what}_0" for name, what in zip(names, ("input", "output"), strict=True)
    )
    return entry, output, width


def _convert(folder: Path) -> bytes:
    import tensorflow as tf

    try:
        data: bytes = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    except Exception as error:  # the converter has no narrower one for all that it refuses
        lines = str(error).strip().splitlines() or [type(error).__name__]
        operations = [line for line in lines if line.startswith(("TF Select ops:", "Custom ops:"))]
        raise UsageError(
            f"this model cannot become a LiteRT model of built-in operations: {'; '.join(operations) or lines[0][:300]}; "
            f"use layers that LiteRT has"
        ) from error
    return data


class LiteRTServable:
    """Encoder and LiteRT model as one model on raw fields; `predict` from one thread at a time.

    What a row gives does not depend on the rows beside it: one thread computes, by XNNPACK.
    """

    def __init__(self, interpreter: Any, encoder: Encoder) -> None:
        self._interpreter, self._encoder = interpreter, encoder
        self._input: int = interpreter.get_input_details()[0]["index"]
        self._output: int = interpreter.get_output_details()[0]["index"]
        self._n_rows = -1
        self.signature: Signature = encoder.encoding.signature

    def predict(self, columns: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """See `Servable`.

        Raises:
            UsageError: a field is missing, has another length, or values of another kind; names it.
        """
        import numpy as np

        n_rows = max((len(column) for column in columns.values()), default=0)
        if n_rows <= CHUNK_ROWS:
            scores = self._score(columns)
        else:
            starts = range(0, n_rows, CHUNK_ROWS)
            chunks = ({name: column[at : at + CHUNK_ROWS] for name, column in columns.items()} for at in starts)
            scores = np.concatenate([self._score(chunk) for chunk in chunks])
        return {self._encoder.encoding.output: scores}

    def _score(self, columns: Arrays) -> np.ndarray[Any, Any]:
        encoded = self._encoder.encode(columns)
        if not len(encoded):
            return encoded.reshape(-1)[:0]
        if len(encoded) != self._n_rows:
            self._interpreter.resize_tensor_input(self._input, encoded.shape)
            self._interpreter.allocate_tensors()
            self._n_rows = len(encoded)
        self._interpreter.set_tensor(self._input, encoded)
        self._interpreter.invoke()
        answer: np.ndarray[Any, Any] = self._interpreter.get_tensor(self._output)
        return answer.reshape(-1)


def open_litert(model: Path, encoding: Path) -> LiteRTServable:
    """Load a LiteRT model with the encoding of its input; imports no TensorFlow.

    Raises:
        IntegrityError: one of them is not readable, or they do not belong together; says expected and found.
        UndecidableError: ai-edge-litert is not installed.
    """
    encoder = Encoder(read_encoding(encoding))
    interpreter = _load(model)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    found = [f"{each['dtype'].__name__} {each['shape_signature'].tolist()}" for each in (*inputs, *outputs)]
    expected = [f"float32 [-1, {encoder.encoding.width}]", "float32 [-1, 1]"]
    if len(inputs) != 1 or found != expected:
        raise IntegrityError(
            f"{model.name} does not belong to {encoding.name}: expected one input {expected[0]} and one output "
            f"{expected[1]}, as encoded, found {', '.join(found)}; take both from the same training"
        )
    return LiteRTServable(interpreter, encoder)


def _load(model: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UndecidableError("ai-edge-litert is not installed here, so no LiteRT model can be loaded") from error
    try:
        interpreter = Interpreter(model_content=model.read_bytes(), num_threads=1)  # a copy: the file may change
        interpreter.allocate_tensors()
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise IntegrityError(f"{model.name} does not load as a LiteRT model: {reason}") from error
    return interpreter
