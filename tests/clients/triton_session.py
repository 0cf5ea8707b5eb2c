"""A session of NVIDIA's tritonclient over HTTP, JSON and binary: python triton_session.py URL MODEL < told.json."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

N_CONCURRENT = 8


class Session:
    def __init__(self, url, model, told):
        self.client = triton.InferenceServerClient(url.removeprefix("http://"), concurrency=N_CONCURRENT)
        self.model, self.version, self.fields = model, told["version"], told["fields"]
        self.columns = {
            field["name"]: np.array(told["columns"][field["name"]], triton_to_np_dtype(field["datatype"]))
            for field in self.fields
        }
        ((self.output, self.expected),) = told["expected"].items()

    def inputs(self, *, binary, **changed):
        inputs = []
        for field in self.fields:
            values = changed.get(field["name"], self.columns[field["name"]])
            tensor = triton.InferInput(field["name"], list(values.shape), field["datatype"])
            inputs.append(tensor.set_data_from_numpy(values, binary_data=binary))
        return inputs

    def outputs(self, *, binary):
        return [triton.InferRequestedOutput(self.output, binary_data=binary)]

    def expect(self, result, expected=None):
        found = result.as_numpy(self.output)
        assert found.dtype == np.float32, found.dtype
        np.testing.assert_array_equal(found, self.expected if expected is None else expected)
        return result.get_response()

    def refused(self, status, sentence, ask, *arguments, **options):
        try:
            ask(*arguments, **options)
        except InferenceServerException as error:
            assert (error.status(), sentence in error.message()) == (str(status), True), error
        else:
            raise AssertionError(f"answered, and should have been refused: {sentence}")

    def ask_state(self):
        client, model, version = self.client, self.model, self.version
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(model)
        assert client.is_model_ready(model, version)
        assert not client.is_model_ready(model, "999")
        assert not client.is_model_ready("no-such-model")
        server = client.get_server_metadata()
        assert (server["name"], server["extensions"]) == ("kit", ["binary_tensor_data"]), server
        for known in ("", version):
            metadata = client.get_model_metadata(model, known)
            assert (metadata["name"], metadata["versions"]) == (model, [version]), metadata
            assert metadata["inputs"] == self.fields, metadata
            assert metadata["outputs"] == [{"name": self.output, "datatype": "FP32", "shape": [-1]}], metadata

    def ask_infer(self, *, sent_binary, given_binary):
        inputs, outputs = self.inputs(binary=sent_binary), self.outputs(binary=given_binary)
        for options in (
            {},
            {"model_version": self.version},
            {"priority": 1, "timeout": 1_000_000, "parameters": {"tenant": "a"}},
            {"response_compression_algorithm": "gzip"},  # a wish, which a server need not grant
        ):
            result = self.client.infer(self.model, inputs, outputs=outputs, request_id="42", **options)
            answer = self.expect(result)
            assert (answer["id"], answer["model_name"]) == ("42", self.model), answer
            assert answer["model_version"] == self.version, answer
            assert ("data" in answer["outputs"][0]) is not given_binary, answer
        self.expect(self.client.infer(self.model, inputs))  # all outputs, binary: this client's own choice
        one_row = {name: values[:1] for name, values in self.columns.items()}
        self.expect(self.client.infer(self.model, self.inputs(binary=sent_binary, **one_row)), self.expected[:1])

    def ask_unusual_values(self):
        distance = self.columns["distance"].copy()
        distance[0] = np.nan
        expected = [np.nan, *self.expected[1:]]
        for binary in (False, True):
            inputs = self.inputs(binary=True, distance=distance)
            self.expect(self.client.infer(self.model, inputs, outputs=self.outputs(binary=binary)), expected)
        tag = np.array([b"", b"\xff\x00", "\u00fc".encode()], np.object_)
        lengths = [len(text.encode()) for text in self.columns["tag"]]
        changed = [total + 100 * (len(new) - n) for total, new, n in zip(self.expected, tag, lengths, strict=True)]
        self.expect(self.client.infer(self.model, self.inputs(binary=True, tag=tag)), changed)

    def ask_concurrently(self):
        asked = [
            self.client.async_infer(self.model, self.inputs(binary=number % 2 == 0), request_id=str(number))
            for number in range(4 * N_CONCURRENT)
        ]
        for number, each in enumerate(asked, 1):
            answer = self.expect(each.get_result())
            assert answer.get("id") == str(number - 1), answer

    def ask_what_is_refused(self):
        infer, model = self.client.infer, self.model
        inputs = self.inputs(binary=True)
        self.refused(404, "version '999'", infer, model, inputs, model_version="999")
        self.refused(404, "model 'no-such-model'", infer, "no-such-model", inputs)
        self.refused(400, "missing column 'count'", infer, model, inputs[1:])
        other = triton.InferInput("other", [3], "BOOL").set_data_from_numpy(np.ones(3, bool))
        self.refused(400, "unknown column 'other'", infer, model, [*inputs, other])
        for binary in (False, True):
            wide = self.inputs(binary=binary, distance=np.ones((3, 2), np.float32))
            self.refused(400, "input 'distance': expected shape [n], found [3, 2]", infer, model, wide)
        double = triton.InferInput("distance", [3], "FP64").set_data_from_numpy(np.ones(3))
        wrong = [double if each.name() == "distance" else each for each in inputs]
        self.refused(400, "input 'distance': expected datatype FP32, found 'FP64'", infer, model, wrong)
        other = [triton.InferRequestedOutput("other")]
        self.refused(400, "unknown output 'other'", infer, model, inputs, outputs=other)

    def ask_what_is_not_offered(self):
        """Extensions that the server's metadata do not name: refused, never passed over."""
        infer, model, inputs = self.client.infer, self.model, self.inputs(binary=True)
        scores = [triton.InferRequestedOutput(self.output, class_count=1)]
        self.refused(400, "'classification'", infer, model, inputs, outputs=scores)
        self.refused(400, "'sequence_id'", infer, model, inputs, sequence_id=7, sequence_start=True)
        region = triton.InferInput("count", [3], "INT64")
        region.set_shared_memory("region", 24)
        self.refused(400, "'shared_memory_region'", infer, model, [region, *inputs[1:]])
        self.refused(415, "compressed", infer, model, inputs, request_compression_algorithm="gzip")
        self.refused(404, "no such address", self.client.get_inference_statistics, model)
        self.refused(404, "no such address", self.client.load_model, model)


def main():
    url, model = sys.argv[1:]
    session = Session(url, model, json.load(sys.stdin))
    with session.client:
        session.ask_state()
        for sent_binary in (False, True):
            for given_binary in (False, True):
                session.ask_infer(sent_binary=sent_binary, given_binary=given_binary)
        session.ask_unusual_values()
        session.ask_concurrently()
        session.ask_what_is_refused()
        session.ask_what_is_not_offered()
    print("passed")


main()
