"""encoding.json: what it may say, and that its encoder does exactly that, row by row."""

import json
import math
import re
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import IntegrityError, NewerFormatError, UsageError
from kit.files import canonical_json
from kit.model import Encoding, flag_missing, one_hot, read_encoding, standardise, write_encoding
from kit.model.encoder import Encoder
from kit.model.encoding import Missing, OneHot, RawField, Standardised
from kit.model.servable import Field, Signature

PARTS = (
    one_hot("carrier", ["AA", "UA"]),
    standardise(["distance", "seats"], [100.0, 50.0], [4.0, 0.0], clip=5.0),
    flag_missing(["distance", "seats"]),
)
FIELDS = (RawField("carrier", "text"), RawField("distance", "number"), RawField("seats", "number"))
ENCODING = Encoding(FIELDS, PARTS, "p")
ROWS = {
    "carrier": np.array(["UA", "", "ÄÖ"], object),
    "distance": np.array([101.0, math.nan, 1e9]),
    "seats": np.array([50.0, 51.0, math.nan], np.float32),
}
ENCODED = [
    [0, 0, 1, 0.5, 0, 0, 0],
    [1, 0, 0, 0, 5, 1, 0],
    [1, 0, 0, 5, 0, 0, 1],
]


def encode(*parts, **columns):
    fields = tuple(dict.fromkeys(field for part in parts for field in part.takes))
    return Encoder(Encoding(fields, parts, "p")).encode({name: np.array(values) for name, values in columns.items()})


def test_encoding_is_read_as_written_and_its_fields_are_those_of_its_parts(tmp_path):
    written = write_encoding(tmp_path / "encoding.json", PARTS, output="p")
    assert written == read_encoding(tmp_path / "encoding.json") == ENCODING
    data = (tmp_path / "encoding.json").read_bytes()
    assert data == canonical_json(json.loads(data))
    assert json.loads(data)["parts"][0] == {"kind": "one_hot", "field": "carrier", "vocabulary": ["AA", "UA"]}


def test_signature_is_the_raw_fields_and_one_number():
    inputs = (Field("carrier", "string"), Field("distance", "float32"), Field("seats", "float32"))
    assert ENCODING.signature == Signature(inputs, (Field("p", "float32"),))
    assert ENCODING.width == 7


def test_builders_take_what_numpy_and_keras_give():
    words = one_hot("c", np.array(["a", "b"]))
    numbers = standardise(
        ["x", "y"], np.array([[1, 2]], np.float32), np.array([[0.1], [3]], np.float32), clip=np.int64(4)
    )
    assert words == OneHot("c", ("a", "b"))
    assert numbers == Standardised(("x", "y"), (1.0, 2.0), (float(np.float32(0.1)), 3.0), 4.0)
    assert {type(each) for each in (*words.vocabulary, *numbers.mean, numbers.clip)} == {str, float}


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "needs parts"),
        ([one_hot("c", [])], "part 1: vocabulary of 'c': expected at least one text"),
        ([one_hot("c", ["a", "a"])], "none twice"),
        ([standardise([], [], [])], "expected at least one field"),
        ([flag_missing(["x", "x"])], "none twice"),
        ([flag_missing([""])], "number field '' does not exist"),
        ([standardise(["x"], [0, 1], [1])], "found {'fields': 1, 'mean': 2, 'variance': 1}"),
        ([standardise(["x"], [math.nan], [1])], "finite in float32"),
        ([standardise(["x"], [0], [1e39])], "finite in float32"),
        ([standardise(["x"], [0], [-1])], "variances of at least 0, found -1"),
        ([standardise(["x"], [0], [1], clip=0)], "positive finite clip, found 0"),
        ([standardise(["x"], [0], [1], epsilon=0)], "epsilon that is positive"),
        ([one_hot("c", ["\ud800"])], "no Unicode text"),
        ([one_hot("c", ["a"]), flag_missing(["c"])], "field 'c' is there twice, perhaps as text and as number"),
    ],
)
def test_parts_that_make_no_encoding_are_refused_with_the_reason(tmp_path, parts, problem):
    with pytest.raises(UsageError, match=re.escape(problem)):
        write_encoding(tmp_path / "encoding.json", parts, output="p")
    assert not (tmp_path / "encoding.json").exists()


def test_vocabulary_of_other_than_texts_is_refused():
    with pytest.raises(UsageError, match=r"vocabulary of 'c': expected texts, found 1 \(int\)"):
        one_hot("c", [1, 2])


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"format": 2}, NewerFormatError, "format 2 is newer than this kit reads"),
        ({"format": 0}, IntegrityError, "no encoding format 0"),
        ({"output": ""}, IntegrityError, "name of its output"),
        ({"outputs": ["p"]}, IntegrityError, "unknown field `outputs`"),
        ({"parts": [{"kind": "hash", "field": "x"}]}, IntegrityError, "'hash'"),
        ({"parts": [{"kind": "missing", "fields": ["x"], "clip": 1}]}, IntegrityError, "unknown field `clip`"),
        ({"fields": [{"name": "carrier", "dtype": "int"}]}, IntegrityError, "'int'"),
        ({"fields": [{"name": "carrier", "dtype": "text"}]}, IntegrityError, "number field 'distance' does not exist"),
        ({"parts": [{"kind": "missing", "fields": ["seat"]}]}, IntegrityError, "did you mean 'seats'"),
        ({"parts": [{"kind": "missing", "fields": ["seats"]}]}, IntegrityError, "field 'carrier' is in no part"),
    ],
)
def test_file_that_is_no_encoding_is_refused_with_the_reason(tmp_path, change, error, problem):
    plain = msgspec.to_builtins(ENCODING) | change
    (tmp_path / "encoding.json").write_text(json.dumps(plain))
    with pytest.raises(error, match=problem):
        read_encoding(tmp_path / "encoding.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"format":"1"}'])
def test_bytes_that_are_no_encoding_are_refused(tmp_path, data):
    (tmp_path / "encoding.json").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"encoding\.json"):
        read_encoding(tmp_path / "encoding.json")
    with pytest.raises(IntegrityError, match=r"absent\.json"):
        read_encoding(tmp_path / "absent.json")


def test_rows_are_encoded_as_declared():
    encoded = Encoder(ENCODING).encode(ROWS)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == ENCODED


def test_texts_count_alike_as_str_and_as_bytes():
    part = one_hot("c", ["ä", "b"])
    for texts in (["ä", "?", "b"], ["ä".encode(), b"?", b"b"], np.array(["ä", b"?", b"b"], object)):
        assert encode(part, c=texts).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_no_rows_give_no_rows():
    assert Encoder(ENCODING).encode({name: values[:0] for name, values in ROWS.items()}).shape == (0, 7)


def test_fields_that_stand_apart_are_encoded_as_those_that_stand_together():
    parts = (
        standardise(["a", "b", "c"], [1, 2, 3], [4, 5, 6]),
        standardise(["c", "a"], [3, 1], [6, 4]),
        flag_missing(["a", "c"]),
    )
    encoded = encode(*parts, a=[1.5, math.nan], b=[0.0, 1.0], c=[-7.0, 2.0])
    assert np.array_equal(encoded[:, [3, 4]], encoded[:, [2, 0]])
    assert encoded[:, [5, 6]].tolist() == [[0, 0], [1, 0]]


def test_numbers_beyond_float32_are_cut_and_without_a_clip_infinite():
    assert encode(standardise(["x"], [0], [1], clip=5), x=[1e300, -math.inf]).tolist() == [[5], [-5]]
    assert encode(standardise(["x"], [-3e38], [1]), x=[3e38]).tolist() == [[math.inf]]


NUMBER = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
WORD = st.sampled_from(["AA", "UA", "", "?"])


@given(st.lists(st.tuples(WORD, NUMBER, NUMBER), min_size=1, max_size=20))
def test_encoder_does_for_many_rows_what_the_format_says_for_each(rows):
    columns = {
        "carrier": np.array([row[0] for row in rows], object),
        "distance": np.array([row[1] for row in rows], float),
        "seats": np.array([row[2] for row in rows], float),
    }
    assert Encoder(ENCODING).encode(columns).tolist() == [
        encode_plainly(dict(zip(columns, row, strict=True))) for row in rows
    ]


def encode_plainly(row):
    """The format's own words, part after part, one number at a time."""
    numbers = []
    for part in PARTS:
        if isinstance(part, OneHot):
            place = part.vocabulary.index(row[part.field]) + 1 if row[part.field] in part.vocabulary else 0
            numbers += [float(index == place) for index in range(part.width)]
        elif isinstance(part, Missing):
            numbers += [float(row[name] is None) for name in part.fields]
        else:
            for name, mean, variance in zip(part.fields, part.mean, part.variance, strict=True):
                deviation = max(np.sqrt(np.float32(variance)), np.float32(part.epsilon))
                value = 0.0 if row[name] is None else (np.float32(row[name]) - np.float32(mean)) / deviation
                numbers.append(float(np.clip(value, -part.clip, part.clip)))
    return numbers


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seats": None}, "field 'seats' is missing; found carrier, distance"),
        ({"seats": [1.0, 2.0]}, "field 'seats' has shape [2], expected [3]"),
        ({"carrier": [["UA"]] * 3}, "field 'carrier' has shape [3, 1], expected [3]"),
        ({"carrier": "UA"}, "field 'carrier' has shape [], expected [n]"),
        ({"carrier": [1, 2, 3]}, "field 'carrier' must be a text, found type int64"),
        ({"distance": ["1", "2", "3"]}, "field 'distance' must be a number, found type <U1"),
        ({"distance": np.array([1, None, 2], object)}, "field 'distance' must be a number, found type object"),
        ({"carrier": np.array(["UA", None, "UA"], object)}, "field 'carrier' must be a text, found NoneType in row 1"),
        ({"carrier": np.array(["UA", "UA", 3], object)}, "field 'carrier' must be a text, found int in row 2"),
        (
            {"carrier": np.array([["a"], "b", "c", None], object)[:3]},
            "field 'carrier' must be a text, found list in row 0",
        ),
    ],
)
def test_columns_of_another_kind_are_refused_by_name(change, problem):
    columns = {**ROWS, **change}
    with pytest.raises(UsageError, match=re.escape(problem)):
        Encoder(ENCODING).encode({name: values for name, values in columns.items() if values is not None})


def test_encoding_on_the_page_about_litert_is_read(tmp_path):
    page = (Path(__file__).parents[1] / "docs/litert.md").read_text(encoding="utf-8")
    block = next(each for each in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE) if '"parts"' in each)
    (tmp_path / "encoding.json").write_text(textwrap.dedent(block))
    encoding = read_encoding(tmp_path / "encoding.json")
    assert {type(part) for part in encoding.parts} == {OneHot, Standardised, Missing}
    assert f"{encoding.width} numbers" in page
