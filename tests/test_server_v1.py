"""TF Serving's REST API: bodies of requests and answers, as its documentation has them."""

import json
import math

import numpy as np
import pytest
from servers import FLIGHTS, RECORD

from kit.model.servable import Field, Signature
from kit.server import v1
from kit.server.answer import RequestError
from kit.server.jsons import decode_json, encode_json
from kit.server.tensors import Layout

LAYOUT = Layout(FLIGHTS.inputs)
ONE = Layout([Field("x", "float32")])
IMAGE = Layout([Field("image", "string")])


def read(body: object, layout: Layout = LAYOUT) -> tuple[dict[str, list], bool]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    rows, by_column = v1.read_predict(data, layout, "serving_default")
    return {name: array.tolist() for name, array in layout.columns(rows).items()}, by_column


def refusal(body: object, layout: Layout = LAYOUT) -> str:
    with pytest.raises(RequestError) as refused:
        read(body, layout)
    assert refused.value.status == 400
    return refused.value.sentence


def test_rows_and_columns_are_read_with_or_without_the_signatures_name():
    columns = {name: [value] for name, value in RECORD.items()}
    assert read({"instances": [RECORD]}) == (columns, False)
    assert read({"signature_name": "serving_default", "inputs": columns}) == (columns, True)
    assert read({"signature_name": "", "instances": [RECORD]}) == (columns, False)


def test_a_single_input_need_not_be_named():
    assert read({"instances": [1.5, 2]}, ONE) == ({"x": [1.5, 2.0]}, False)
    assert read({"instances": [{"x": 1.5}]}, ONE) == ({"x": [1.5]}, False)
    assert read({"inputs": [1.5]}, ONE) == ({"x": [1.5]}, True)
    assert read({"instances": [{"b64": "AQI="}]}, IMAGE) == ({"image": [b"\x01\x02"]}, False)


def test_tokens_that_are_not_finite_are_numbers():
    columns, _ = read(b'{"instances": [NaN, Infinity, -Infinity, null]}', ONE)
    assert [str(value) for value in columns["x"]] == ["nan", "inf", "-inf", "nan"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not readable as JSON: Input data was truncated"),
        (b"\xff", "the body is not readable as JSON: JSON is malformed"),
        (b'{"instances": [NaN}', "the body is not readable as JSON: Expecting ',' delimiter"),
        (b'{"instances": [NaN, 1e999]}', "the body is not readable as JSON: Number out of range"),
        (b'{"instances": [1e999]}', "the body is not readable as JSON: Number out of range"),
        (b'{"instances": [NaN, "\\ud800"]}', "the body is not readable as JSON: 'utf-8' codec can't encode character"),
        (b"[" * 100_000, "the body is not readable as JSON: nested too deep"),
        (b"NaN" + b"[" * 100_000, "the body is not readable as JSON: Extra data"),
        ([], "expected a JSON object as the body"),
        ({}, "expected either 'instances' (rows) or 'inputs' (columns) in the body"),
        ({"instances": [], "inputs": {}}, "expected either 'instances' (rows) or 'inputs' (columns) in the body"),
        ({"instances": {}}, "'instances' must be a list of rows"),
        ({"inputs": [1.0]}, "'inputs' must name the columns: the model takes 4 of them"),
        ({"rows": []}, "unknown key 'rows' in the body; there is inputs, instances, signature_name"),
        (
            {"signature_name": "other", "instances": []},
            "signature 'other' is not served; 'signature_name' can be 'serving_default'",
        ),
        (
            {"signature_name": 7, "instances": []},
            "signature '7' is not served; 'signature_name' can be 'serving_default'",
        ),
    ],
)
def test_what_is_no_predict_request_is_refused(body, sentence):
    assert refusal(body).startswith(sentence)


def test_answers_have_tf_servings_shapes():
    one = {"p": np.array([0.5, 0.25], np.float32)}
    two = {**one, "label": np.array([b"a", "ü".encode()], object)}
    assert json.loads(v1.write_predict(one, by_column=False)) == {"predictions": [0.5, 0.25]}
    assert json.loads(v1.write_predict(one, by_column=True)) == {"outputs": [0.5, 0.25]}
    assert json.loads(v1.write_predict(two, by_column=False)) == {
        "predictions": [{"p": 0.5, "label": "a"}, {"p": 0.25, "label": "ü"}]
    }
    assert json.loads(v1.write_predict(two, by_column=True)) == {"outputs": {"p": [0.5, 0.25], "label": ["a", "ü"]}}


def test_bytes_are_base64_where_the_name_or_the_bytes_say_so():
    outputs = {"image_bytes": np.array([[b"a"]], object), "raw": np.array([b"\xff"], object)}
    assert json.loads(v1.write_predict(outputs, by_column=True)) == {
        "outputs": {"image_bytes": [[{"b64": "YQ=="}]], "raw": [{"b64": "/w=="}]}
    }


def test_numbers_that_are_not_finite_are_written_as_tf_serving_does():
    assert encode_json([math.nan, math.inf, -math.inf, 1.5]) == b"[NaN,Infinity,-Infinity,1.5]"
    assert encode_json(["null", "ü"]) == '["null","ü"]'.encode()
    assert math.isnan(decode_json(encode_json(math.nan)))


def test_examples_share_a_context_and_may_wrap_values_in_lists():
    context = {name: value for name, value in RECORD.items() if name != "hour"}
    body = json.dumps({"context": context, "examples": [{"hour": 1}, {"hour": [2], "carrier": ["UA"]}]}).encode()
    columns = LAYOUT.columns(v1.read_examples(body, LAYOUT, "serving_default"))
    assert (columns["hour"].tolist(), columns["carrier"].tolist()) == ([1, 2], ["AA", "UA"])
    for wrong in ({}, {"examples": {}}, {"examples": [], "context": []}, {"examples": [1]}, {"examples": []}):
        with pytest.raises(RequestError):
            v1.read_examples(json.dumps(wrong).encode(), LAYOUT, "serving_default")


def test_classify_has_empty_labels_and_regress_bare_values():
    scores = np.array([0.5, 0.25], np.float32)
    assert json.loads(v1.write_classes(scores)) == {"results": [[["", 0.5]], [["", 0.25]]]}
    assert json.loads(v1.write_classes(np.array([[0.5, 0.25]]))) == {"results": [[["", 0.5], ["", 0.25]]]}
    assert json.loads(v1.write_values(scores.reshape(2, 1))) == {"results": [0.5, 0.25]}


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ((Field("a", "float32"), Field("b", "float32")), "a (float32, [n]), b (float32, [n])"),
        ((Field("a", "string"),), "a (string, [n])"),
        ((Field("a", "float32", (2, 2)),), "a (float32, [n, 2, 2])"),
    ],
)
def test_model_without_a_single_score_is_neither_classified_nor_regressed(outputs, found):
    for find, method in ((v1.find_scores, ":classify"), (v1.find_value, ":regress")):
        with pytest.raises(RequestError) as refused:
            find(Signature((), outputs))
        assert refused.value.sentence == (
            f"{method} needs a single output of scores; the model gives {found}: use :predict"
        )
    several = Signature((), (Field("a", "float32", (3,)),))
    assert v1.find_scores(several).name == "a"
    with pytest.raises(RequestError):
        v1.find_value(several)


def test_status_answers_in_tf_servings_and_in_kserves_form():
    assert json.loads(v1.describe_status("flights", "4", ready=True)) == {
        "model_version_status": [
            {"version": "4", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ],
        "name": "flights",
        "ready": True,
    }
    assert (
        json.loads(v1.describe_status("flights", "4", ready=False))["model_version_status"][0]["state"] == "UNLOADING"
    )


def test_metadata_is_a_signature_def():
    signature = Signature((Field("name", "string"), Field("x", "int8", (2, None))), (Field("p", "float32"),))
    found = json.loads(v1.describe_metadata("m", "4", signature, "serving_default"))
    assert found["model_spec"] == {"name": "m", "signature_name": "", "version": "4"}
    definition = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["x"] == {
        "dtype": "DT_INT8",
        "tensor_shape": {"dim": [{"size": size, "name": ""} for size in ("-1", "2", "-1")], "unknown_rank": False},
        "name": "x:0",
    }
    assert (definition["inputs"]["name"]["dtype"], definition["outputs"]["p"]["dtype"]) == ("DT_STRING", "DT_FLOAT")
