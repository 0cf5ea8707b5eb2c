"""Open Inference Protocol v2: JSON and binary tensors, and what is refused."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import FLIGHTS, RECORD

from kit.model.servable import Field, Signature
from kit.server import v2
from kit.server.answer import Request, RequestError
from kit.server.binary import decode_tensor, encode_tensor
from kit.server.tensors import Layout

LAYOUT = Layout(FLIGHTS.inputs)
DATATYPES = {"carrier": "BYTES", "distance": "FP32", "hour": "INT64", "is_night": "BOOL"}


def tensor(name: str, *values: object, **changes: object) -> dict:
    return {"name": name, "shape": [len(values)], "datatype": DATATYPES[name], "data": list(values), **changes}


def tensors(**changes: dict) -> list[dict]:
    return [{**tensor(name, value), **changes.get(name, {})} for name, value in RECORD.items()]


def read(body: dict, tail: bytes = b"", signature: Signature = FLIGHTS, size: int | None = None) -> v2.Inference:
    head = json.dumps(body).encode()
    request = Request(head + tail, len(head) if tail and size is None else size)
    return v2.read_inference(request, Layout(signature.inputs), signature)


def columns(inference: v2.Inference, layout: Layout = LAYOUT) -> dict[str, list]:
    return {name: array.tolist() for name, array in layout.columns(inference.rows).items()}


def refusal(body: dict, tail: bytes = b"", size: int | None = None) -> str:
    with pytest.raises(RequestError) as refused:
        read(body, tail, size=size)
    assert refused.value.status == 400
    return refused.value.sentence


def test_json_tensors_become_rows():
    inference = read({"id": "42", "inputs": tensors()})
    assert columns(inference) == {name: [value] for name, value in RECORD.items()}
    assert (inference.id, inference.outputs) == ("42", {"p_late": False})


@pytest.mark.parametrize(("shape", "data"), [([2, 1], [1, 2]), ([2, 1], [[1], [2]]), ([2], [1, 2])])
def test_one_value_a_row_may_come_as_n_or_n_by_1_flat_or_nested(shape, data):
    both = [tensor(name, value, value) for name, value in RECORD.items() if name != "hour"]
    found = read({"inputs": [*both, tensor("hour", shape=shape, data=data)]})
    assert columns(found)["hour"] == [1, 2]


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_several_values_a_row_may_come_flat_or_nested(data):
    signature = Signature((Field("x", "float64", (3,)),), FLIGHTS.outputs)
    inference = read(
        {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP64", "data": data}]}, signature=signature
    )
    assert columns(inference, Layout(signature.inputs)) == {"x": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"datatype": "FP64"}, "input 'distance': expected datatype FP32, found 'FP64'"),
        ({"shape": [2]}, "input 'distance': its shape has 2 values, its data 1"),
        ({"shape": [1, 2]}, "input 'distance': expected shape [n], found [1, 2]"),
        ({"shape": []}, "input 'distance': expected shape [n], found []"),
        ({"shape": [-1]}, "input 'distance': expected shape [n], found [-1]"),
        ({"shape": [1, 1], "data": [[1, 2]]}, "input 'distance': its data is not nested as its shape [1, 1] says"),
        ({"data": [True]}, "column 'distance', row 1: expected a number (float32), found a boolean"),
        ({"data": 7}, "input 'distance': expected 'data', a list, or the parameter 'binary_data_size'"),
        ({"shape": [0], "data": []}, "columns have different numbers of rows: 'distance' 0, 'carrier' 1"),
        (
            {"shape": ["1"]},
            "the body is no inference request: Expected `int`, got `str` - at `$.inputs[1].shape[0]`",
        ),
        ({"name": "speed"}, "missing column 'distance'; the model takes 'carrier', 'distance', 'hour', 'is_night'"),
        ({"name": "hour"}, "an input is given twice among 'carrier', 'hour', 'hour', 'is_night'"),
        (
            {"parameters": {"shared_memory_region": "r"}},
            "parameter 'shared_memory_region' is of an extension that is not offered; see /v2",
        ),
        ({"parameters": {"binary_data_size": 4}}, "input 'distance': expected either 'data' or 'binary_data_size'"),
        ({"parameters": {"binary_data_size": "4"}}, "input 'distance': 'binary_data_size' must be a number of bytes"),
    ],
)
def test_wrong_tensor_is_refused_by_name(change, sentence):
    assert refusal({"inputs": tensors(distance=change)}) == sentence


def test_unknown_inputs_and_outputs_are_named():
    extra = {"name": "speed", "shape": [1], "datatype": "FP32", "data": [1]}
    assert refusal({"inputs": [*tensors(), extra]}).startswith("unknown column 'speed'; the model takes")
    assert refusal({"inputs": tensors(), "outputs": [{"name": "p"}]}) == "unknown output 'p'; the model gives 'p_late'"
    assert refusal({}) == "the body is no inference request: Object missing required field `inputs`"


def binary(name: str, data: bytes, n: int) -> dict:
    return {
        "name": name, "shape": [n], "datatype": DATATYPES[name], "parameters": {"binary_data_size": len(data)}
    }  # fmt: skip


def test_binary_tensors_follow_the_json_part_and_mix_with_json():
    texts = b"\x02\x00\x00\x00AA\x00\x00\x00\x00"
    numbers = struct.pack("<2f", 1.5, -2.0)
    inputs = [
        binary("carrier", texts, 2),
        tensor("hour", 1, 2),
        binary("distance", numbers, 2),
        binary("is_night", b"\x00\x01", 2),
    ]
    assert columns(read({"inputs": inputs}, texts + numbers + b"\x00\x01")) == {
        "carrier": [b"AA", b""],
        "hour": [1, 2],
        "distance": [1.5, -2.0],
        "is_night": [False, True],
    }


@pytest.mark.parametrize(
    ("data", "tail", "sentence"),
    [
        (b"1234", b"", "input 'distance': 'binary_data_size' is 4, and 3 bytes are left of the body"),
        (b"1234567", b"", "input 'distance': expected 1 values of 4 bytes, found 7 bytes"),
        (b"1234", b"x", "1 bytes follow the last binary tensor"),
    ],
)
def test_wrong_number_of_binary_bytes_is_refused(data, tail, sentence):
    inputs = [each for each in tensors() if each["name"] != "distance"] + [binary("distance", data, 1)]
    sent = data[:-1] if "left" in sentence else data + tail
    assert refusal({"inputs": inputs}, sent) == sentence


@pytest.mark.parametrize("size", [-1, 10**6])
def test_json_size_that_is_not_within_the_body_is_refused(size):
    assert refusal({"inputs": tensors()}, size=size).startswith(f"Inference-Header-Content-Length is {size}")


@pytest.mark.parametrize("data", [b"\x01", b"\x05\x00\x00\x00ab", b"\x00\x00\x00\x00\x00\x00\x00\x00", b""])
def test_texts_that_do_not_fill_their_bytes_are_refused(data):
    with pytest.raises(RequestError, match="expected 1 texts, each behind its length"):
        decode_tensor(memoryview(data), "string", 1, "input 'x'")


@given(st.lists(st.binary(max_size=5), max_size=4))
def test_texts_survive_as_bytes(texts):
    array = np.empty(len(texts), object)
    array[:] = texts
    assert decode_tensor(memoryview(encode_tensor(array)), "string", len(texts), "").tolist() == texts


@pytest.mark.parametrize("dtype", ["bool", "float16", "float32", "float64", "int8", "int64", "uint16", "uint64"])
def test_numbers_survive_as_bytes(dtype):
    array = np.array([[0, 1], [1, 0]], dtype)
    found = decode_tensor(memoryview(encode_tensor(array)), dtype, 4, "")
    assert (found.dtype, found.tolist()) == (array.dtype, array.reshape(-1).tolist())


def write(outputs: dict[str, np.ndarray], asked: dict[str, bool], request_id: str = "") -> v2.Answer:
    signature = Signature((), (Field("p", "float32"), Field("label", "string", (2,))))
    inference = v2.Inference(LAYOUT.from_records([RECORD]), request_id, asked)
    return v2.write_inference(inference, outputs, "flights", "4", signature)


P, LABEL = np.array([0.5], np.float32), np.array([[b"a", b"bc"]], object)


def test_answer_has_the_outputs_that_were_asked_for_in_their_order():
    answer = write({"p": P, "label": LABEL}, {"label": False, "p": False}, "42")
    assert json.loads(answer.body) == {
        "model_name": "flights",
        "model_version": "4",
        "id": "42",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "bc"]},
            {"name": "p", "datatype": "FP32", "shape": [1], "data": [0.5]},
        ],
    }
    assert (answer.media_type, answer.headers) == (b"application/json", ())


def test_binary_answer_says_where_its_json_ends():
    answer = write({"p": P, "label": LABEL}, {"p": True, "label": True})
    size = int(dict(answer.headers)[b"inference-header-content-length"])
    assert [each["parameters"] for each in json.loads(answer.body[:size])["outputs"]] == [
        {"binary_data_size": 4},
        {"binary_data_size": 11},
    ]
    assert answer.body[size:] == struct.pack("<f", 0.5) + b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"
    assert answer.media_type == b"application/octet-stream"


def test_number_that_is_not_finite_is_null_in_json_and_itself_in_binary():
    outputs = {"p": np.array([math.nan], np.float32)}
    assert json.loads(write(outputs, {"p": False}).body)["outputs"][0]["data"] == [None]
    assert math.isnan(struct.unpack("<f", write(outputs, {"p": True}).body[-4:])[0])


def test_bytes_that_are_no_text_have_no_json():
    with pytest.raises(RequestError, match="ask for it with 'binary_data'"):
        write({"label": np.array([[b"\xff", b""]], object)}, {"label": False})


def test_whether_data_is_binary_is_said_for_all_outputs_or_for_one():
    signature = Signature(FLIGHTS.inputs, (Field("p", "float32"), Field("q", "float32")))
    body = {"inputs": tensors(), "parameters": {"binary_data_output": True}}
    assert read(body, signature=signature).outputs == {"p": True, "q": True}
    asked = [{"name": "q", "parameters": {"binary_data": False}}, {"name": "p"}]
    assert read({**body, "outputs": asked}, signature=signature).outputs == {"q": False, "p": True}


def test_metadata_names_datatypes_and_open_sizes():
    signature = Signature((Field("name", "string"), Field("x", "float64", (2, None))), (Field("p", "float32"),))
    assert json.loads(v2.describe_model("m", "4", "tensorflow_savedmodel", signature, "production-4")) == {
        "name": "m",
        "versions": ["4"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "name", "datatype": "BYTES", "shape": [-1]},
            {"name": "x", "datatype": "FP64", "shape": [-1, 2, -1]},
        ],
        "outputs": [{"name": "p", "datatype": "FP32", "shape": [-1]}],
        "properties": {"release": "production-4"},
    }
    assert json.loads(v2.describe_server("kit", "1"))["extensions"] == ["binary_tensor_data"]
