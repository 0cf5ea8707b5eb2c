"""How close two representations are: on golden predictions, on evaluation rows, and whatever goes wrong is a sentence."""

import math

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from litert_models import train, write_model

from kit.environment import EvaluationSource
from kit.errors import IntegrityError, UsageError
from kit.model import one_hot, read_encoding, standardise, write_encoding, write_golden
from kit.model.closeness import (
    Closeness,
    Representations,
    compare_on_rows,
    compare_representations,
    compare_with_golden,
    measure_closeness,
)
from kit.model.servable import Field, Signature

SOURCE = EvaluationSource("evaluation.parquet", "late", "p")


class FakeModel:
    """Gives x, plus something; remembers how many rows it was asked for at once."""

    def __init__(self, plus=0.0, output="p", inputs=("x",), shape=None):
        self.signature = Signature(tuple(Field(name, "float32") for name in inputs), (Field(output, "float32"),))
        self.plus, self.shape, self.asked = plus, shape, []

    def predict(self, columns):
        (values,) = columns.values()
        self.asked.append(len(values))
        answer = (values + np.float32(self.plus)).astype(np.float32)
        return {self.signature.outputs[0].name: np.resize(answer, self.shape) if self.shape else answer}


def golden_of(tmp_path, p=(0.25, 0.5), **inputs):
    return write_golden(tmp_path / "golden.json", inputs or {"x": [0.25, 0.5]}, {"p": list(p)})


def rows_at(tmp_path, x=(0.1, 0.9, 0.4, 0.6), late=(False, True, True, False)):
    pq.write_table(pa.table({"x": pa.array(x, pa.float64()), "late": list(late)}), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_golden_predictions_are_compared_in_absolute_difference(tmp_path):
    found = compare_with_golden(FakeModel(plus=-0.125), golden_of(tmp_path))
    assert found == Closeness(n_golden=2, golden_difference=0.125)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (FakeModel(output="q"), "no output 'p'; the model gives q"),
        (FakeModel(plus=math.nan), "output 'p' is not finite in 2 rows"),
        (FakeModel(shape=(3,)), "output 'p' has shape [3], expected [2]"),
    ],
)
def test_answers_that_cannot_be_compared_with_golden_predictions_are_a_problem(tmp_path, model, problem):
    assert compare_with_golden(model, golden_of(tmp_path)) == Closeness(problem=problem)


def test_golden_predictions_of_other_fields_are_refused(tmp_path):
    with pytest.raises(IntegrityError, match="golden predictions are for inputs x, y; the model takes x"):
        compare_with_golden(FakeModel(), golden_of(tmp_path, x=[1, 2], y=[1, 2]))


def test_difference_and_auc_are_measured_on_evaluation_rows(tmp_path):
    before = Closeness(n_golden=2, golden_difference=0.0)
    found = compare_on_rows(before, FakeModel(), FakeModel(plus=2.0), rows_at(tmp_path), SOURCE)
    assert found.difference == pytest.approx(2.0, abs=1e-6)
    assert msgspec.structs.replace(found, difference=None) == Closeness(
        n_golden=2, golden_difference=0.0, n_rows=4, auc=0.75, auc_litert=0.75
    )


def test_evaluation_rows_are_read_in_batches(tmp_path):
    n_rows, model = 40_000, FakeModel()
    rows = rows_at(tmp_path, np.linspace(0, 1, n_rows), [False, True] * (n_rows // 2))
    assert compare_on_rows(Closeness(), FakeModel(), model, rows, SOURCE).n_rows == sum(model.asked) == n_rows
    assert max(model.asked) < 20_000


@pytest.mark.parametrize(
    ("saved_model", "litert", "rows", "problem"),
    [
        (FakeModel(output="q"), FakeModel(), {}, "the SavedModel has no output 'p'; it gives q"),
        (FakeModel(), FakeModel(output="q"), {}, "the LiteRT model has no output 'p'; it gives q"),
        (FakeModel(), FakeModel(plus=math.inf), {}, "the LiteRT model gives 'p' that is not finite in 4 of 4 rows"),
        (
            FakeModel(),
            FakeModel(shape=(4, 2)),
            {},
            "the LiteRT model gives 'p' as float32 of shape [4, 2]; expected one number for each of 4 rows",
        ),
        (FakeModel(), FakeModel(), {"late": (True,) * 4}, "all 4 labels are 1; both 0 and 1 are needed"),
        (FakeModel(), FakeModel(), {"late": (1, 0, 2, 1)}, "labels must be 0 or 1; 1 of 4 are neither"),
        (
            FakeModel(),
            FakeModel(),
            {"late": (True, None, False, True)},
            "label 'late' is missing or not finite in 1 of 4",
        ),
        (FakeModel(), FakeModel(), {"x": (), "late": ()}, "has no rows"),
        (FakeModel(inputs=("y",)), FakeModel(), {}, "rows.parquet has no column 'y'"),
    ],
)
def test_evaluation_rows_that_prove_nothing_are_refused(tmp_path, saved_model, litert, rows, problem):
    with pytest.raises(UsageError) as caught:
        compare_on_rows(Closeness(), saved_model, litert, rows_at(tmp_path, **rows), SOURCE)
    assert problem in str(caught.value)


@pytest.fixture
def representations(tmp_path):
    """A LiteRT model with golden predictions that it reproduces; no SavedModel, which these do not need."""
    write_encoding(tmp_path / "encoding.json", [one_hot("c", ["a"]), standardise(["x"], [0], [1])], output="p")
    write_model(tmp_path / "model.tflite", [0.0, 0.0, 0.0])
    golden_of(tmp_path, p=(0.5, 0.5), c=["a", None], x=[1.0, None])
    names = {
        "litert": "model.tflite",
        "encoding": "encoding.json",
        "golden": "golden.json",
        "saved_model": "saved_model",
    }
    return Representations(**{field: str(tmp_path / name) for field, name in names.items()})


def test_fresh_process_compares_with_golden_predictions(representations):
    assert compare_representations(representations) == Closeness(n_golden=2, golden_difference=0.0)


def test_comparison_that_takes_too_long_is_a_problem(representations):
    assert compare_representations(representations, timeout_s=0.01) == Closeness(
        problem="the comparing process gave no answer in 0.01 s"
    )


def test_process_that_dies_is_a_problem(representations, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    found = compare_representations(representations)
    assert "the comparing process ended with 1 and no answer" in found.problem
    assert msgspec.structs.replace(found, problem="") == Closeness()


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("model.tflite", b"no model", "model.tflite does not load as a LiteRT model"),
        ("encoding.json", b"{}", "encoding.json: not readable as an encoding"),
        ("golden.json", b"[1]", "golden.json: not readable as golden predictions"),
    ],
)
def test_file_that_cannot_be_read_is_a_problem(representations, tmp_path, name, data, problem):
    (tmp_path / name).write_bytes(data)
    found = measure_closeness(representations)
    assert found.problem.startswith(problem)
    assert msgspec.structs.replace(found, problem="") == Closeness()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained") / "artifacts")


def trained_at(folder):
    names = {
        "litert": "model.tflite",
        "encoding": "encoding.json",
        "golden": "golden.json",
        "saved_model": "saved_model",
    }
    paths = {field: str(folder / name) for field, name in {**names, "rows": "evaluation.parquet"}.items()}
    return Representations(source=SOURCE, **paths)


@pytest.mark.kernel
def test_trained_model_is_close_in_both_representations(trained):
    found = compare_representations(trained_at(trained))
    assert (found.problem, found.n_golden, found.n_rows) == ("", 40, 500), found
    assert found.golden_difference <= 1e-6
    assert found.difference <= 1e-6
    assert found.auc == pytest.approx(found.auc_litert, abs=1e-4)


@pytest.mark.kernel
def test_encoding_of_another_training_shows(trained, tmp_path):
    encoding = read_encoding(trained / "encoding.json")
    texts, numbers, flags = encoding.parts
    other = msgspec.structs.replace(numbers, mean=tuple(value + 1e6 for value in numbers.mean))
    write_encoding(tmp_path / "encoding.json", [texts, other, flags], output="p")
    found = compare_representations(
        msgspec.structs.replace(trained_at(trained), encoding=str(tmp_path / "encoding.json"))
    )
    assert found.problem == ""
    assert found.golden_difference > 0.01
    assert found.difference > 0.01
    assert found.auc - found.auc_litert > 0.01


@pytest.mark.kernel
def test_saved_model_that_does_not_load_is_a_problem(trained, tmp_path):
    found = compare_representations(msgspec.structs.replace(trained_at(trained), saved_model=str(tmp_path)))
    assert "does not load as a SavedModel" in found.problem
    assert msgspec.structs.replace(found, problem="") == Closeness()
