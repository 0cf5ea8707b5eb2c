"""TF Serving's REST API, version 1: what bodies say. Source: tensorflow.org/tfx/serving/api_rest.

Where TF Serving leaves a choice: `null` for a number is a missing one, NaN; numbers that are not finite are the tokens
`NaN`, `Infinity` and `-Infinity` in both directions, as its own parser and writer have them; a score without a class has
the empty label, as its documentation says.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kit.model.servable import STRING, Field, Signature
from kit.server.answer import RequestError, show_name
from kit.server.jsons import decode_json, encode_json
from kit.server.tensors import Layout, Rows

Arrays = Mapping[str, np.ndarray[Any, Any]]

METHOD = "tensorflow/serving/predict"
_DTYPES = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE", STRING: "DT_STRING", "bool": "DT_BOOL"}
_PREDICT_KEYS = frozenset({"signature_name", "instances", "inputs"})
_EXAMPLE_KEYS = frozenset({"signature_name", "context", "examples"})


def read_predict(body: bytes, layout: Layout, signature_name: str) -> tuple[Rows, bool]:
    """Rows of a predict request, and whether they came by column.

    Args:
        body: with `instances` (by row) or `inputs` (by column).
        layout: of the served signature.
        signature_name: its name.

    Raises:
        RequestError: 400 and what is wrong.
    """
    content = _read_object(body, _PREDICT_KEYS, signature_name)
    if ("instances" in content) == ("inputs" in content):
        raise RequestError(400, "expected either 'instances' (rows) or 'inputs' (columns) in the body")
    if "instances" in content:
        return layout.from_records(_read_instances(content["instances"], layout)), False
    inputs = content["inputs"]
    if not isinstance(inputs, dict):
        inputs = {_only_input(layout, "inputs"): inputs}
    return layout.from_columns(inputs), True


def write_predict(outputs: Arrays, *, by_column: bool) -> bytes:
    """`outputs` by column or `predictions` by row; a single output is not named."""
    columns = {name: _to_plain(name, array) for name, array in outputs.items()}
    if by_column:
        return encode_json({"outputs": columns if len(columns) != 1 else next(iter(columns.values()))})
    if len(columns) == 1:
        return encode_json({"predictions": next(iter(columns.values()))})
    names = tuple(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return encode_json({"predictions": rows})


def read_examples(body: bytes, layout: Layout, signature_name: str) -> Rows:
    """Rows of a classify or regress request: `examples`, and a `context` that holds for each of them.

    Raises:
        RequestError: 400 and what is wrong.
    """
    content = _read_object(body, _EXAMPLE_KEYS, signature_name)
    context, examples = content.get("context", {}), content.get("examples")
    if not isinstance(examples, list):
        raise RequestError(400, "expected 'examples', a list of objects, in the body")
    if not isinstance(context, dict):
        raise RequestError(400, "'context' must be an object with the columns that all examples share")
    merged = [{**context, **example} if isinstance(example, dict) else example for example in examples]
    return layout.from_records([_unwrap(example, layout) for example in merged])


def find_scores(signature: Signature) -> Field:
    """The output that classify gives: the only one, numbers, one or several for each row.

    Raises:
        RequestError: the model has no such output.
    """
    return _only_output(signature, ":classify", lambda shape: len(shape) <= 1)


def find_value(signature: Signature) -> Field:
    """The output that regress gives: the only one, one number for each row.

    Raises:
        RequestError: the model has no such output.
    """
    return _only_output(signature, ":regress", lambda shape: shape in ((), (1,)))


def write_classes(scores: np.ndarray[Any, Any]) -> bytes:
    """For each example its [label, score] pairs; labels are empty, as the model names no classes."""
    rows = scores.reshape(len(scores), -1).tolist()
    return encode_json({"results": [[["", score] for score in row] for row in rows]})


def write_values(values: np.ndarray[Any, Any]) -> bytes:
    """For each example its value."""
    return encode_json({"results": values.reshape(-1).tolist()})


def describe_status(name: str, version: str, *, ready: bool) -> bytes:
    """Status of a model in TF Serving's form and, in the same object, in KServe's (`name`, `ready`)."""
    state = "AVAILABLE" if ready else "UNLOADING"
    status = {"version": version, "state": state, "status": {"error_code": "OK", "error_message": ""}}
    return encode_json({"model_version_status": [status], "name": name, "ready": ready})


def describe_metadata(name: str, version: str, signature: Signature, signature_name: str) -> bytes:
    """The signature as a SignatureDef, in protobuf's JSON."""
    definition = {
        "inputs": {field.name: _describe_field(field) for field in signature.inputs},
        "outputs": {field.name: _describe_field(field) for field in signature.outputs},
        "method_name": METHOD,
        "defaults": {},
    }
    metadata = {"signature_def": {"signature_def": {signature_name: definition}}}
    return encode_json({
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": metadata,
    })  # fmt: skip


def _describe_field(field: Field) -> dict[str, Any]:
    sizes = [-1, *(-1 if size is None else size for size in field.shape)]
    dims = [{"size": str(size), "name": ""} for size in sizes]
    dtype = _DTYPES.get(field.dtype, f"DT_{field.dtype.upper()}")
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{field.name}:0"}


def _read_object(body: bytes, known: frozenset[str], signature_name: str) -> dict[str, Any]:
    content = decode_json(body)
    if not isinstance(content, dict):
        raise RequestError(400, "expected a JSON object as the body")
    for key in content:
        if key not in known:
            raise RequestError(400, f"unknown key {show_name(key)} in the body; there is {', '.join(sorted(known))}")
    asked = content.get("signature_name", "")
    if asked not in ("", signature_name):
        is_text = not isinstance(asked, dict | list)  # what a client put there by mistake may hold values
        found = f"signature {show_name(asked)}" if is_text else "a signature that is no text"
        raise RequestError(400, f"{found} is not served; 'signature_name' can be {signature_name!r}")
    return content


def _read_instances(instances: Any, layout: Layout) -> Sequence[Any]:
    """Rows as objects; where the model takes one column, values may stand alone."""
    if not isinstance(instances, list):
        raise RequestError(400, "'instances' must be a list of rows")
    layout.require_rows(len(instances))
    if len(layout.fields) > 1:
        return instances
    name = _only_input(layout, "instances")
    return [row if isinstance(row, dict) and row.keys() != {"b64"} else {name: row} for row in instances]


def _only_input(layout: Layout, key: str) -> str:
    if len(layout.fields) > 1:
        raise RequestError(400, f"{key!r} must name the columns: the model takes {len(layout.fields)} of them")
    return next(iter(layout.fields))


def _only_output(signature: Signature, method: str, accept: Callable[[tuple[int | None, ...]], bool]) -> Field:
    outputs = signature.outputs
    if len(outputs) == 1 and outputs[0].dtype.startswith("float") and accept(outputs[0].shape):
        return outputs[0]
    found = ", ".join(
        f"{field.name} ({field.dtype}, [{', '.join(map(str, ('n', *field.shape)))}])" for field in outputs
    )
    raise RequestError(400, f"{method} needs a single output of scores; the model gives {found}: use :predict")


def _unwrap(example: Any, layout: Layout) -> Any:
    """A feature of an example may be a list of one value."""
    if not isinstance(example, dict):
        return example
    return {name: _unwrap_value(value, layout.fields.get(name)) for name, value in example.items()}


def _unwrap_value(value: Any, field: Field | None) -> Any:
    is_wrapped = isinstance(value, list) and len(value) == 1 and field is not None and not field.shape
    return value[0] if is_wrapped else value


def _to_plain(name: str, array: np.ndarray[Any, Any]) -> list[Any]:
    values: list[Any] = array.tolist()
    return values if array.dtype.kind not in "OSU" else [_to_text(value, name) for value in values]


def _to_text(value: Any, name: str) -> Any:
    """Texts as they are; bytes of an output whose name ends in `_bytes`, or that are no UTF-8, as base64."""
    if isinstance(value, list):
        return [_to_text(each, name) for each in value]
    data = value if isinstance(value, bytes) else str(value).encode()
    try:
        if not name.endswith("_bytes"):
            return data.decode()
    except UnicodeDecodeError:
        pass
    return {"b64": base64.b64encode(data).decode()}
