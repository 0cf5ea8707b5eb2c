"""A session of KServe's inference client, v1 and v2: python kserve_session.py URL MODEL < expected.json."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

NUMPY = {"BYTES": np.object_, "FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


async def ask_v2(url, model, told, *, binary):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    inputs = []
    for field in told["fields"]:
        values = np.array(told["columns"][field["name"]], dtype=NUMPY[field["datatype"]])
        tensor = InferInput(field["name"], list(values.shape), field["datatype"])
        tensor.set_data_from_numpy(values, binary_data=binary)
        inputs.append(tensor)
    response = await client.infer(url, InferRequest(model, inputs, request_id="42"), model_name=model)
    assert response.id == "42"
    assert response.model_version == told["version"]
    for output in response.outputs:
        np.testing.assert_allclose(output.as_numpy(), told["expected"][output.name], atol=1e-6)


async def ask_v1(url, model, told):
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await client.is_server_live(url)
    assert await client.is_model_ready(url, model)
    names = list(told["columns"])
    rows = [dict(zip(names, row, strict=True)) for row in zip(*told["columns"].values(), strict=True)]
    answer = await client.infer(url, {"instances": rows}, model_name=model)
    (expected,) = told["expected"].values()
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)
    try:
        await client.infer(url, {"instances": [{}]}, model_name=model)
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400, error
    else:
        raise AssertionError("a row without fields was answered")


async def main():
    url, model = sys.argv[1:]
    told = json.load(sys.stdin)
    await ask_v1(url, model, told)
    for binary in (False, True):
        await ask_v2(url, model, told, binary=binary)
    print(json.dumps({"passed": True}))


asyncio.run(main())
