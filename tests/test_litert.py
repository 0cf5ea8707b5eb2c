"""A LiteRT model answers from raw fields without TensorFlow, and one that does not fit its encoding is refused."""

import math
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from litert_models import train, write_model

from kit.errors import IntegrityError, UndecidableError, UsageError
from kit.model import flag_missing, one_hot, open_litert, save_litert, standardise, write_encoding
from kit.model.litert import CHUNK_ROWS
from kit.model.servable import Field, Signature

PARTS = (
    one_hot("carrier", ["AA", "UA"]),
    standardise(["distance"], [100.0], [4.0], clip=5.0),
    flag_missing(["distance"]),
)
WEIGHTS = [0.5, 1.0, -1.0, 2.0, 0.25]
ROWS = {"carrier": np.array(["UA", "", "AA"], object), "distance": np.array([101.0, math.nan, 1e9])}
SUMS = np.array([-1.0 + 2.0 * 0.5, 0.5 + 0.25, 1.0 + 2.0 * 5.0])


@pytest.fixture
def files(tmp_path):
    """A model and its encoding."""
    write_encoding(tmp_path / "encoding.json", PARTS, output="p")
    return write_model(tmp_path / "model.tflite", WEIGHTS), tmp_path / "encoding.json"


def make_rows(n_rows):
    random = np.random.default_rng(1)
    texts = np.array(["AA", "UA", "?"], object)[random.integers(0, 3, n_rows)]
    return {"carrier": texts, "distance": random.normal(100, 3, n_rows)}


def test_model_answers_from_raw_fields(files):
    model = open_litert(*files)
    answers = model.predict(ROWS)
    assert list(answers) == ["p"]
    assert (answers["p"].dtype, answers["p"].shape) == (np.float32, (3,))
    assert np.allclose(answers["p"], 1 / (1 + np.exp(-SUMS)), rtol=0, atol=1e-6)
    inputs = (Field("carrier", "string"), Field("distance", "float32"))
    assert model.signature == Signature(inputs, (Field("p", "float32"),))


@pytest.mark.parametrize("n_rows", [1, 2, 7, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS])
def test_what_a_row_gives_does_not_depend_on_the_rows_beside_it(files, n_rows):
    model, rows = open_litert(*files), make_rows(3 * CHUNK_ROWS)
    everything = model.predict(rows)["p"]
    some = model.predict({name: values[:n_rows] for name, values in rows.items()})["p"]
    assert np.array_equal(some, everything[:n_rows])


def test_answers_of_one_call_are_not_changed_by_the_next(files):
    model = open_litert(*files)
    first = model.predict(ROWS)["p"]
    before = first.copy()
    model.predict(make_rows(3))
    assert np.array_equal(first, before)


def test_no_rows_give_no_scores(files):
    model = open_litert(*files)
    assert model.predict({name: values[:0] for name, values in ROWS.items()})["p"].shape == (0,)
    assert model.predict(ROWS)["p"].shape == (3,)


@pytest.mark.parametrize("n_rows", [2, CHUNK_ROWS, 2 * CHUNK_ROWS])
def test_columns_of_different_length_are_refused(files, n_rows):
    rows = make_rows(2 * CHUNK_ROWS + 1)
    with pytest.raises(UsageError, match="field 'distance' has shape"):
        open_litert(*files).predict({**rows, "distance": rows["distance"][:n_rows]})


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"weights": WEIGHTS[:4]}, "found float32 [-1, 4], float32 [-1, 1]"),
        ({"weights": WEIGHTS, "n_outputs": 2}, "found float32 [-1, 5], float32 [-1, 2]"),
        ({"weights": WEIGHTS, "rows": 1}, "found float32 [1, 5], float32 [1, 1]"),
    ],
)
def test_model_that_does_not_fit_its_encoding_is_refused(files, made, found):
    write_model(files[0], **made)
    expected = "model.tflite does not belong to encoding.json: expected one input float32 [-1, 5] and one output"
    with pytest.raises(
        IntegrityError, match=f"{re.escape(expected)}.*{re.escape(found)}; take both from the same training"
    ):
        open_litert(*files)


def test_file_that_is_no_model_is_refused(files):
    model, whole = files[0], files[0].read_bytes()
    for data in (b"", b"no model", whole[:-1], whole[: len(whole) // 2], whole[:4] + b"TFL2" + whole[8:]):
        model.write_bytes(data)
        with pytest.raises(IntegrityError, match=r"model\.tflite does not load as a LiteRT model: "):
            open_litert(*files)
    model.unlink()
    with pytest.raises(IntegrityError, match="No such file"):
        open_litert(*files)


def test_changing_the_file_does_not_change_a_model_that_is_open(files):
    model = open_litert(*files)
    before = model.predict(ROWS)["p"]
    files[0].write_bytes(b"\0" * files[0].stat().st_size)
    assert np.array_equal(model.predict(ROWS)["p"], before)


SERVE = """
import sys
from pathlib import Path
import numpy as np
from kit.model import open_litert
model = open_litert(Path(sys.argv[1]), Path(sys.argv[2]))
print(model.predict({"carrier": np.array(["UA"], object), "distance": np.array([101.0])})["p"].tolist())
print(sorted({"tensorflow", "keras", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_serving_imports_no_tensorflow(files):
    command = [sys.executable, "-c", SERVE, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[0.5]\n[]\n", done.stderr


def test_without_its_runtime_it_cannot_be_decided(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UndecidableError, match="ai-edge-litert is not installed here"):
        open_litert(*files)


def tensor(dtype, *shape):
    return SimpleNamespace(dtype=dtype, shape=shape, name="x")


ROW, NUMBER = tensor("float32", None, 5), tensor("float32", None, 1)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (object(), "no inputs"),
        (SimpleNamespace(inputs=None, outputs=None), "no inputs"),
        (
            SimpleNamespace(inputs=[ROW, ROW], outputs=[NUMBER]),
            "float32 [None, 5], float32 [None, 5], float32 [None, 1]",
        ),
        (SimpleNamespace(inputs=[ROW], outputs=[ROW]), "float32 [None, 5], float32 [None, 5]"),
        (SimpleNamespace(inputs=[tensor("string", None, 1)], outputs=[NUMBER]), "string [None, 1]"),
        (SimpleNamespace(inputs=[tensor("float32", None, None)], outputs=[NUMBER]), "float32 [None, None]"),
        (SimpleNamespace(inputs=[tensor("float32", None, 5, 5)], outputs=[NUMBER]), "float32 [None, 5, 5]"),
        (SimpleNamespace(inputs=[tensor("float16", None, 5)], outputs=[NUMBER]), "float16 [None, 5]"),
    ],
)
def test_model_of_another_form_is_not_converted(tmp_path, model, found):
    with pytest.raises(UsageError, match=f"found {re.escape(found)}.*give the inner model, without its encoder"):
        save_litert(model, tmp_path / "model.tflite")


def test_file_of_another_name_is_not_written(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.tflite, found 'model.lite'"):
        save_litert(object(), tmp_path / "model.lite")


@pytest.mark.kernel
def test_trainings_in_processes_of_another_history_write_the_same_bytes(tmp_path):
    first, second = train(tmp_path / "first"), train(tmp_path / "second", "other")
    for name in ("model.tflite", "encoding.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


SELECT_OPERATION = """
import sys
from pathlib import Path
import keras, tensorflow as tf
from kit.model import save_litert
entry = keras.Input((3,), name="encoded")
text = keras.layers.Lambda(lambda x: tf.strings.to_number(tf.strings.as_string(x[:, :1])), (1,), name="text")(entry)
try:
    save_litert(keras.Model(entry, text), Path(sys.argv[1]))
except ValueError as error:
    print(error)
"""


@pytest.mark.kernel
def test_operation_that_litert_has_not_is_refused_and_nothing_is_written(tmp_path):
    command = [sys.executable, "-c", SELECT_OPERATION, str(tmp_path / "model.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refusal = "this model cannot become a LiteRT model of built-in operations: TF Select ops: AsString, StringToNumber"
    assert done.stdout == f"{refusal}; use layers that LiteRT has\n", done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []
