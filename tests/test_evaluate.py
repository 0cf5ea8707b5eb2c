"""Candidate and live model on the same rows: whatever a model, rows or a measure do becomes a sentence, never a number."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.environment import EvaluationSource
from kit.errors import IntegrityError, UsageError
from kit.measures import measure
from kit.model.evaluate import Evaluation, EvaluationOrder, Measured, Scored, evaluate, evaluate_in_process
from kit.model.rows import Slices, read_inputs, read_label, read_slices
from kit.model.servable import Field, Signature

NAMES = ["a", "b", "", None, "a", "c"]
X = [0.1, 0.9, 0.4, None, 0.2, 0.8]
LABELS = [False, True, False, True, True, True]
SCORES = [0.1, 0.9, 0.4, 0.5, 0.2, 0.8]  # of the fake model: x, and 0.5 where it is missing


class FakeModel:
    """Says x again, 0.5 where it is missing, after a change."""

    def __init__(self, change: Any = lambda scores: scores, inputs: tuple[Field, ...] = ()) -> None:
        self.change, self.batches = change, []
        inputs = inputs or (Field("name", "string"), Field("x", "float32", (1,)))
        self.signature = Signature(inputs, (Field("p", "float32"), Field("q", "float32")))

    def predict(self, columns: Any) -> dict[str, Any]:
        self.batches.append(columns)
        return {"p": self.change(np.nan_to_num(columns["x"].reshape(-1), nan=0.5))}


def write_rows(folder: Path, **changes: Any) -> Path:
    columns = {"name": NAMES, "x": X, "is_late": LABELS} | changes
    path = folder / "evaluation.parquet"
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def order_for(folder: Path, rows: Path | None = None, columns: tuple[str, ...] = (), **changes: Any) -> EvaluationOrder:
    source = EvaluationSource(**{"data": "evaluation.parquet", "label": "is_late", "output": "p"} | changes)
    return EvaluationOrder(
        str(rows or write_rows(folder)), source, columns, "candidate", notebooks=str(folder / "notebooks")
    )


def evaluate_with(order: EvaluationOrder, **models: Any) -> Evaluation:
    def open_model(folder: Path) -> Any:
        if isinstance(models[folder.name], Exception):
            raise models[folder.name]
        return models[folder.name]

    return evaluate(order, open_model)


def test_both_models_are_measured_overall_and_for_each_value(tmp_path: Path) -> None:
    order = order_for(tmp_path, columns=("name",))
    order = EvaluationOrder(order.rows, order.source, order.columns, "candidate", "live")
    found = evaluate_with(order, candidate=FakeModel(), live=FakeModel(lambda scores: 1 - scores))
    labels, scores = np.array(LABELS), np.array(SCORES, np.float32)
    assert (found.problem, found.n_rows, found.columns) == ("", 6, {})
    assert found.candidate is not None
    assert found.candidate.overall == Measured(6, measure(labels, scores))
    assert found.live is not None
    assert found.live.overall == Measured(6, measure(labels, 1 - scores))
    values = found.candidate.slices["name"]
    assert {name: each.n_rows for name, each in values.items()} == {
        "a": 2, "b": 1, "(empty)": 1, "(missing)": 1, "c": 1,
    }  # fmt: skip
    assert values["a"] == Measured(2, measure(labels[[0, 4]], scores[[0, 4]]))
    assert values["b"].undefined == {"auc": "all 1 labels are 1; both 0 and 1 are needed"}


def test_model_gets_missing_values_as_in_golden_predictions(tmp_path: Path) -> None:
    model = FakeModel()
    evaluate_with(order_for(tmp_path), candidate=model)
    (batch,) = model.batches
    assert batch["name"].tolist() == ["a", "b", "", "", "a", "c"]
    assert (batch["x"].dtype, batch["x"].shape) == (np.float32, (6, 1))
    np.testing.assert_array_equal(batch["x"].reshape(-1), np.array(X, np.float32))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            IntegrityError("candidate does not load as a SavedModel: no graph"),
            "candidate does not load as a SavedModel",
        ),
        (RuntimeError("a kernel\nis missing"), "RuntimeError: a kernel"),
        (FakeModel(lambda scores: scores * np.nan), "the model gives 'p' that is not finite in 6 of 6 rows"),
        (FakeModel(lambda scores: scores[:2]), r"float32 of shape \[2\]; expected one number for each of 6 rows"),
        (FakeModel(lambda scores: scores.astype(str)), "expected one number for each of 6 rows"),
        (FakeModel(inputs=(Field("z", "float32"),)), "has no column 'z'; it has name, x, is_late"),
        (FakeModel(inputs=(Field("name", "float32"),)), "column 'name' holds string; expected numbers or booleans"),
        (FakeModel(inputs=(Field("x", "string"),)), "column 'x' holds double; the model takes texts"),
        (FakeModel(inputs=(Field("x", "int64"),)), "column 'x' has 6 values that are missing or no int64"),
        (FakeModel(inputs=(Field("x", "float32", (3,)),)), r"input 'x' takes \[3\] values for each row"),
    ],
)
def test_model_that_cannot_be_scored_is_a_sentence_and_hides_no_other(
    tmp_path: Path, model: Any, sentence: str
) -> None:
    order = order_for(tmp_path)
    order = EvaluationOrder(order.rows, order.source, (), "candidate", "live")
    for models in ({"candidate": model, "live": FakeModel()}, {"candidate": FakeModel(), "live": model}):
        found = evaluate_with(order, **models)
        sides = [found.candidate, found.live]
        assert [each is not None and each.overall is not None for each in sides].count(True) == 1
        (problem,) = (each.problem for each in sides if each and each.problem)
        assert re.search(sentence, problem), problem


def test_unknown_output_names_those_that_there_are(tmp_path: Path) -> None:
    found = evaluate_with(order_for(tmp_path, output="late"), candidate=FakeModel())
    assert found.candidate_problem == "the model has no output 'late'; it gives p, q"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"is_late": None}, "evaluation.parquet has no column 'is_late'; it has name, x"),
        ({"is_late": [True, None, None, False, True, True]}, "label 'is_late' is missing or not finite in 2 of 6 rows"),
        ({"is_late": [0.0, float("inf"), 0, 0, 0, 0]}, "label 'is_late' is missing or not finite in 1 of 6 rows"),
        ({"is_late": ["yes"] * 6}, "column 'is_late' holds string; expected numbers or booleans"),
        ({"name": [], "x": [], "is_late": pa.array([], pa.bool_())}, "evaluation.parquet has no rows"),
    ],
)
def test_rows_without_a_sound_label_are_a_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    found = evaluate_with(order_for(tmp_path, write_rows(tmp_path, **changes)), candidate=FakeModel())
    assert sentence in found.problem
    assert (found.candidate, found.candidate_problem, found.live_problem) == (None, found.problem, found.problem)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x,is_late\n1,2\n"])
def test_rows_that_are_no_parquet_are_a_sentence(tmp_path: Path, data: bytes) -> None:
    rows = tmp_path / "evaluation.parquet"
    rows.write_bytes(data)
    found = evaluate_with(order_for(tmp_path, rows), candidate=FakeModel())
    assert found.problem.startswith("evaluation.parquet cannot be read as Parquet: ")
    assert str(tmp_path) not in found.problem


def test_rows_in_a_folder_are_a_sentence(tmp_path: Path) -> None:
    rows = tmp_path / "evaluation.parquet"
    rows.mkdir()
    found = evaluate_with(order_for(tmp_path, rows), candidate=FakeModel())
    assert found.problem.startswith("evaluation.parquet cannot be read as Parquet: ")
    assert str(tmp_path) not in found.problem


def test_column_without_slices_says_why_and_hides_no_other(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, nested=[[1]] * 6)
    found = evaluate_with(order_for(tmp_path, rows, ("name", "nested", "gone")), candidate=FakeModel())
    assert found.candidate is not None
    assert set(found.candidate.slices) == {"name"}
    assert set(found.columns) == {"nested", "gone"}
    assert "slices need single values" in found.columns["nested"]
    assert "has no column 'gone'" in found.columns["gone"]


def test_more_than_a_thousand_values_are_no_slices(tmp_path: Path) -> None:
    def write(n: int) -> Path:
        pq.write_table(pa.table({"number": range(n)}), tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    assert len(read_slices(write(1000), "number").names) == 1000
    with pytest.raises(UsageError, match="'number' has more than 1,000 values: no column for slices"):
        read_slices(write(1001), "number")


def test_values_of_slices_have_names_of_their_own(tmp_path: Path) -> None:
    tricky = ["(missing)", "'(missing)'", None, "", "(empty)", "a\nb", "'a\\nb'", "a b"]
    pq.write_table(pa.table({"text": tricky, "flag": [True, False, None] + [True] * 5}), tmp_path / "rows.parquet")
    names = read_slices(tmp_path / "rows.parquet", "text").names
    assert len(set(names)) == len(tricky)
    assert names[2:4] == ("(missing)", "(empty)")
    assert all(name.isprintable() for name in names)
    assert read_slices(tmp_path / "rows.parquet", "flag").names == ("true", "false", "(missing)")


def test_not_a_number_is_a_missing_value_of_a_slice(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.5, float("nan"), None, 1.5]}), tmp_path / "rows.parquet")
    slices = read_slices(tmp_path / "rows.parquet", "x")
    assert {name: rows.tolist() for name, rows in slices.rows_by_name().items()} == {"1.5": [0, 3], "(missing)": [1, 2]}


@given(st.lists(st.sampled_from(["a", "b", None, ""]), min_size=1, max_size=40))
def test_each_row_is_in_one_slice_in_order(values: list[str | None]) -> None:
    names = tuple(dict.fromkeys(values))
    slices = Slices(names, np.array([names.index(value) for value in values], np.int32))  # type: ignore[arg-type]
    found = {name: rows.tolist() for name, rows in slices.rows_by_name().items()}
    assert found == {name: [row for row, value in enumerate(values) if value == name] for name in names}


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_read_the_same_in_each_layout(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["b", None, "", "b"]).cast(kind)}), tmp_path / "rows.parquet")
    (batch,) = read_inputs(tmp_path / "rows.parquet", [Field("text", "string")])
    assert batch["text"].tolist() == ["b", "", "", "b"]
    slices = read_slices(tmp_path / "rows.parquet", "text")
    assert (slices.names, slices.codes.tolist()) == (("b", "(missing)", "(empty)"), [0, 1, 2, 0])


def test_views_are_still_encoded_without_what_is_missing() -> None:
    """If this fails, pyarrow encodes views as it does texts: take the cast out of `kit.model.rows`."""
    views = pa.array([None, ""]).cast(pa.string_view())
    assert views.dictionary_encode(null_encoding="encode").to_pylist() != [None, ""]


def test_encoded_columns_read_as_plain_ones_over_several_batches(tmp_path: Path) -> None:
    texts = pa.array([f"v{n % 7}" for n in range(50_000)]).dictionary_encode()
    table = pa.table({"text": texts, "n": pa.array(range(50_000), pa.int32()), "label": [n % 2 for n in range(50_000)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=777)
    path = tmp_path / "rows.parquet"
    batches = list(read_inputs(path, [Field("text", "string"), Field("n", "float32")]))
    assert max(len(batch["n"]) for batch in batches) <= 16_384
    assert np.concatenate([batch["text"] for batch in batches]).tolist() == texts.to_pylist()
    assert np.array_equal(np.concatenate([batch["n"] for batch in batches]), np.arange(50_000, dtype=np.float32))
    assert [len(rows) for rows in read_slices(path, "text").rows_by_name().values()] == [7143] * 6 + [7142]
    assert read_label(path, "label").sum() == 25_000


def write_measure(folder: Path, body: str, name: str) -> str:
    (folder / "notebooks").mkdir()
    text = f"def rate(labels, scores):\n{textwrap.indent(body, '    ')}\n"
    (folder / "notebooks" / f"{name}.py").write_text(text)
    return f"{name}:rate"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what importing a project's measure changes in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


@pytest.mark.usefixtures("imports")
def test_own_measure_gets_labels_and_scores_as_they_are(tmp_path: Path) -> None:
    body = "return {'n': len(labels), 'kind': ord(labels.dtype.kind), 'size': scores.itemsize, 'odd': float('nan')}"
    order = order_for(tmp_path, columns=("name",), measure=write_measure(tmp_path, body, "own_measure"))
    found = evaluate_with(order, candidate=FakeModel())
    assert found.candidate is not None
    expected = Measured(6, {"n": 6, "kind": ord("b"), "size": 4}, {"odd": "is no finite number: nan"})
    assert found.candidate.overall == expected
    assert expected.explain_missing("odd") == "is no finite number: nan"
    assert expected.explain_missing("auc") == "the measure gives no 'auc'; it gives kind, n, size"
    assert found.candidate.slices["name"]["a"].metrics["n"] == 2


@pytest.mark.usefixtures("imports")
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise ValueError('only one class')", "ValueError: only one class"),
        ("return 0.7", "gives float, expected a mapping from names to numbers"),
        ("return {'auc': 'good'}", "ValueError: could not convert string to float"),
    ],
)
def test_own_measure_that_fails_is_a_sentence(tmp_path: Path, body: str, sentence: str) -> None:
    found = evaluate_with(
        order_for(tmp_path, measure=write_measure(tmp_path, body, "bad_measure")), candidate=FakeModel()
    )
    assert found.candidate is not None
    assert found.candidate.overall is not None
    assert (found.candidate.overall.n_rows, found.candidate.overall.metrics) == (6, {})
    assert sentence in found.candidate.overall.explain_missing("auc")


@pytest.mark.usefixtures("imports")
@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("gone:rate", "cannot be imported from notebooks/: ModuleNotFoundError"),
        ("some_measure:gone", "cannot be imported from notebooks/: AttributeError"),
        ("some_measure", "cannot be imported from notebooks/: AttributeError"),
        (":rate", "cannot be imported from notebooks/: ValueError"),
        ("json:loads", "'json' is no module in notebooks/ of the bundle"),
        ("math:dist", "'math' is no module in notebooks/ of the bundle"),
    ],
)
def test_own_measure_that_is_not_in_the_bundle_is_a_sentence(tmp_path: Path, named: str, sentence: str) -> None:
    write_measure(tmp_path, "return {}", "some_measure")
    found = evaluate_with(order_for(tmp_path, measure=named), candidate=FakeModel())
    assert f"measure {named!r}" in found.problem
    assert sentence in found.problem


def test_result_without_scores_is_a_problem() -> None:
    both = Scored("", Measured(1))
    assert Evaluation().candidate_problem == "it was not scored"
    assert Evaluation(candidate=Scored()).candidate_problem == "it was not scored"
    assert Evaluation(candidate=both).live_problem == "it was not scored"
    assert Evaluation(candidate=both, live=both).live_problem == ""


def test_importing_the_adapter_imports_nothing_heavy() -> None:
    heavy = "('tensorflow', 'numpy', 'pyarrow', 'pandas')"
    code = f"import sys, kit.model.evaluate; sys.exit(sum(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Two SavedModels whose tables have the same names and other contents, and one that is none.
TRAINING = """
import sys
from pathlib import Path
import tensorflow as tf
from kit.model import save_saved_model
def save(folder, keys, values):
    module = tf.Module()
    rows = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.float32))
    module.table = tf.lookup.StaticHashTable(rows, 0.5)
    module.score = tf.function(lambda name, x: {"p": module.table.lookup(name) + 0.0 * x[:, 0]}).get_concrete_function(
        tf.TensorSpec([None], tf.string, "name"), tf.TensorSpec([None, 1], tf.float32, "x"))
    save_saved_model(module, Path(folder), {"serving_default": module.score})
save(sys.argv[1], ["a", "b"], [0.1, 0.9])
save(sys.argv[2], ["a", "c"], [0.8, 0.7])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-c", TRAINING, str(folder / "candidate"), str(folder / "live")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.kernel
def test_two_models_in_a_fresh_process_keep_their_own_tables_and_see_no_key(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_SIGNING_KEY", "secret")
    body = "import os\nreturn {'sum': scores.sum(), 'keys': 'KIT_SIGNING_KEY' in os.environ}"
    name = write_measure(tmp_path, body, "sums")
    order = order_for(tmp_path, write_rows(tmp_path, x=[1.0] * 6), ("name",), measure=name)
    models = str(trained / "candidate"), str(trained / "live")
    found = evaluate_in_process(EvaluationOrder(order.rows, order.source, ("name",), *models, order.notebooks))
    assert found.problem == ""
    assert found.candidate is not None
    assert found.live is not None
    sums = [
        each.overall and {name: round(value, 4) for name, value in each.overall.metrics.items()}
        for each in (found.candidate, found.live)
    ]
    assert sums == [{"sum": 0.1 + 0.9 + 0.5 + 0.5 + 0.1 + 0.5, "keys": 0}, {"sum": 0.8 * 2 + 0.7 + 0.5 * 3, "keys": 0}]
    assert {name: round(each.metrics["sum"], 4) for name, each in found.live.slices["name"].items()} == {
        "a": 1.6, "b": 0.5, "(empty)": 0.5, "(missing)": 0.5, "c": 0.7,
    }  # fmt: skip


@pytest.mark.kernel
def test_model_that_does_not_load_is_a_sentence_without_a_path(trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / "saved_model"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    order = order_for(tmp_path, write_rows(tmp_path, x=[1.0] * 6))
    found = evaluate_in_process(EvaluationOrder(order.rows, order.source, (), str(trained / "candidate"), str(broken)))
    assert found.candidate_problem == ""
    assert found.live_problem.startswith("saved_model does not load as a SavedModel: ")
    assert str(tmp_path) not in found.live_problem


def test_process_that_takes_too_long_or_dies_is_a_sentence(tmp_path: Path) -> None:
    assert (
        evaluate_in_process(order_for(tmp_path), timeout_s=0.01).problem
        == "the evaluating process gave no answer in 0.01 s"
    )
    body = "import os\nos._exit(3)"
    name = write_measure(tmp_path, "pass\n" + body, "deadly")
    (tmp_path / "notebooks" / "deadly.py").write_text("print('last words', flush=True)\n" + textwrap.dedent(body))
    found = evaluate_in_process(order_for(tmp_path, measure=name))
    assert found == Evaluation("the evaluating process ended with 3 and no answer: last words")
