"""Rows of a signature from JSON values: what is taken, what is refused, and that no sentence has a value in it."""

import base64
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import FLIGHTS, RECORD

from kit.errors import IntegrityError
from kit.model.servable import Field, Signature
from kit.server.answer import RequestError
from kit.server.tensors import Layout, join, require_types, split

LAYOUT = Layout(FLIGHTS.inputs)
SHAPED = Layout([Field("x", "float32", (2, 2)), Field("words", "string", (None,)), Field("n", "uint8")])
SECRET = "secret-value-4711"


def columns_of(records: list[dict]) -> dict[str, list]:
    return {name: [record[name] for record in records] for name in records[0]}


def plain(layout: Layout, rows) -> dict[str, list]:
    return {name: array.tolist() for name, array in layout.columns(rows).items()}


def refusal(act, *arguments) -> str:
    with pytest.raises(RequestError) as refused:
        act(*arguments)
    assert refused.value.status == 400
    assert SECRET not in refused.value.sentence
    return refused.value.sentence


def test_records_and_columns_give_the_same_rows_of_the_fields_types():
    records = [RECORD, {"carrier": "ü", "distance": 1, "hour": -3, "is_night": True}]
    rows = LAYOUT.from_records(records)
    assert plain(LAYOUT, rows) == columns_of(records) == plain(LAYOUT, LAYOUT.from_columns(columns_of(records)))
    assert {name: array.dtype.name for name, array in LAYOUT.columns(rows).items()} == {
        "carrier": "object",
        "distance": "float32",
        "hour": "int64",
        "is_night": "bool",
    }


def test_fields_of_one_type_are_one_block():
    layout = Layout([Field("a", "float32"), Field("b", "string"), Field("c", "float32"), Field("d", "float32", (3,))])
    assert sorted(block.names for block in layout.blocks) == [("a", "c"), ("b",), ("d",)]


def test_missing_number_is_nan_missing_text_is_empty_and_base64_is_bytes():
    encoded = base64.b64encode(b"\xff\x00").decode()
    rows = LAYOUT.from_columns(
        {"carrier": [None, {"b64": encoded}], "distance": [None, math.inf], "hour": [1, 2], "is_night": [True, False]}
    )
    columns = LAYOUT.columns(rows)
    assert columns["carrier"].tolist() == ["", b"\xff\x00"]
    assert math.isnan(columns["distance"][0])
    assert columns["distance"][1] == math.inf


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"distance": "12"}, "column 'distance', row 2: expected a number (float32), found a text"),
        ({"distance": True}, "column 'distance', row 2: expected a number (float32), found a boolean"),
        ({"distance": [1.0]}, "column 'distance', row 2: expected a number (float32), found a list"),
        ({"distance": 1e39}, "column 'distance', row 2: out of the range of float32"),
        ({"distance": 10**400}, "column 'distance', row 2: out of the range of float32"),
        ({"hour": 3.0}, "column 'hour', row 2: expected an integer (int64), found a number"),
        ({"hour": None}, "column 'hour', row 2: expected an integer (int64), found null"),
        ({"hour": False}, "column 'hour', row 2: expected an integer (int64), found a boolean"),
        ({"hour": 2**63}, "column 'hour', row 2: out of the range of int64"),
        ({"is_night": 1}, "column 'is_night', row 2: expected a boolean (bool), found an integer"),
        ({"carrier": 1}, "column 'carrier', row 2: expected a text (string), found an integer"),
        ({"carrier": {"b64": SECRET}}, "column 'carrier', row 2: 'b64' holds no base64"),
        ({"carrier": {"b64": 7}}, "column 'carrier', row 2: 'b64' holds no base64"),
        ({"carrier": {"text": SECRET}}, "column 'carrier', row 2: expected a text (string), found an object"),
    ],
)
def test_value_of_another_kind_is_refused_with_column_and_row(change, sentence):
    records = [RECORD, {**RECORD, "carrier": SECRET, **change}]
    assert refusal(LAYOUT.from_records, records) == sentence
    assert refusal(LAYOUT.from_columns, columns_of(records)) == sentence


def test_missing_and_unknown_columns_are_named():
    takes = "the model takes 'carrier', 'distance', 'hour', 'is_night'"
    less = {name: value for name, value in RECORD.items() if name != "hour"}
    assert refusal(LAYOUT.from_records, [RECORD, less]) == f"row 2: missing column 'hour'; {takes}"
    assert refusal(LAYOUT.from_columns, columns_of([less])) == f"missing column 'hour'; {takes}"
    more = {**RECORD, "x" * 300: 1}
    assert refusal(LAYOUT.from_records, [more]) == f"row 1: unknown column '{'x' * 100}…'; {takes}"
    renamed = {**less, "huor": 1}
    assert refusal(LAYOUT.from_records, [renamed]) == f"row 1: missing column 'hour'; {takes}"


def test_columns_of_different_length_no_rows_and_no_objects_are_refused():
    uneven = {"carrier": ["a"], "distance": [1.0, 2.0], "hour": [1], "is_night": [True]}
    assert refusal(LAYOUT.from_columns, uneven) == "columns have different numbers of rows: 'carrier' 1, 'distance' 2"
    assert refusal(LAYOUT.from_records, []) == "there are no rows; expected at least one"
    empty = {name: [] for name in RECORD}
    assert refusal(LAYOUT.from_columns, empty) == "there are no rows; expected at least one"
    assert refusal(LAYOUT.from_records, [[SECRET]]) == "row 1: expected an object with 4 columns, found a list"
    assert refusal(LAYOUT.from_columns, {**columns_of([RECORD]), "hour": 7}) == (
        "column 'hour': expected a list of values, found an integer"
    )


def test_field_of_several_values_keeps_its_shape():
    records = [{"x": [[1, 2], [3, None]], "words": ["a", None], "n": 255}]
    columns = SHAPED.columns(SHAPED.from_records(records))
    assert {name: array.shape for name, array in columns.items()} == {"n": (1,), "x": (1, 2, 2), "words": (1, 2)}
    assert columns["words"].tolist() == [["a", ""]]
    assert math.isnan(columns["x"][0, 1, 1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": [1, 2]}, "column 'x', row 2, dimension 2: expected 2 values (shape [2, 2] a row), found an integer"),
        ({"x": [[1, 2]]}, "column 'x', row 2, dimension 1: expected 2 values (shape [2, 2] a row), found 1 values"),
        ({"x": [[1, 2], [3, "4"]]}, "column 'x', row 2: expected a number (float32), found a text"),
        ({"x": [[1, 2], [3, 1e39]]}, "column 'x': a number is out of the range of float32"),
        ({"words": []}, "column 'words', row 2, dimension 1: expected 1 values (shape [any] a row), found 0 values"),
        ({"n": 256}, "column 'n', row 2: out of the range of uint8"),
        ({"n": -1}, "column 'n', row 2: out of the range of uint8"),
    ],
)
def test_other_shape_is_refused_with_the_dimension(change, sentence):
    record = {"x": [[1, 2], [3, 4]], "words": ["a"], "n": 1}
    assert refusal(SHAPED.from_records, [record, {**record, **change}]) == sentence


def test_arrays_and_lists_go_together():
    columns = {**columns_of([RECORD, RECORD]), "distance": np.array([1.5, 2.5], np.float32)}
    two = Layout([Field("a", "float32"), Field("b", "float32")])
    assert plain(LAYOUT, LAYOUT.from_columns(columns))["distance"] == [1.5, 2.5]
    mixed = two.from_columns({"a": np.array([1.5], np.float32), "b": [2]})
    assert plain(two, mixed) == {"a": [1.5], "b": [2.0]}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 4))
def test_joining_and_splitting_lose_no_row_and_no_order(lengths, size):
    numbers = iter(range(100))
    parts = [LAYOUT.from_records([{**RECORD, "hour": next(numbers)} for _ in range(length)]) for length in lengths]
    whole = join(parts)
    assert (whole.n_rows, plain(LAYOUT, whole)["hour"]) == (sum(lengths), list(range(sum(lengths))))
    pieces = split(whole, size)
    assert max(piece.n_rows for piece in pieces) <= size
    assert plain(LAYOUT, join(pieces)) == plain(LAYOUT, whole)


def test_type_that_no_client_can_send_or_read_is_refused_at_once():
    x, odd = (Field("x", "float32"),), (Field("x", "complex64"),)
    require_types(Signature(x, x))
    for inputs, outputs, sentence in (
        (odd, x, "input 'x' is complex64; served are float16"),
        (x, odd, "output 'x' is complex64; served are float16"),
        ((), x, "the model's signature has no inputs"),
        (x, (), "the model's signature has no outputs"),
    ):
        with pytest.raises(IntegrityError, match=sentence):
            require_types(Signature(inputs, outputs))
