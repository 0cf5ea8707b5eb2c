"""Open Inference Protocol v2 over REST, with the binary tensor data extension: what bodies say.

Sources: kserve/open-inference-protocol, inference_rest.md; triton-inference-server, extension_binary_data.md. A number that
is not finite has no JSON of its own: it is null in an answer; ask for binary data where NaN and infinity must differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from kit.model.servable import STRING, Field, Signature
from kit.server.answer import Answer, Headers, Request, RequestError, show_name, show_names
from kit.server.binary import decode_tensor, encode_tensor
from kit.server.jsons import decode_json
from kit.server.tensors import Layout, Rows

Arrays = Mapping[str, np.ndarray[Any, Any]]
Parameters = dict[str, Any]

EXTENSIONS = ("binary_tensor_data",)
SIZE_HEADER = b"inference-header-content-length"
_DATATYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64", STRING: "BYTES",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
# They would say where data is, or change what is asked: passing them over would give a wrong answer.
_REFUSED = ("shared_memory_region", "classification", "sequence_id")


class InputTensor(msgspec.Struct, frozen=True):
    """One input of a request; without `data` its bytes follow the JSON part."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: Any = msgspec.UNSET


class AskedOutput(msgspec.Struct, frozen=True):
    """An output that is asked for."""

    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON part of an inference request."""

    inputs: list[InputTensor]
    outputs: list[AskedOutput] = []
    id: str = ""
    parameters: Parameters = {}


_decode_request = msgspec.json.Decoder(InferRequest).decode


class Inference(msgspec.Struct, frozen=True):
    """What one request asks: rows, and how the answer shall look.

    Attributes:
        rows: for the model.
        id: echoed.
        outputs: by name, whether as binary data, in the order of the answer.
    """

    rows: Rows
    id: str
    outputs: dict[str, bool]


def read_inference(request: Request, layout: Layout, signature: Signature) -> Inference:
    """What an inference request asks.

    Raises:
        RequestError: 400 and what is wrong.
    """
    head, tail = _split_body(request)
    try:
        content = msgspec.convert(decode_json(head, _decode_request), InferRequest)  # it is one already, but for tokens
    except msgspec.ValidationError as error:
        raise RequestError(400, f"the body is no inference request: {error}") from None
    parts: tuple[InferRequest | InputTensor | AskedOutput, ...] = (content, *content.inputs, *content.outputs)
    for parameters in [part.parameters for part in parts if part.parameters]:
        if refused := [name for name in _REFUSED if parameters.get(name)]:
            raise RequestError(400, f"parameter {refused[0]!r} is of an extension that is not offered; see /v2")
    names = [tensor.name for tensor in content.inputs]
    if len(set(names)) < len(names):
        raise RequestError(400, f"an input is given twice among {show_names(names)}")
    rows = layout.from_columns(_read_tensors(content.inputs, layout, tail))
    return Inference(rows, content.id, _choose_outputs(content, signature))


def write_inference(inference: Inference, outputs: Arrays, name: str, version: str, signature: Signature) -> Answer:
    """The answer: JSON, and behind it the outputs that were asked for as binary data."""
    fields = {field.name: field for field in signature.outputs}
    tensors, tail = [], b""
    for output, is_binary in inference.outputs.items():
        array = outputs[output]
        tensor: dict[str, Any] = {
            "name": output, "datatype": _datatype(fields[output]), "shape": list(array.shape)
        }  # fmt: skip
        if is_binary:
            data = encode_tensor(array)
            tensor["parameters"], tail = {"binary_data_size": len(data)}, tail + data
        else:
            tensor["data"] = _to_json(array)
        tensors.append(tensor)
    content: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": tensors}
    if inference.id:
        content["id"] = inference.id
    head = msgspec.json.encode(content)
    if not any(inference.outputs.values()):
        return Answer(head, n_rows=inference.rows.n_rows)
    headers: Headers = ((SIZE_HEADER, str(len(head)).encode()),)
    return Answer(head + tail, 200, b"application/octet-stream", headers, inference.rows.n_rows)


def describe_server(name: str, version: str) -> bytes:
    """Server metadata."""
    return msgspec.json.encode({"name": name, "version": version, "extensions": EXTENSIONS})


def describe_model(name: str, version: str, platform: str, signature: Signature, release: str) -> bytes:
    """Model metadata; the size of an open dimension is -1."""
    return msgspec.json.encode({
        "name": name,
        "versions": [version],
        "platform": platform,
        "inputs": list(map(_describe_field, signature.inputs)),
        "outputs": list(map(_describe_field, signature.outputs)),
        "properties": {"release": release},
    })  # fmt: skip


def _describe_field(field: Field) -> dict[str, Any]:
    shape = [-1, *(-1 if size is None else size for size in field.shape)]
    return {"name": field.name, "datatype": _datatype(field), "shape": shape}


def _datatype(field: Field) -> str:
    return _DATATYPES[field.dtype]


def _split_body(request: Request) -> tuple[bytes, memoryview]:
    size = len(request.body) if request.json_size is None else request.json_size
    if not 0 <= size <= len(request.body):
        raise RequestError(
            400, f"Inference-Header-Content-Length is {size}, and the body has {len(request.body)} bytes"
        )
    return request.body[:size], memoryview(request.body)[size:]


def _read_tensors(tensors: Sequence[InputTensor], layout: Layout, tail: memoryview) -> dict[str, Any]:
    """Values by column; of a name that the model does not take nothing is read, it is refused with the others."""
    columns: dict[str, Any] = {}
    for tensor in tensors:
        field, binary = layout.fields.get(tensor.name), None
        if "binary_data_size" in tensor.parameters:
            size = _require_size(tensor, len(tail))
            binary, tail = tail[:size], tail[size:]
        columns[tensor.name] = [] if field is None else _read_tensor(tensor, field, binary)
    if len(tail):
        raise RequestError(400, f"{len(tail)} bytes follow the last binary tensor")
    return columns


def _require_size(tensor: InputTensor, left: int) -> int:
    """Bytes of a binary tensor."""
    size = tensor.parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise _refuse(tensor, "'binary_data_size' must be a number of bytes")
    if tensor.data is not msgspec.UNSET:
        raise _refuse(tensor, "expected either 'data' or 'binary_data_size'")
    if size > left:
        raise _refuse(tensor, f"'binary_data_size' is {size}, and {left} bytes are left of the body")
    return size


def _read_tensor(tensor: InputTensor, field: Field, binary: memoryview | None) -> Any:
    """A column's values: a list of rows, or an array."""
    if tensor.datatype != _DATATYPES[field.dtype]:
        raise _refuse(tensor, f"expected datatype {_datatype(field)}, found {show_name(tensor.datatype)}")
    shape, data = _require_shape(tensor, field), tensor.data
    n_values = shape[0] if len(shape) == 1 else math.prod(shape)
    if binary is not None:
        return decode_tensor(binary, field.dtype, n_values, f"input {show_name(tensor.name)}").reshape(shape)
    if not isinstance(data, list):
        raise _refuse(tensor, "expected 'data', a list, or the parameter 'binary_data_size'")
    if list in map(type, data):
        data = _flatten(tensor, tensor.shape)
    if len(data) != n_values:
        raise _refuse(tensor, f"its shape has {n_values} values, its data {len(data)}")
    return data if len(shape) == 1 else _nest(data, shape)


def _require_shape(tensor: InputTensor, field: Field) -> tuple[int, ...]:
    """The shape, (n, 1) as (n,) where the field has one value a row."""
    shape = tuple(tensor.shape)
    if not field.shape and len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    fits = len(shape) == 1 + len(field.shape) and min(shape) >= 0
    if not fits or any(size not in (None, found) for size, found in zip(field.shape, shape[1:], strict=True)):
        expected = ", ".join(["n", *("any" if size is None else str(size) for size in field.shape)])
        raise _refuse(tensor, f"expected shape [{expected}], found {tensor.shape[:8]}")
    return shape


def _refuse(tensor: InputTensor, sentence: str) -> RequestError:
    return RequestError(400, f"input {show_name(tensor.name)}: {sentence}")


def _flatten(tensor: InputTensor, shape: Sequence[int]) -> list[Any]:
    """Values of nested data, which must be nested as the shape says."""
    level: list[Any] = [tensor.data]
    for size in shape:
        if any(not isinstance(each, list) or len(each) != size for each in level):
            raise _refuse(tensor, f"its data is not nested as its shape {shape} says")
        level = [inner for each in level for inner in each]
    return level


def _nest(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)] if size else []
    return flat


def _choose_outputs(content: InferRequest, signature: Signature) -> dict[str, bool]:
    there = [field.name for field in signature.outputs]
    default = content.parameters.get("binary_data_output") is True
    asked = content.outputs or [AskedOutput(name) for name in there]
    if unknown := [output.name for output in asked if output.name not in there]:
        raise RequestError(400, f"unknown output {show_name(unknown[0])}; the model gives {show_names(there)}")
    return {output.name: output.parameters.get("binary_data", default) is True for output in asked}


def _to_json(array: np.ndarray[Any, Any]) -> list[Any]:
    """Values in row-major order, flat; texts as texts.

    Raises:
        RequestError: bytes that are no UTF-8 have no JSON.
    """
    values: list[Any] = array.reshape(-1).tolist()
    if array.dtype.kind not in "OSU":
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError:
        raise RequestError(400, "an output holds bytes that are no text: ask for it with 'binary_data'") from None
