"""A session of NVIDIA's tritonclient over HTTP, JSON and binary: python triton_session.py HOST:PORT MODEL < expected.json."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

NUMPY = {"BYTES": np.object_, "FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


def ask(client, model, metadata, columns, names, *, binary, **options):
    inputs = []
    for field in metadata["inputs"]:
        values = np.array(columns[field["name"]], dtype=NUMPY[field["datatype"]])
        tensor = triton.InferInput(field["name"], values.shape, field["datatype"])
        tensor.set_data_from_numpy(values, binary_data=binary)
        inputs.append(tensor)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    return client.infer(model, inputs, outputs=outputs, request_id="42", **options)


def main():
    address, model = sys.argv[1:]
    told = json.load(sys.stdin)
    client = triton.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert not client.is_model_ready("no-such-model")
    server = client.get_server_metadata()
    assert server["name"], server
    assert "binary_tensor_data" in server["extensions"], server
    metadata = client.get_model_metadata(model)
    assert metadata["name"] == model
    assert metadata["versions"] == [told["version"]], metadata
    names = [field["name"] for field in metadata["outputs"]]
    for binary in (False, True):
        for options in ({}, {"model_version": told["version"]}, {"request_compression_algorithm": "gzip"}):
            result = ask(client, model, metadata, told["columns"], names, binary=binary, **options)
            assert result.get_response()["id"] == "42"
            assert result.get_response()["model_version"] == told["version"]
            for name in names:
                np.testing.assert_allclose(result.as_numpy(name), told["expected"][name], atol=1e-6)
    mixed = {name: values[:1] for name, values in told["columns"].items()}
    result = ask(client, model, metadata, mixed, names[:1], binary=True)
    assert result.as_numpy(names[0]).shape == (1,)
    for wrong in ({"model_version": "999"},):
        try:
            ask(client, model, metadata, told["columns"], names, binary=True, **wrong)
        except InferenceServerException as error:
            assert "999" in error.message(), error
        else:
            raise AssertionError("an unknown version was answered")
    print(json.dumps({"passed": True}))


main()
