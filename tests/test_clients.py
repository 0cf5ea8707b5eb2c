"""Client suites that others wrote, against `kit serve`: each in the environment `.venv-clients`, as a process of its own."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from servers import TIMEOUT_S, Process, Shop, running

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / ".venv-clients"
SESSIONS = ROOT / "tests" / "clients"
OPEN_INFERENCE = ROOT.parent / "shared" / "conformance" / "open_inference_rest.yaml"
MODEL, VERSION, N_ROWS = "example", "1", 3

pytestmark = pytest.mark.kernel

# A model with an input of every kind that a release can have, whose answers are exact.
SAVED_MODEL = """
import json, sys
from pathlib import Path
import numpy as np, tensorflow as tf
from kit.model import save_saved_model, write_golden
folder, columns = Path(sys.argv[1]), json.loads(sys.argv[2])
def score(tag, distance, count, flag):
    total = 100 * tf.strings.length(tag) + tf.cast(count, tf.int32) + tf.cast(flag, tf.int32)
    return {"total": tf.cast(total, tf.float32) + distance}
dtypes = {"tag": tf.string, "distance": tf.float32, "count": tf.int64, "flag": tf.bool}
specs = {name: tf.TensorSpec([None], dtype) for name, dtype in dtypes.items()}
module = tf.Module()
module.score = tf.function(score).get_concrete_function(**specs)
save_saved_model(module, folder / "saved_model", {"serving_default": module.score})
tensors = {name: tf.constant(columns[name], dtype) for name, dtype in dtypes.items()}
arrays = {name: np.array(values) for name, values in columns.items()}
write_golden(folder / "golden.json", arrays, {"total": module.score(**tensors)["total"].numpy()})
"""
COLUMNS = {
    "tag": ["foo", "", "bär"],
    "distance": [1.5, -0.25, 0.0],
    "count": [7, -1, 0],
    "flag": [True, False, True],
}
TOLD = {
    "version": VERSION,
    "fields": [
        {"name": "count", "datatype": "INT64", "shape": [-1]},
        {"name": "distance", "datatype": "FP32", "shape": [-1]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
        {"name": "tag", "datatype": "BYTES", "shape": [-1]},
    ],
    "columns": COLUMNS,
    "expected": {"total": [309.5, -1.25, 401.0]},
}
# What JSON may hold for a datatype: null is a missing number and an empty text, and no number is so great that it becomes
# infinite as a float32.
BEYOND = float(2**128 - 2**103)  # half a unit in the last place beyond the greatest float32
VALUES: dict[str, dict[str, Any]] = {
    "BOOL": {"type": "boolean"},
    "BYTES": {"type": ["string", "null"]},
    "FP32": {"type": ["number", "null"], "exclusiveMinimum": -BEYOND, "exclusiveMaximum": BEYOND},
    "INT64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
}


@pytest.fixture(scope="module")
def clients() -> Path:
    """Where the clients' commands are."""
    if not (CLIENTS / ".installed").is_file():
        sentence = "the clients are not installed; `make .venv-clients/.installed` does it"
        pytest.fail(sentence) if "CI" in os.environ else pytest.skip(sentence)
    return CLIENTS / "bin"


@pytest.fixture(scope="module")
def server(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`kit serve`, which must not have failed on any request."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "one").mkdir()
    command = [sys.executable, "-c", SAVED_MODEL, str(folder / "one"), json.dumps(COLUMNS)]
    made = run(command)
    assert made.returncode == 0, made.stderr[-3000:]
    shop = Shop(folder / "shop")
    shop.release(folder / "one")
    with running(shop.project.root, "--env", "production") as process:
        yield process
        assert process.end(signal.SIGTERM) == 0
        assert [line for line in process.lines if line.get("status", 0) >= 500] == []


@pytest.mark.parametrize("name", ["tf_serving", "triton", "kserve"])
def test_session_of_a_client_passes(clients: Path, server: Process, name: str) -> None:
    command = [clients / "python", SESSIONS / f"{name}_session.py", server.address, MODEL]
    done = run(command, input=json.dumps(TOLD))
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr


def test_schemathesis_finds_no_fault_by_the_protocols_document(clients: Path, server: Process, tmp_path: Path) -> None:
    # Left out: the document does not say which inputs the model has, so what it allows is mostly, and rightly, refused.
    run_schemathesis(clients, server, tmp_path, mend(read_document()), "--exclude-checks", "positive_data_acceptance")


def test_schemathesis_finds_no_fault_by_the_document_of_the_model(
    clients: Path, server: Process, tmp_path: Path
) -> None:
    metadata = httpx.get(f"{server.address}/v2/models/{MODEL}").json()
    run_schemathesis(clients, server, tmp_path, narrow(mend(read_document()), metadata))


def run(command: Sequence[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, **options)


def run_schemathesis(clients: Path, server: Process, folder: Path, document: Mapping[str, Any], *options: str) -> None:
    """Run it in a folder, for it leaves files there."""
    (folder / "document.json").write_text(json.dumps(document))
    command = [
        clients / "st", "--config-file", SESSIONS / "schemathesis.toml", "--no-color",
        "run", "document.json", "--url", server.address, *options,
    ]  # fmt: skip
    variables = {**os.environ, "SCHEMATHESIS_HOOKS": str(SESSIONS / "schemathesis_hooks.py")}
    done = run(command, cwd=folder, env=variables)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    n_operations = sum(len(list_operations(item)) for item in document["paths"].values())
    assert f"Selected: {n_operations}/{n_operations}\n  Tested: {n_operations}\n" in done.stdout
    generated = re.search(r"(\d+) generated, \1 passed", done.stdout)
    assert generated, done.stdout
    assert int(generated[1]) > 40 * n_operations


def read_document() -> dict[str, Any]:
    if not OPEN_INFERENCE.is_file():
        pytest.skip(f"the OpenAPI document of the Open Inference Protocol is not there: put it at {OPEN_INFERENCE}")
    return yaml.safe_load(OPEN_INFERENCE.read_bytes())


def mend(document: dict[str, Any]) -> dict[str, Any]:
    """The document without its faults, by the protocol's text, which it contradicts; for the one model that is served."""
    paths: dict[str, Any] = {}
    for path, item in document["paths"].items():
        name = path.replace("${", "{").removesuffix("/")
        paths[name] = mend_operations(item, is_of_model="{MODEL_NAME}" in name)
        if "/versions/" in name:
            paths[name.replace("/versions/{MODEL_VERSION}", "")] = drop_version(item)
    schemas = document["components"]["schemas"]
    schemas["inference_error_response"]["required"] = ["error"]
    # JSON has no NaN, and the text says nothing of one; here null is a missing number in a request and an answer.
    schemas["tensor_data"]["items"]["anyOf"].append({"type": "null"})
    return {**document, "openapi": "3.1.0", "paths": paths}  # 3.0 has neither "null" nor "prefixItems"


def list_operations(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [operation for key, operation in item.items() if key != "parameters"]


def mend_operations(item: dict[str, Any], *, is_of_model: bool) -> dict[str, Any]:
    """Paths that meet the model, a body that must be there, and the error that the document leaves out."""
    for parameter in item.get("parameters", []):
        parameter["schema"]["enum"] = [{"MODEL_NAME": MODEL, "MODEL_VERSION": VERSION}[parameter["name"]]]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/metadata_model_error_response"}}}
    for operation in list_operations(item):
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        if is_of_model:
            operation["responses"]["404"] = {"description": "No such model or version", "content": content}
    return item


def drop_version(item: Mapping[str, Any]) -> dict[str, Any]:
    """The same operations where the server chooses the version."""
    unversioned = copy.deepcopy(dict(item))
    unversioned["parameters"] = [each for each in item["parameters"] if each["name"] != "MODEL_VERSION"]
    for operation in list_operations(unversioned):
        operation["operationId"] += "-unversioned"
    return unversioned


def narrow(document: dict[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one model: what it allows must be answered, and what it does not allow refused."""
    properties = document["components"]["schemas"]["inference_request"]["properties"]
    inputs = [describe_input(**field) for field in metadata["inputs"]]
    properties["inputs"] = {"type": "array", "prefixItems": inputs, "items": False, "minItems": len(inputs)}
    name = {"enum": [field["name"] for field in metadata["outputs"]]}
    properties["outputs"]["items"] = {"type": "object", "properties": {"name": name}, "required": ["name"]}
    return document


def describe_input(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    sizes = [N_ROWS, *shape[1:]]
    n_values = math.prod(sizes)
    data = {"type": "array", "minItems": n_values, "maxItems": n_values, "items": VALUES[datatype]}
    properties = {"name": {"enum": [name]}, "datatype": {"enum": [datatype]}, "shape": {"enum": [sizes]}, "data": data}
    return {"type": "object", "properties": properties, "required": list(properties)}
