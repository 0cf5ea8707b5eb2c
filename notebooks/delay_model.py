"""A small Keras model of lateness: an encoder from raw records to numbers, an inner model on these, an outer one on records.

Training runs on arrays that the encoder made once; what is served is the outer model, encoder and inner model in one, so
nobody can encode differently when serving. TensorFlow is imported inside functions: the metrics need none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

Arrays = dict[str, np.ndarray]
CLIP_DEVIATIONS = 5.0  # delays have a long tail: beyond five standard deviations more is not more


def to_records(table: pd.DataFrame, text: Sequence[str], numbers: Sequence[str]) -> Arrays:
    """Columns as the outer model takes them: (n, 1) texts (missing is empty) and (n, 1) float32 (missing is NaN)."""
    records: Arrays = {name: table[name].fillna("").to_numpy(object).reshape(-1, 1) for name in text}
    return records | {name: table[name].to_numpy(np.float32, na_value=np.nan).reshape(-1, 1) for name in numbers}


def build_encoder(train: pd.DataFrame, text: Sequence[str], numbers: Sequence[str]) -> Any:
    """Raw records -> (n, n_encoded) floats: texts one-hot, numbers normalised, a flag for each number that is missing.

    Vocabulary, means and variances come from the training rows alone and are constants of the model. A missing number becomes
    the mean, that is 0 after normalisation; a text never seen in training has a place of its own.
    """
    import keras

    inputs = {name: keras.Input((1,), name=name, dtype="string") for name in text}
    inputs |= {name: keras.Input((1,), name=name, dtype="float32") for name in numbers}
    parts = []
    for name in text:
        vocabulary = sorted(set(train[name].dropna()) - {""})
        lookup = keras.layers.StringLookup(vocabulary=vocabulary, output_mode="one_hot", name=f"{name}_code")
        parts.append(lookup(inputs[name]))
    stacked = keras.layers.Concatenate(name="numbers")([inputs[name] for name in numbers])
    values = train[list(numbers)].to_numpy(np.float64, na_value=np.nan)
    mean, variance = np.nanmean(values, axis=0), np.nanvar(values, axis=0)
    normal = keras.layers.Normalization(mean=mean, variance=variance, name="normalisation")(stacked)
    parts.append(keras.ops.clip(keras.ops.nan_to_num(normal, nan=0.0), -CLIP_DEVIATIONS, CLIP_DEVIATIONS))
    parts.append(keras.ops.cast(keras.ops.isnan(stacked), "float32"))
    return keras.Model(inputs, keras.layers.Concatenate(name="encoded")(parts), name="encoder")


def describe_encoding(encoder: Any, text: Sequence[str], numbers: Sequence[str]) -> list[Any]:
    """What `build_encoder` made, as the parts of encoding.json, read from its layers."""
    from kit.model import flag_missing, one_hot, standardise

    normal = encoder.get_layer("normalisation")
    parts: list[Any] = [one_hot(name, encoder.get_layer(f"{name}_code").get_vocabulary()[1:]) for name in text]
    parts.append(standardise(numbers, normal.mean, normal.variance, clip=CLIP_DEVIATIONS))
    return [*parts, flag_missing(numbers)]


def encode(encoder: Any, records: Arrays, batch_rows: int = 32_768) -> np.ndarray:
    """The encoder over all records, in large batches: (n, n_encoded) float32."""
    import tensorflow as tf

    specs = {column.name: tf.TensorSpec([None, 1], column.dtype) for column in encoder.inputs}

    # One traced graph for all batches: eager calls would pay for each small operation.
    @tf.function(input_signature=[specs])
    def encode_batch(batch: dict[str, Any]) -> Any:
        return encoder(batch, training=False)

    n_rows = len(next(iter(records.values())))
    batches = []
    for start in range(0, n_rows, batch_rows):
        batch = {name: tf.constant(column[start : start + batch_rows]) for name, column in records.items()}
        batches.append(encode_batch(batch).numpy())
    return np.concatenate(batches)


def build_inner(n_encoded: int, units: int, learning_rate: float) -> Any:
    """Two hidden layers on encoded arrays, the probability of being late out."""
    import keras

    inputs = keras.Input((n_encoded,), name="encoded")
    hidden = keras.layers.Dense(units, activation="relu", name="hidden_1")(inputs)
    hidden = keras.layers.Dropout(0.1, name="dropout")(hidden)
    hidden = keras.layers.Dense(units // 2, activation="relu", name="hidden_2")(hidden)
    outputs = keras.layers.Dense(1, activation="sigmoid", name="p_late")(hidden)
    model = keras.Model(inputs, outputs, name="inner")
    model.compile(keras.optimizers.Adam(learning_rate), loss="binary_crossentropy")
    return model


def build_outer(encoder: Any, inner: Any) -> Any:
    """Encoder and inner model as one model on raw records."""
    import keras

    return keras.Model(encoder.input, inner(encoder(encoder.input)), name="delay_model")


def build_serving(outer: Any, text: Sequence[str], numbers: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """A `tf.Module` around the outer model and its signatures, one flat vector per field.

    Returns:
        The module and `{"serving_default": f}`, f(carrier=(n,) string, …, distance=(n,) float) -> {"p_late": (n,) float}.
    """
    import tensorflow as tf

    fields = {name: tf.TensorSpec([None], tf.string, name) for name in text}
    fields |= {name: tf.TensorSpec([None], tf.float32, name) for name in numbers}

    def score(**record: Any) -> dict[str, Any]:
        columns = {name: tf.expand_dims(values, 1) for name, values in record.items()}
        return {"p_late": tf.squeeze(outer(columns, training=False), 1)}

    module = tf.Module(name="delay_model")
    module.model = outer
    module.score = tf.function(score).get_concrete_function(**fields)
    return module, {"serving_default": module.score}


def load_scorer(folder: Any) -> Any:
    """A function from records (as `to_records` gives) to (n,) probabilities, from a SavedModel's serving signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def score(records: Arrays) -> np.ndarray:
        fields = {name: tf.constant(column.reshape(-1)) for name, column in records.items()}
        return signature(**fields)["p_late"].numpy()

    score.model = loaded  # a signature does not keep its variables alive
    return score


def fit_baseline(encoded: np.ndarray, is_late: np.ndarray, seed: int) -> Any:
    """Logistic regression on the same encoded columns: what the network has to beat."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=100, tol=1e-3, random_state=seed).fit(encoded, is_late)


def measure(is_late: np.ndarray, p_late: np.ndarray) -> dict[str, float]:
    """AUC, log loss, Brier score and calibration error of predicted probabilities."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    return {
        "auc": float(roc_auc_score(is_late, p_late)),
        "log_loss": float(log_loss(is_late, p_late)),
        "brier": float(brier_score_loss(is_late, p_late)),
        "calibration_error": calibration_error(is_late, p_late),
    }


def bin_calibration(is_late: np.ndarray, p_late: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Predicted and observed shares of late flights in bins of equally many flights: `predicted`, `observed`, `n`."""
    rank = np.argsort(np.argsort(p_late, kind="stable"), kind="stable")
    bins = rank * n_bins // len(p_late)
    frame = pd.DataFrame({"bin": bins, "predicted": p_late.astype(float), "observed": is_late.astype(float), "n": 1})
    return frame.groupby("bin").agg({"predicted": "mean", "observed": "mean", "n": "sum"})


def calibration_error(is_late: np.ndarray, p_late: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error: the mean distance of predicted and observed shares, weighted by flights.

    Source: Naeini, Cooper, Hauskrecht 2015, with bins of equally many rows.
    """
    bins = bin_calibration(is_late, p_late, n_bins)
    return float(np.average((bins["predicted"] - bins["observed"]).abs(), weights=bins["n"]))
