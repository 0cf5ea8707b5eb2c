"""TensorFlow, as far as kit needs it: canonical model files, pinned determinism, and the probe of a released model.

The probe runs this module in a fresh process, `python -m kit.model MODEL GOLDEN`, so that a model that crashes, hangs or
exhausts memory takes nobody with it, and so that what is tested is what was saved, not what is still in memory.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import UsageError
from kit.files import canonical_json

PROBE_TIMEOUT_S = 300.0
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ProbeResult(msgspec.Struct, frozen=True):
    """How a saved model answered; `passed` only if every golden prediction came out again."""

    passed: bool
    detail: str


def pin_determinism(seed: int, threads: int) -> dict[str, Any]:
    """Seed Python, numpy and TensorFlow and pin what else changes results; gives what was pinned.

    Raises:
        UsageError: TensorFlow was imported before, with optimisations that cannot be taken back.
    """
    if "tensorflow" in sys.modules and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        raise UsageError("make_deterministic must come before `import tensorflow` or `import keras`: move it up")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise UsageError(f"make_deterministic must come before TensorFlow does anything: {error}") from error
    keras.utils.set_random_seed(seed)  # Python, numpy and TensorFlow
    random.seed(seed)
    tf.config.experimental.enable_op_determinism()
    return {
        "seed": seed,
        "threads": threads,
        "op_determinism": True,
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "random"),
        "tensorflow": tf.__version__,
    }


def save_keras(model: Any, path: Path) -> None:
    """Save a Keras model so that equal models give equal bytes: no date, no object ids, fixed zip times and order."""
    raw = Path(path).with_name(f".raw-{Path(path).name}")
    try:
        model.save(raw)
        parts = _read_zip(raw)
    finally:
        raw.unlink(missing_ok=True)
    metadata = json.loads(parts["metadata.json"])
    metadata["date_saved"] = "1980-01-01@00:00:00"
    parts["metadata.json"] = canonical_json(metadata)
    parts["config.json"] = _canonical_config(parts["config.json"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            archive.writestr(entry, parts[name])


def _canonical_config(data: bytes) -> bytes:
    """The config with `shared_object_id`s, which are memory addresses, numbered by first appearance."""
    numbers: dict[str, int] = {}
    text = canonical_json(json.loads(data)).decode()
    pattern = re.compile(r'("shared_object_id":)(\d+)')
    return pattern.sub(lambda m: f"{m.group(1)}{numbers.setdefault(m.group(2), len(numbers))}", text).encode()


def _read_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def save_saved_model(module: Any, folder: Path, signatures: Mapping[str, Any]) -> None:
    """Save a `tf.Module` as a SavedModel without its fingerprint, which holds a random number."""
    import tensorflow as tf

    tf.saved_model.save(module, str(folder), signatures=dict(signatures))
    (Path(folder) / "fingerprint.pb").unlink(missing_ok=True)


def write_golden(
    path: Path,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    atol: float,
    signature: str = "serving_default",
) -> None:
    """Write golden predictions: what the signature must give for these rows.

    Args:
        path: of the JSON file.
        inputs: field -> (n_rows,) texts or numbers; NaN stands for missing.
        outputs: output -> (n_rows,) numbers, all finite.
        atol: largest difference that still counts as the same, absolute.
        signature: of the SavedModel.

    Raises:
        UsageError: no rows, different lengths, or a prediction that is no finite number.
    """
    plain_inputs = {name: [_plain(value) for value in column] for name, column in inputs.items()}
    plain_outputs = {name: [float(value) for value in column] for name, column in outputs.items()}
    lengths = {len(column) for column in (*plain_inputs.values(), *plain_outputs.values())}
    if len(lengths) != 1 or 0 in lengths or not plain_outputs:
        raise UsageError(
            f"golden predictions need the same number of rows, at least one, in every field; found {lengths}"
        )
    if not all(math.isfinite(value) for column in plain_outputs.values() for value in column):
        raise UsageError("golden predictions must be finite numbers: the model already answers NaN")
    content = {"signature": signature, "atol": atol, "inputs": plain_inputs, "outputs": plain_outputs}
    Path(path).write_bytes(canonical_json(content))


def _plain(value: Any) -> str | float | int | None:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def probe_saved_model(model: Path, golden: Path, timeout_s: float = PROBE_TIMEOUT_S) -> ProbeResult:
    """Load a SavedModel in a fresh process, ask for its golden predictions, compare. Whatever goes wrong did not pass."""
    command = [sys.executable, "-m", "kit.model", str(model), str(golden)]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return ProbeResult(False, f"did not answer within {timeout_s:.0f} s")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        result = msgspec.json.decode(last, type=ProbeResult)
    except msgspec.DecodeError:
        error = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return ProbeResult(False, f"the process that loaded it ended with exit code {done.returncode}: {error}")
    return result if done.returncode == 0 else ProbeResult(False, result.detail)


def _probe(model: Path, golden: Path) -> ProbeResult:
    expected = json.loads(golden.read_bytes())
    import numpy as np
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(model))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        return ProbeResult(False, f"does not load: {type(error).__name__}")
    signature = loaded.signatures.get(expected["signature"])
    if signature is None:
        return ProbeResult(False, f"has no signature {expected['signature']!r}; it has {list(loaded.signatures)}")
    try:
        answers = signature(**_tensors(signature, expected["inputs"]))
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        return ProbeResult(False, f"does not take its golden inputs: {type(error).__name__}: {str(error)[:200]}")
    return _compare({name: np.asarray(value) for name, value in answers.items()}, expected)


def _tensors(signature: Any, inputs: Mapping[str, list[Any]]) -> dict[str, Any]:
    import tensorflow as tf

    specs = signature.structured_input_signature[1]
    missing = sorted(set(specs) ^ set(inputs))
    if missing:
        raise KeyError(f"fields differ: {missing}")
    tensors = {}
    for name, values in inputs.items():
        filled = (
            values if specs[name].dtype == tf.string else [math.nan if value is None else value for value in values]
        )
        tensors[name] = tf.constant(filled, dtype=specs[name].dtype)
    return tensors


def _compare(answers: Mapping[str, Any], expected: Mapping[str, Any]) -> ProbeResult:
    import numpy as np

    golden = {name: np.asarray(values, dtype=float) for name, values in expected["outputs"].items()}
    n_rows = max((len(values) for values in golden.values()), default=0)
    if not golden or not n_rows:
        return ProbeResult(False, "there are no golden predictions to compare with")
    largest = 0.0
    for name, values in golden.items():
        if name not in answers:
            return ProbeResult(False, f"gives no {name!r}; it gives {sorted(answers)}")
        answer = np.asarray(answers[name], dtype=float)
        if answer.shape != values.shape:
            return ProbeResult(False, f"{name!r} has shape {answer.shape}, the golden predictions {values.shape}")
        if not np.isfinite(answer).all():
            return ProbeResult(False, f"{name!r} holds NaN or infinity")
        largest = max(largest, float(np.abs(answer - values).max()))
    if not largest <= expected["atol"]:
        return ProbeResult(
            False, f"golden predictions differ by {largest:.3g}, at most {expected['atol']:g} is allowed"
        )
    return ProbeResult(True, f"loaded in a fresh process, {n_rows} golden predictions reproduced within {largest:.2g}")


def _main(model: str, golden: str) -> int:
    try:
        result = _probe(Path(model), Path(golden))
    except (OSError, ValueError, KeyError, TypeError) as error:
        result = ProbeResult(False, f"golden predictions cannot be read: {type(error).__name__}: {error}")
    output = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", write_through=True)
    output.write("\n" + msgspec.json.encode(result).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2]))
