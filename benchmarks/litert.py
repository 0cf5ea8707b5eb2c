"""What an answer costs: the LiteRT model with its encoding beside the SavedModel's signature, in one process.

python benchmarks/litert.py [FOLDER]    a folder with model.tflite, encoding.json and saved_model, as a training wrote them

Without a folder it trains a model of the worked example's form: 5 texts and 19 numbers, 194 columns, 32 and 16 units.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kit.model import (
    flag_missing,
    one_hot,
    open_litert,
    pin_determinism,
    save_litert,
    save_saved_model,
    standardise,
    write_encoding,
)
from kit.model.encoder import Encoder
from kit.model.encoding import read_encoding
from kit.model.servable import Signature, open_saved_model

VOCABULARY_SIZES = (16, 3, 94, 7, 31)
N_NUMBERS = 19
N_CALLS = 2000
GOAL_US = 300.0  # CPU of one request of one row, encoding included


def main(folder: str = "") -> None:
    """Print one line per figure: the median of CPU time."""
    if folder:
        _measure(Path(folder))
        return
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as made:
        _train(Path(made))
        _measure(Path(made))


def _measure(folder: Path) -> None:
    litert = open_litert(folder / "model.tflite", folder / "encoding.json")
    saved_model = open_saved_model(folder / "saved_model")
    encoder = Encoder(read_encoding(folder / "encoding.json"))
    for n_rows in (1, 64):
        rows = make_rows(litert.signature, n_rows)
        encode_us, litert_us = (
            median_us(lambda call=call, rows=rows: call(rows)) for call in (encoder.encode, litert.predict)
        )
        saved_us = median_us(lambda rows=rows: saved_model.predict(rows), N_CALLS // 4)
        goal = f" (goal {GOAL_US:g})" if n_rows == 1 else ""
        print(
            f"{n_rows:>2} rows: LiteRT {litert_us:.1f} µs CPU{goal}, of it encoding {encode_us:.1f}; "
            f"SavedModel {saved_us:.0f} µs, {saved_us / litert_us:.0f} times as much"
        )
    many = make_rows(litert.signature, 100_000)
    print(f"100,000 rows: LiteRT {median_us(lambda: litert.predict(many), 5) / 1e3:.0f} ms CPU")
    scores = [next(iter(model.predict(many).values())) for model in (litert, saved_model)]
    print(f"largest difference over them: {np.abs(scores[0] - scores[1]).max():.2g}")


def make_rows(signature: Signature, n_rows: int) -> dict[str, Any]:
    """Random rows; one number in ten is missing."""
    random = np.random.default_rng(1)
    rows: dict[str, Any] = {}
    for field in signature.inputs:
        if field.dtype == "string":
            rows[field.name] = np.array([f"{field.name}-{code}" for code in random.integers(0, 20, n_rows)], object)
        else:
            is_missing = random.random(n_rows) < 0.1
            rows[field.name] = np.where(is_missing, np.nan, random.normal(0, 3, n_rows)).astype(np.float32)
    return rows


def median_us(call: Callable[[], Any], n_calls: int = N_CALLS) -> float:
    """Median CPU time of a call by this process, all threads, in µs."""
    times = []
    for _ in range(n_calls):
        before = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - before)
    return statistics.median(times) / 1e3


def _train(folder: Path) -> None:
    """A model with random weights in both representations."""
    pin_determinism(seed=7)
    import keras
    import tensorflow as tf

    texts = {f"text_{index}": [f"text_{index}-{code}" for code in range(n)] for index, n in enumerate(VOCABULARY_SIZES)}
    numbers = [f"number_{index}" for index in range(N_NUMBERS)]
    inputs = {name: keras.Input((1,), name=name, dtype="string") for name in texts}
    inputs |= {name: keras.Input((1,), name=name) for name in numbers}
    lookups = {
        name: keras.layers.StringLookup(vocabulary=words, output_mode="one_hot") for name, words in texts.items()
    }
    stacked = keras.layers.Concatenate()([inputs[name] for name in numbers])
    mean, variance = np.zeros(N_NUMBERS), np.full(N_NUMBERS, 9.0)
    normal = keras.layers.Normalization(mean=mean, variance=variance)(stacked)
    parts = [lookups[name](inputs[name]) for name in texts]
    parts.append(keras.ops.clip(keras.ops.nan_to_num(normal, nan=0.0), -5.0, 5.0))
    parts.append(keras.ops.cast(keras.ops.isnan(stacked), "float32"))
    encoded = keras.layers.Concatenate()(parts)
    entry = keras.Input((encoded.shape[1],), name="encoded")
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Dense(32, activation="relu")(entry))
    inner = keras.Model(entry, keras.layers.Dense(1, activation="sigmoid", name="p")(hidden))
    save_litert(inner, folder / "model.tflite")
    declared = [one_hot(name, words) for name, words in texts.items()]
    declared += [standardise(numbers, mean, variance, clip=5.0), flag_missing(numbers)]
    write_encoding(folder / "encoding.json", declared, output="p")
    outer = keras.Model(inputs, inner(encoded))

    def score(**fields: Any) -> dict[str, Any]:
        columns = {name: tf.expand_dims(values, 1) for name, values in fields.items()}
        return {"p": tf.squeeze(outer(columns, training=False), 1)}

    specs = {name: tf.TensorSpec([None], tf.string if name in texts else tf.float32, name) for name in inputs}
    module = tf.Module()
    module.model, module.score = outer, tf.function(score).get_concrete_function(**specs)
    save_saved_model(module, folder / "saved_model", {"serving_default": module.score})


if __name__ == "__main__":
    main(*sys.argv[1:])
