"""A session by TF Serving's page "RESTful API", in its order: python tf_serving_session.py URL MODEL < told.json.

Source: https://www.tensorflow.org/tfx/serving/api_rest. Its reference says `result` for classify and regress, its example
`results`; TF Serving itself writes `results`.
"""

import base64
import json
import math
import sys

import requests

FORM = {"Content-Type": "application/x-www-form-urlencoded"}  # what `curl -d` sends, as the page's examples have it
AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
DTYPES = {"BYTES": "DT_STRING", "FP32": "DT_FLOAT", "INT64": "DT_INT64", "BOOL": "DT_BOOL"}


class Session:
    def __init__(self, url, model, told):
        self.http = requests.Session()
        self.model, self.told, self.version = model, told, told["version"]
        self.columns = told["columns"]
        self.rows = [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        ((self.output, self.expected),) = told["expected"].items()
        self.root = f"{url}/v1/models"
        self.urls = [f"{self.root}/{model}", f"{self.root}/{model}/versions/{self.version}"]

    def get(self, url):
        answer = self.http.get(url)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json", answer.headers
        return answer.json()

    def post(self, method, body):
        """The answer, which is the same with and without the version."""
        answers = [self.http.post(f"{url}:{method}", data=json.dumps(body), headers=FORM) for url in self.urls]
        assert [each.status_code for each in answers] == [200, 200], [each.text for each in answers]
        assert answers[0].content == answers[1].content
        return answers[0].json()

    def refused(self, status, sentence, answer):
        assert answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/json", answer.headers
        content = answer.json()
        assert content.keys() == {"error"}, content
        assert sentence in content["error"], content

    def ask_status(self):
        for url in self.urls:
            assert self.get(url)["model_version_status"] == [{"version": self.version, **AVAILABLE}]

    def ask_metadata(self):
        for url in self.urls:
            content = self.get(f"{url}/metadata")
            assert content["model_spec"] == {"name": self.model, "signature_name": "", "version": self.version}, content
            signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
            assert signature["method_name"] == "tensorflow/serving/predict", signature
            assert sorted(signature["inputs"]) == sorted(field["name"] for field in self.told["fields"])
            for field in self.told["fields"]:
                tensor = signature["inputs"][field["name"]]
                sizes = [int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]]
                assert (tensor["dtype"], sizes) == (DTYPES[field["datatype"]], field["shape"]), tensor
            assert list(signature["outputs"]) == [self.output], signature

    def ask_classify_and_regress(self):
        for options in ({}, {"signature_name": "serving_default"}):
            body = {"examples": self.rows, **options}
            assert self.post("classify", body) == {"results": [[["", score]] for score in self.expected]}
            assert self.post("regress", body) == {"results": self.expected}
        shared, *_ = self.rows
        context = {name: value for name, value in shared.items() if name != "count"}
        examples = [{"count": shared["count"]}, {"count": [shared["count"] + 1]}]
        first = self.expected[0]
        assert self.post("regress", {"context": context, "examples": examples}) == {"results": [first, first + 1]}

    def ask_predict(self):
        for options in ({}, {"signature_name": "serving_default"}, {"signature_name": ""}):
            assert self.post("predict", {"instances": self.rows, **options}) == {"predictions": self.expected}
            assert self.post("predict", {"inputs": self.columns, **options}) == {"outputs": self.expected}
        encoded = [{"b64": base64.b64encode(text.encode()).decode()} for text in self.columns["tag"]]
        rows = [{**row, "tag": tag} for row, tag in zip(self.rows, encoded, strict=True)]
        assert self.post("predict", {"instances": rows}) == {"predictions": self.expected}
        assert self.post("predict", {"inputs": {**self.columns, "tag": encoded}}) == {"outputs": self.expected}

    def ask_what_is_not_finite(self):
        """Tokens that are no JSON, which Python's `json` and TF Serving write and read."""
        row = self.rows[0]
        for value in (math.nan, math.inf, -math.inf):
            rows = [{**row, "distance": value}]
            (found,) = self.post("predict", {"instances": rows})["predictions"]
            assert repr(found) == repr(value), found

    def ask_what_is_refused(self):
        post, predict = self.http.post, f"{self.urls[0]}:predict"
        for path in ("half", f"{self.model}/versions/999"):
            for answer in (self.http.get(f"{self.root}/{path}"), self.http.get(f"{self.root}/{path}/metadata")):
                self.refused(404, "is not served", answer)
            for method in ("predict", "classify", "regress"):
                self.refused(404, "is not served", post(f"{self.root}/{path}:{method}", json={"instances": self.rows}))
        for path in ("", "/metadata", ":predict"):  # a release has a number, and no label
            ask = post if path == ":predict" else self.http.get
            self.refused(404, "no such address", ask(f"{self.urls[0]}/labels/stable{path}"))
        self.refused(404, "no such address", post(f"{self.urls[0]}:explain", json={}))
        answer = self.http.get(predict)
        self.refused(405, "expected POST", answer)
        assert answer.headers["allow"] == "POST", answer.headers
        for body, sentence in self.bodies_that_are_refused():
            self.refused(400, sentence, post(predict, data=body, headers=FORM))
        body = {"examples": [{**self.rows[0], "count": 1.5}]}
        for method in ("classify", "regress"):
            self.refused(400, "column 'count', row 1: expected an integer", post(f"{self.urls[0]}:{method}", json=body))

    def bodies_that_are_refused(self):
        row = self.rows[0]
        lacking = {name: value for name, value in row.items() if name != "tag"}
        for body, sentence in (
            ({"instances": self.rows, "inputs": self.columns}, "either 'instances' (rows) or 'inputs' (columns)"),
            ({}, "either 'instances' (rows) or 'inputs' (columns)"),
            ({"instances": self.rows, "signature_name": "tensorflow/serving/regress"}, "is not served"),
            ({"instances": [row, lacking]}, "row 2: missing column 'tag'"),
            ({"instances": [{**row, "other": 1}]}, "row 1: unknown column 'other'"),
            ({"instances": [{**row, "distance": [1, 2]}]}, "column 'distance', row 1: expected a number"),
            ({"instances": [{**row, "flag": 1}]}, "column 'flag', row 1: expected a boolean"),
            ({"inputs": {**self.columns, "count": [1]}}, "columns have different numbers of rows"),
            ({"instances": []}, "there are no rows"),
        ):
            yield json.dumps(body), sentence
        yield "{", "not readable as JSON"


def main():
    url, model = sys.argv[1:]
    session = Session(url, model, json.load(sys.stdin))
    with session.http:
        session.ask_status()
        session.ask_metadata()
        session.ask_classify_and_regress()
        session.ask_predict()
        session.ask_what_is_not_finite()
        session.ask_what_is_refused()
    print("passed")


main()
