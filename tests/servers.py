"""Fake models, an application in this process, real releases of small models, and `kit serve` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from kit.archive import VERDICT
from kit.artifact import Artifact
from kit.bundle import make_bundle
from kit.decision import Waiver
from kit.environment import Serving
from kit.files import canonical_json, sha256_bytes
from kit.gate import Evidence, Finding, Release, Verdict
from kit.model.servable import Field, Signature
from kit.record import Code
from kit.server.app import App
from kit.server.following import free
from kit.server.log import Log
from kit.server.metrics import Metrics
from kit.server.served import Current, Identity, Loaded, Served
from kit.signing import SigningKey
from kit.statement import describe_verdict
from kit.testing import START, make_manifest, make_project, make_record, make_workbench, seal_record

FLIGHTS = Signature(
    (Field("carrier", "string"), Field("distance", "float32"), Field("hour", "int64"), Field("is_night", "bool")),
    (Field("p_late", "float32"),),
)
RECORD = {"carrier": "AA", "distance": 100.0, "hour": 7, "is_night": False}
TIMEOUT_S = 120


class FakeModel:
    """Answers `distance / 1000 + offset`, and remembers what it was asked; `act` may do something else before."""

    def __init__(
        self, signature: Signature = FLIGHTS, act: Callable[[Any], Any] = lambda _: None, offset: float = 0.0
    ) -> None:
        self.signature, self._act, self._offset = signature, act, offset
        self.asked: list[dict[str, list[Any]]] = []

    def predict(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """See `Servable`."""
        self.asked.append({name: array.tolist() for name, array in columns.items()})
        changed = self._act(columns)
        if changed is not None:
            return changed
        return {"p_late": (columns["distance"] / 1000 + np.float32(self._offset)).astype(np.float32)}

    @property
    def sizes(self) -> list[int]:
        """Rows of each call."""
        return [len(next(iter(columns.values()))) for columns in self.asked]


def make_loaded(model: Any, folder: Path, release: str = "production-4", **settings: Any) -> Loaded:
    """A release that nobody had to verify."""
    folder.mkdir(parents=True, exist_ok=True)
    number = release.rpartition("-")[2]
    identity = Identity(release, "flights", number, "0" * 64, "serving_default", "tensorflow_savedmodel")
    return Loaded(identity, model, Serving(**settings), folder)


class InProcess:
    """An application in this process, its client, its log and its metrics."""

    def __init__(self, loaded: Loaded) -> None:
        self.lines: list[dict[str, Any]] = []
        self.metrics, self.log = Metrics(), Log(self._read_lines)
        self.served = Served(loaded, self.metrics)
        self.current = Current(self.served, self.metrics)
        self.app = App(self.current, self.metrics, self.log)
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]  # its messages are any mappings
        self.client = httpx.AsyncClient(transport=transport, base_url="http://server")

    def _read_lines(self, data: bytes) -> None:
        self.lines += [json.loads(line) for line in data.splitlines()]

    def figure(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name, labels)

    async def predict(self, **body: Any) -> httpx.Response:
        """TF Serving's predict."""
        return await self.client.post("/v1/models/flights:predict", json=body)

    async def infer(self, **body: Any) -> httpx.Response:
        """The Open Inference Protocol's infer."""
        return await self.client.post("/v2/models/flights/infer", json=body)


@contextlib.asynccontextmanager
async def serving(model: Any, folder: Path, **settings: Any) -> AsyncIterator[InProcess]:
    """While entered, a model is served in this process, without a socket."""
    it = InProcess(make_loaded(model, folder, **settings))
    try:
        async with it.client:
            yield it
    finally:
        await free(it.current.served)


class Shop:
    """A project and its archive, into which releases of any artifacts are put as if its gate had admitted them.

    Args:
        folder: of the project.
        settings: TOML of its environment `production`.
        key: signs what is stated.
    """

    def __init__(self, folder: Path, settings: str = "", key: SigningKey | None = None) -> None:
        data = '[data]\n"raw.csv" = "data/raw.csv"\n'
        self.project = make_project(folder, environments={"dev": data, "production": data + settings})
        self.workbench = make_workbench(self.project, key=key)
        self.archive = self.workbench.archive
        self._n_cut = 0

    def release(
        self, artifacts: Path, waivers: tuple[Waiver, ...] = (), *, damaged: str = "", **changes: Any
    ) -> Release:
        """Release what lies in a folder, each file or folder an artifact.

        Args:
            artifacts: the folder.
            waivers: that the verdict rests on.
            damaged: the artifact whose object is changed before the release has its number.
            changes: to the manifest.
        """
        self._n_cut += 1
        time = START + timedelta(minutes=self._n_cut)
        archive, environment = self.archive, self.project.read_environment("production")
        archive.objects.put_bytes(canonical_json(environment.configuration))
        named = tuple(archive.objects.put_artifact(path.name, path) for path in sorted(artifacts.iterdir()))
        bundle = archive.objects.put_bytes(make_bundle(self.project, tracked_only=False).data)
        code = Code(bundle, "notebooks/train.ipynb", sha256_bytes(b"nb"), None, dirty=True)
        training = make_record(outputs=named, started=time, code=code)
        seal_record(archive, training)
        subjects = {artifact.name: artifact.sha256 for artifact in named} | {"bundle.zip": bundle}
        evidence = (Evidence("model", "model", Finding.HOLDS, "loaded, golden predictions reproduced"),)
        verdict = Verdict("production", environment.sha256, subjects, evidence, waivers=waivers)
        facts = {
            "environment": "production",
            "configuration": environment.configuration,
            "configuration_sha256": environment.sha256,
            "bundle_sha256": bundle,
            "artifacts": named,
            "training_record": training.id,
        }
        manifest = make_manifest(verdict, **{**facts, **changes})
        sha256 = archive.objects.put_bytes(manifest.encode())
        output = Artifact("release.json", sha256, len(manifest.encode()), "application/json")
        record = make_record(stage="release", environment="production", outputs=(output,), started=time, code=code)
        stated = describe_verdict(verdict, record.id, sha256)
        seal_record(archive, record, {VERDICT: archive.state(stated).encode()})
        for artifact in named:
            if artifact.name == damaged:
                path = archive.objects.path(artifact.sha256)
                path.chmod(0o644)
                path.write_bytes(path.read_bytes() + b"x")
        return archive.add_release("production", record, time)


class Process:
    """`kit serve` in a process of its own, on a port that the system chose; its log is read as it is written."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kit.cli", "serve", *arguments, "--port", "0", "--json"],
            cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self._texts: list[bytes] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self.process.stdout
        line = self.process.stdout.readline()  # it comes when the server answers, or ends when the process does
        self.announced: dict[str, str] = json.loads(line) if line.rstrip().endswith(b"}") else {}
        if not self.announced:  # a refusal is told in several lines
            self.refusal = (line + self.process.stdout.read()).decode()
        self.address = self.announced.get("address", "")

    def _read(self) -> None:
        assert self.process.stderr
        for text in self.process.stderr:
            with self._changed:
                self._texts.append(text)
                if text.startswith(b"{"):
                    self.lines.append(json.loads(text))
                self._changed.notify_all()

    def wait_for(self, n_lines: int = 1, **facts: Any) -> dict[str, Any]:
        """The log's line with these facts, the n-th of them; waits until it is written."""

        def find() -> list[dict[str, Any]]:
            return [line for line in self.lines if facts.items() <= line.items()]

        with self._changed:
            assert self._changed.wait_for(lambda: len(find()) >= n_lines, TIMEOUT_S), b"".join(self._texts).decode()
            return find()[n_lines - 1]

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_S)
        self._reader.join()
        return code

    def close(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **variables: str) -> Iterator[Process]:
    """While entered, `kit serve` runs."""
    process = Process(folder, *arguments, **variables)
    try:
        assert process.announced, process.refusal + b"".join(process._texts).decode()
        yield process
    finally:
        process.close()


LITERT = '[serving]\nrepresentation = "litert"\n[gates.litert]\n'


def make_litert(folder: Path, weight: float = 1.0, name: str = "x") -> Path:
    """A training's outputs with a LiteRT model: sigmoid(weight * standardised x); no TensorFlow is needed for it."""
    from litert_models import write_model

    from kit.model import write_golden
    from kit.model.encoding import standardise, write_encoding
    from kit.model.litert import open_litert

    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model.tflite", [weight])
    write_encoding(folder / "encoding.json", [standardise([name], [0.0], [1.0])], output="p")
    columns = {name: np.array([-1.0, 0.0, 2.0, np.nan], np.float32)}
    answers = open_litert(folder / "model.tflite", folder / "encoding.json").predict(columns)
    write_golden(folder / "golden.json", columns, answers)
    return folder


# A model of three fields, made by TensorFlow alone in a process of its own.
SAVED_MODEL = """
import sys
from pathlib import Path
import numpy as np, tensorflow as tf
from kit.model import save_saved_model, write_golden
folder, weight = Path(sys.argv[1]), float(sys.argv[2])
module = tf.Module()
module.weight = tf.Variable(weight)
def score(name, x, y):
    known = tf.cast(tf.strings.length(name), tf.float32)
    return {"p": tf.sigmoid(module.weight * x + y / 10 - known)}
specs = {"name": tf.TensorSpec([None], tf.string), "x": tf.TensorSpec([None]), "y": tf.TensorSpec([None])}
module.score = tf.function(score).get_concrete_function(**specs)
save_saved_model(module, folder / "saved_model", {"serving_default": module.score})
columns = {"name": np.array(["a", "bc", ""], object), "x": np.float32([0.5, 1, -2]), "y": np.float32([1, 2, 3])}
answers = module.score(**{name: tf.constant(values) for name, values in columns.items()})
write_golden(folder / "golden.json", columns, {"p": answers["p"].numpy()})
"""


def make_saved_model(folder: Path, weight: float = 1.0) -> Path:
    """A training's outputs with a SavedModel: saved_model and golden.json."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", SAVED_MODEL, str(folder), str(weight)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder
