"""LiteRT models: small ones made without TensorFlow, and one that is trained, with its SavedModel and all that a gate needs."""

import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def write_model(path: Path, weights: list[float], n_outputs: int = 1, rows: int = -1) -> Path:
    """A flatbuffer whose n_outputs outputs are all alike; `rows`: how many it takes, -1 any number."""
    model = schema.ModelT()
    model.version, model.description = 3, "test"
    model.operatorCodes = [_code(schema.BuiltinOperator.FULLY_CONNECTED), _code(schema.BuiltinOperator.LOGISTIC)]
    matrix = np.tile(np.array(weights, np.float32), (n_outputs, 1))
    model.buffers = [_buffer(b""), _buffer(matrix.tobytes())]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("encoded", [rows, len(weights)]),
        _tensor("weights", list(matrix.shape), buffer=1),
        _tensor("sum", [rows, n_outputs]),
        _tensor("p", [rows, n_outputs]),
    ]
    graph.inputs, graph.outputs = [0], [3]
    graph.operators = [_operator(0, [0, 1, -1], [2]), _operator(1, [2], [3])]
    graph.operators[0].builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    graph.operators[0].builtinOptions = schema.FullyConnectedOptionsT()
    model.subgraphs = [graph]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


# What a training does. With `other` its process makes other models and functions before, and stops when both are written.
TRAINING = """
import sys
from pathlib import Path
from kit.model import *
pin_determinism(seed=3)
import keras, numpy as np, tensorflow as tf
folder, other = Path(sys.argv[1]), sys.argv[2] == "other"
if other:
    keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])(np.zeros((1, 2)))
    tf.function(lambda x: x + 1)(tf.constant(1.0))
    keras.utils.set_random_seed(3)
random = np.random.default_rng(1)
n, words = 500, ["a", "b", "ä"]
records = {"name": np.array([*words, "new", ""], object)[random.integers(0, 5, n)].reshape(-1, 1)}
for name, scale in (("x", 1.0), ("y", 1e6)):
    records[name] = np.where(random.random(n) < 0.1, np.nan, random.normal(3, 2, n) ** 3 * scale).astype("float32")[:, None]
name, x, y = keras.Input((1,), name="name", dtype="string"), keras.Input((1,), name="x"), keras.Input((1,), name="y")
code = keras.layers.StringLookup(vocabulary=words, output_mode="one_hot", name="code")(name)
stacked = keras.layers.Concatenate(name="numbers")([x, y])
both = np.concatenate([records["x"], records["y"]], 1).astype(float)
normal = keras.layers.Normalization(mean=np.nanmean(both, 0), variance=np.nanvar(both, 0), name="normal")(stacked)
clean = keras.ops.clip(keras.ops.nan_to_num(normal, nan=0.0), -2.0, 2.0)
flags = keras.ops.cast(keras.ops.isnan(stacked), "float32")
inputs = {"name": name, "x": x, "y": y}
encoder = keras.Model(inputs, keras.layers.Concatenate(name="encoded")([code, clean, flags]), name="encoder")
entry = keras.Input((8,), name="encoded")
hidden = keras.layers.Dense(16, activation="relu", name="hidden")(entry)
hidden = keras.layers.Dropout(0.3, name="dropout")(keras.layers.BatchNormalization(name="batch")(hidden))
inner = keras.Model(entry, keras.layers.Dense(1, activation="sigmoid", name="p")(hidden), name="inner")
inner.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
labels = (np.nan_to_num(records["x"]) > 20).astype("float32")
encoded = encoder({key: tf.constant(value) for key, value in records.items()}).numpy()
inner.fit(encoded, labels, epochs=5, verbose=0)
save_litert(inner, folder / "model.tflite")
written = (folder / "model.tflite").read_bytes()
save_litert(inner, folder / "model.tflite")
assert (folder / "model.tflite").read_bytes() == written, "converted again in one process, other bytes"
layer = encoder.get_layer("normal")
parts = [one_hot("name", encoder.get_layer("code").get_vocabulary()[1:])]
parts += [standardise(["x", "y"], layer.mean, layer.variance, clip=2.0), flag_missing(["x", "y"])]
write_encoding(folder / "encoding.json", parts, output="p")
if other:
    raise SystemExit
from kit.model.encoder import Encoder
flat = {key: value.reshape(-1) for key, value in records.items()}
difference = np.abs(Encoder(read_encoding(folder / "encoding.json")).encode(flat) - encoded).max()
assert difference <= 1e-6, difference
outer = keras.Model(inputs, inner(encoder(inputs)), name="outer")
module = tf.Module()
module.model = outer
def score(**fields):
    columns = {key: tf.expand_dims(value, 1) for key, value in fields.items()}
    return {"p": tf.squeeze(outer(columns, training=False), 1)}
specs = {key: tf.TensorSpec([None], tf.string if key == "name" else tf.float32, key) for key in inputs}
module.score = tf.function(score).get_concrete_function(**specs)
save_saved_model(module, folder / "saved_model", {"serving_default": module.score})
answers = module.score(**{key: tf.constant(value) for key, value in flat.items()})["p"].numpy()
difference = np.abs(open_litert(folder / "model.tflite", folder / "encoding.json").predict(flat)["p"] - answers).max()
assert difference <= 1e-6, difference
write_golden(folder / "golden.json", {key: value[:40] for key, value in flat.items()}, {"p": answers[:40]})
import pyarrow as pa, pyarrow.parquet as pq
columns = {key: pa.array(value, from_pandas=True) for key, value in flat.items()}
pq.write_table(pa.table({**columns, "late": labels.reshape(-1) > 0}), folder / "evaluation.parquet")
"""


def train(folder: Path, history: str = "") -> Path:
    """Train in a fresh process: model.tflite, encoding.json, saved_model, golden.json, evaluation.parquet."""
    folder.mkdir()
    command = [sys.executable, "-W", "error", "-c", TRAINING, str(folder), history]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def _code(operator):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = 1
    return code


def _buffer(data):
    buffer = schema.BufferT()
    buffer.data = list(data)
    return buffer


def _tensor(name, shape, buffer=0):
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, schema.TensorType.FLOAT32, buffer
    tensor.shape, tensor.shapeSignature = [max(size, 1) for size in shape], shape
    return tensor


def _operator(code, inputs, outputs):
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    return operator
