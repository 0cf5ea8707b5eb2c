"""Model files with canonical bytes, golden predictions, and a probe whose every failure is a finding of its own."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kit.errors import IntegrityError, UsageError
from kit.model import ProbeFinding, probe_saved_model, read_golden, save_saved_model, write_golden
from kit.model.probe import ProbeResult, compare_outputs
from kit.model.saving import canonicalise_keras

# What a training does, in a process of its own: TensorFlow's settings cannot be taken back in one that has started.
TRAINING = """
import sys
from pathlib import Path
from kit.model import pin_determinism, save_keras, save_saved_model, write_golden
pinned = pin_determinism(seed=3, threads=1)
import keras, numpy as np, tensorflow as tf
folder = Path(sys.argv[1])
name, x = keras.Input((1,), name="name", dtype="string"), keras.Input((1,), name="x")
code = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot", name="code")(name)
clean = keras.ops.nan_to_num(x, nan=0.0)
hidden = keras.layers.Dropout(0.2, name="dropout")(keras.layers.Concatenate(name="all")([code, clean]))
model = keras.Model({"name": name, "x": x}, keras.layers.Dense(1, activation="sigmoid", name="p")(hidden), name="m")
model.compile("adam", "binary_crossentropy")
records = {"name": np.array([["a"], ["b"], ["c"], [""]], object), "x": np.array([[0.5], [1], [2], [np.nan]], "float32")}
data = {name: tf.constant(values) for name, values in records.items()}
model.fit(data, np.array([0.0, 1, 1, 0]), epochs=2, batch_size=2, verbose=0)
save_keras(model, folder / "model.keras")
module = tf.Module()
module.model = model
module.score = tf.function(
    lambda name, x: {"p": tf.squeeze(model({"name": name[:, None], "x": x[:, None]}, training=False), 1)}
).get_concrete_function(tf.TensorSpec([None], tf.string, "name"), tf.TensorSpec([None], tf.float32, "x"))
save_saved_model(module, folder / "saved_model", {"serving_default": module.score})
again = keras.models.load_model(folder / "model.keras")
assert np.array_equal(again(data), model(data))
flat = {name: tf.constant(values.reshape(-1)) for name, values in records.items()}
write_golden(folder / "golden.json", records, {"p": module.score(**flat)["p"].numpy()})
assert pin_determinism(seed=3, threads=1) == pinned
try:
    pin_determinism(seed=3, threads=2)
except ValueError as error:
    assert "restart the kernel" in str(error), error
else:
    raise AssertionError("threads were changed after TensorFlow had started")
"""


def zip_of(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_json", ".json"), text)
    return buffer.getvalue()


def keras_zip(date: str, first: int, second: int) -> bytes:
    layers = [{"shared_object_id": first}, {"shared_object_id": second}, {"shared_object_id": first}]
    return zip_of(metadata_json=json.dumps({"date_saved": date}), config_json=json.dumps({"layers": layers}))


def golden_at(folder: Path, n_rows: int = 2, **changes: object):
    values = {
        "inputs": {"x": [1.0, math.nan][:n_rows]},
        "outputs": {"p": [0.25, 0.75][:n_rows]},
        "atol": 1e-3,
    } | changes
    return write_golden(folder / "golden.json", **values)


def test_dates_and_object_ids_do_not_change_canonical_bytes():
    first, second = (canonicalise_keras(each) for each in (keras_zip("today", 77, 5), keras_zip("later", 1234, 99)))
    assert first == second
    config = json.loads(zipfile.ZipFile(io.BytesIO(first)).read("config.json"))
    assert [layer["shared_object_id"] for layer in config["layers"]] == [1, 2, 1]


def test_which_objects_are_shared_changes_canonical_bytes():
    assert canonicalise_keras(keras_zip("today", 1, 2)) != canonicalise_keras(keras_zip("today", 1, 1))


def test_canonical_bytes_are_canonical_already():
    once = canonicalise_keras(keras_zip("today", 77, 5))
    assert canonicalise_keras(once) == once


def test_golden_predictions_are_read_as_written(tmp_path):
    written = golden_at(tmp_path)
    assert read_golden(tmp_path / "golden.json") == written
    assert written.inputs == {"x": (1.0, None)}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"n_rows": 0}, "no rows"),
        ({"outputs": {}}, "no rows"),
        ({"outputs": {"p": [0.5]}}, "different numbers of rows"),
        ({"outputs": {"p": [0.5, math.nan]}}, "not finite"),
        ({"atol": math.inf}, "atol"),
        ({"atol": -1.0}, "atol"),
    ],
)
def test_golden_predictions_that_prove_nothing_are_refused(tmp_path, changes, problem):
    with pytest.raises(UsageError, match=problem):
        golden_at(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"signature": "s", "inputs": {}, "outputs": {}, "atol": 1}'])
def test_unreadable_golden_predictions_are_a_finding(tmp_path, text):
    (tmp_path / "golden.json").write_text(text)
    with pytest.raises(IntegrityError):
        read_golden(tmp_path / "golden.json")
    result = probe_saved_model(tmp_path / "absent", tmp_path / "golden.json")
    assert (result.finding, result.passed) == (ProbeFinding.NO_GOLDEN, False)


@pytest.mark.parametrize(
    ("answers", "finding"),
    [
        ({"p": np.array([0.25, 0.7501])}, ProbeFinding.REPRODUCED),
        ({"p": np.array([[0.25], [0.75]])}, ProbeFinding.REPRODUCED),
        ({"p": np.array([0.25, 0.76])}, ProbeFinding.DIFFERS),
        ({"p": np.array([0.25, math.nan])}, ProbeFinding.NOT_FINITE),
        ({"p": np.array([0.25, 0.75, 0.5])}, ProbeFinding.OTHER_SHAPE),
        ({"p": np.array(0.25)}, ProbeFinding.OTHER_SHAPE),
        ({"q": np.array([0.25, 0.75])}, ProbeFinding.NO_OUTPUT),
        ({}, ProbeFinding.NO_OUTPUT),
    ],
)
def test_answers_are_compared_with_golden_outputs(tmp_path, answers, finding):
    result = compare_outputs(golden_at(tmp_path), answers)
    assert (result.finding, result.passed) == (finding, finding is ProbeFinding.REPRODUCED)


def test_reproducing_no_rows_is_no_success():
    assert not ProbeResult(ProbeFinding.REPRODUCED, "all of nothing", n_rows=0).passed


def test_saved_model_needs_signatures_and_a_folder_of_its_own(tmp_path):
    with pytest.raises(UsageError, match="signatures"):
        save_saved_model(None, tmp_path / "new", {})
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        save_saved_model(None, tmp_path, {"serving_default": None})


def test_importing_the_adapter_does_not_import_tensorflow():
    code = "import sys, kit.model; sys.exit(sum(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"))


def train(folder: Path) -> Path:
    done = subprocess.run([sys.executable, "-c", TRAINING, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.kernel
def test_two_trainings_write_the_same_bytes(trained, tmp_path):
    assert contents(trained) == contents(train(tmp_path))
    assert "saved_model/fingerprint.pb" not in contents(trained)


@pytest.mark.kernel
def test_probe_reproduces_golden_predictions_in_a_fresh_process(trained):
    result = probe_saved_model(trained / "saved_model", trained / "golden.json")
    assert result.passed, result
    assert result.n_rows == 4


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"outputs": {"p": [0.9, 0.9, 0.9, 0.9]}}, ProbeFinding.DIFFERS),
        ({"signature": "other"}, ProbeFinding.NO_SIGNATURE),
        ({"inputs": {"y": [1.0, 2.0, 3.0, 4.0]}}, ProbeFinding.REFUSED_INPUT),
    ],
)
def test_probe_finds_what_differs(trained, tmp_path, change, finding):
    golden = json.loads((trained / "golden.json").read_text())
    (tmp_path / "golden.json").write_text(json.dumps(golden | change))
    result = probe_saved_model(trained / "saved_model", tmp_path / "golden.json")
    assert (result.finding, result.passed) == (finding, False), result


@pytest.mark.kernel
def test_model_that_does_not_load_is_a_finding(tmp_path):
    golden_at(tmp_path)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"no model")
    result = probe_saved_model(tmp_path / "saved_model", tmp_path / "golden.json")
    assert (result.finding, result.passed) == (ProbeFinding.NOT_LOADED, False), result


@pytest.mark.kernel
def test_probe_that_takes_too_long_is_a_finding(trained):
    result = probe_saved_model(trained / "saved_model", trained / "golden.json", timeout_s=0.05)
    assert (result.finding, result.passed) == (ProbeFinding.TIMED_OUT, False)
