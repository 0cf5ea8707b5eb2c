"""What serving costs: `kit serve`, mlserver and bentoml on the same SavedModel, by the same load generator, in one run.

python benchmarks/serving.py [--rounds 3] [--seconds 5] [--only kit]

Trains the worked example's model on its sample (24 fields), makes an environment each for mlserver and bentoml in a
temporary folder (needs the network), starts all servers, and asks one after the other, round by round:
CPU time of all of a server's processes per request at 16 connections, latency at 1 connection, and, in a process of its
own, the bare signature call. Prints medians over the rounds, and ratios of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

ROOT = Path(__file__).parents[1]
N_CONNECTIONS = 16
START_S = 120.0
GOAL_RATIO, GOAL_MS = 5.0, 2.0

TRAINING = """
import sys
from pathlib import Path
root, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(root / "notebooks"))
from kit.model import pin_determinism, save_saved_model, write_golden
pin_determinism(seed=7, threads=2)
import delay_model, flights, pandas as pd
names = ("flights-sample", "weather", "planes")
prepared = flights.prepare_flights(*(pd.read_parquet(root / f"notebooks/data/{name}.parquet") for name in names))
table, _ = flights.label_flights(prepared)
text, numbers = flights.feature_names("honest")
train = table[table["split"] == "train"]
records = delay_model.to_records(train, text, numbers)
encoder = delay_model.build_encoder(train, text, numbers)
encoded = delay_model.encode(encoder, records)
inner = delay_model.build_inner(encoded.shape[1], 32, 1e-3)
inner.fit(encoded, train["is_late"].to_numpy("float32"), epochs=1, batch_size=1024, verbose=0)
module, signatures = delay_model.build_serving(delay_model.build_outer(encoder, inner), text, numbers)
save_saved_model(module, folder / "saved_model", signatures)
golden = delay_model.to_records(train.sample(100, random_state=7), text, numbers)
write_golden(folder / "golden.json", golden, {"p_late": delay_model.load_scorer(folder / "saved_model")(golden)})
"""

# The signature as it is, one row, tensors made for each call.
BARE = """
import json, sys, time
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1] + "/saved_model")
signature = loaded.signatures["serving_default"]
specs = signature.structured_input_signature[1]
golden = json.load(open(sys.argv[1] + "/golden.json"))["inputs"]
row = {
    name: np.array([golden[name][0] or ""], object) if spec.dtype == tf.string
    else np.array([np.nan if golden[name][0] is None else golden[name][0]], np.float32)
    for name, spec in specs.items()
}
times = []
end, cpu = time.perf_counter() + float(sys.argv[2]), time.process_time()
while time.perf_counter() < end:
    start = time.perf_counter()
    signature(**{name: tf.constant(values) for name, values in row.items()})["p_late"].numpy()
    times.append(time.perf_counter() - start)
print(json.dumps({"seconds": times, "cpu_s": time.process_time() - cpu}))
"""

MLSERVER = """
import os
import numpy as np, tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
class SavedModel(MLModel):
    async def load(self):
        self.loaded = tf.saved_model.load(os.environ["SAVED_MODEL"])
        self.signature = self.loaded.signatures["serving_default"]
        return True
    async def predict(self, payload):
        fields = {}
        for each in payload.inputs:
            is_text = each.datatype == "BYTES"
            values = np.array(list(each.data), object) if is_text else NumpyCodec.decode_input(each)
            fields[each.name] = tf.constant(values.reshape(-1))
        scores = self.signature(**fields)["p_late"].numpy()
        outputs = [NumpyCodec.encode_output("p_late", scores)]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)
"""

BENTOML = """
import os
import bentoml
import numpy as np
@bentoml.service(workers=1)
class Scorer:
    def __init__(self):
        import tensorflow as tf
        self.tf = tf
        self.loaded = tf.saved_model.load(os.environ["SAVED_MODEL"])
        self.signature = self.loaded.signatures["serving_default"]
        self.specs = self.signature.structured_input_signature[1]
    @bentoml.api
    def predict(self, instances: list[dict]) -> list[float]:
        tf = self.tf
        fields = {}
        for name, spec in self.specs.items():
            column = [row[name] for row in instances]
            if spec.dtype == tf.string:
                fields[name] = tf.constant(np.array(column, object))
            else:
                fields[name] = tf.constant(np.array(column, np.float32))
        return self.signature(**fields)["p_late"].numpy().tolist()
"""


class Target(NamedTuple):
    """A server that answers: its process, where, and the bytes of one request."""

    name: str
    pid: int
    port: int
    request: bytes


class Measured(NamedTuple):
    """One look at a server; times in microseconds."""

    cpu_us: float
    per_s: float
    p50_us: float
    p99_us: float


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until an end."""

    def __init__(self, request: bytes, end: float, done: asyncio.Future[None]) -> None:
        self.request, self.end, self.done = request, end, done
        self.times: list[float] = []
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._start = time.perf_counter()
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        now = time.perf_counter()
        if b" 200 " not in head[:20]:
            self.done.set_exception(RuntimeError(self._data[:2000].decode()))
            return
        self.times.append(now - self._start)
        self._data = b""
        if now < self.end:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))


async def ask(target: Target, n_connections: int, seconds: float) -> Measured:
    """Ask for some time."""
    loop = asyncio.get_running_loop()
    cpu, start = cpu_of(target.pid), time.perf_counter()
    clients = []
    for _ in range(n_connections):
        client = Client(target.request, start + seconds, loop.create_future())
        await loop.create_connection(lambda client=client: client, "127.0.0.1", target.port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    cpu, wall = cpu_of(target.pid) - cpu, time.perf_counter() - start
    times = sorted(value for client in clients for value in client.times)
    return Measured(
        cpu / len(times) * 1e6, len(times) / wall, percentile(times, 0.5) * 1e6, percentile(times, 0.99) * 1e6
    )


def percentile(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all that it started and that still run."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            number = int(path.parent.name)
            parents[number] = int(fields[1])
            seconds[number] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family, grown = {pid}, True
    while grown:
        grown = {child for child, parent in parents.items() if parent in family} - family
        family |= grown
    return sum(seconds.get(number, 0.0) for number in family)


def encode(path: str, content: Any) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def started(command: list[str], folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """While entered, a server runs in a session of its own; its output goes to a file."""
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(target: Target, process: subprocess.Popen[bytes], folder: Path) -> Target:
    """Wait until a server answers, and warm it up."""
    end = time.monotonic() + START_S
    while True:
        try:
            uvloop.run(ask(target, 1, 0.5))
            return target
        except (OSError, RuntimeError) as error:
            if time.monotonic() > end or process.poll() is not None:
                output = (folder / "output.txt").read_text()[-3000:]
                raise SystemExit(f"{target.name} does not answer: {error}\n{output}") from error
            time.sleep(0.5)


@contextlib.contextmanager
def serving_kit(folder: Path, model: Path, row: dict[str, Any]) -> Iterator[list[Target]]:
    """`kit serve`, asked by both protocols."""
    sys.path.insert(0, str(ROOT / "tests"))
    from servers import Shop

    Shop(folder / "project", '[serving]\nname = "flights"\n').release(model)
    port = free_port()
    command = [sys.executable, "-m", "kit.cli", "serve", "--env", "production", "--port", str(port)]
    with started(command, folder / "project") as process:
        targets = [
            Target("kit, v1", process.pid, port, encode("/v1/models/flights:predict", {"instances": [row]})),
            Target("kit, v2", process.pid, port, encode("/v2/models/flights/infer", as_tensors(row))),
        ]
        yield [wait_for(target, process, folder / "project") for target in targets]


def as_tensors(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the Open Inference Protocol."""
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP32", "data": [value]}
            for name, value in row.items()
        ]
    }


@contextlib.contextmanager
def serving_mlserver(folder: Path, model: Path, row: dict[str, Any]) -> Iterator[list[Target]]:
    """mlserver with the model in its own process, which costs less than its workers."""
    python, version = make_environment(folder, "mlserver")
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "runtime.py").write_text(MLSERVER)
    (folder / "settings.json").write_text(json.dumps({**ports, "host": "127.0.0.1", "parallel_workers": 0}))
    (folder / "model-settings.json").write_text(json.dumps({"name": "flights", "implementation": "runtime.SavedModel"}))
    command = [str(python.parent / "mlserver"), "start", "."]
    with started(command, folder, SAVED_MODEL=str(model / "saved_model"), PYTHONPATH=str(folder)) as process:
        request = encode("/v2/models/flights/infer", as_tensors(row))
        yield [wait_for(Target(f"mlserver {version}", process.pid, ports["http_port"], request), process, folder)]


@contextlib.contextmanager
def serving_bentoml(folder: Path, model: Path, row: dict[str, Any]) -> Iterator[list[Target]]:
    """bentoml with one worker."""
    python, version = make_environment(folder, "bentoml")
    port = free_port()
    (folder / "service.py").write_text(BENTOML)
    command = [str(python.parent / "bentoml"), "serve", "service:Scorer", "--port", str(port), "--host", "127.0.0.1"]
    variables = {"SAVED_MODEL": str(model / "saved_model"), "BENTOML_DO_NOT_TRACK": "True"}
    with started(command, folder, BENTOML_HOME=str(folder / "home"), **variables) as process:
        request = encode("/predict", {"instances": [row]})
        yield [wait_for(Target(f"bentoml {version}", process.pid, port, request), process, folder)]


def make_environment(folder: Path, package: str) -> tuple[Path, str]:
    """An environment with a package and this one's TensorFlow; gives its Python and the package's version."""
    from importlib.metadata import version

    folder.mkdir(parents=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    wanted = [package, f"tensorflow-cpu=={version('tensorflow-cpu')}"]
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, *wanted], check=True)
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return python, done.stdout.strip()


SERVERS = {"kit": serving_kit, "mlserver": serving_mlserver, "bentoml": serving_bentoml}


def measure_bare(model: Path, seconds: float) -> Measured:
    """The bare signature call in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(model), str(seconds)], check=True, capture_output=True, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    found = json.loads(done.stdout)
    times = sorted(found["seconds"])
    cpu_us = found["cpu_s"] / len(times) * 1e6
    return Measured(cpu_us, len(times) / seconds, percentile(times, 0.5) * 1e6, percentile(times, 0.99) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", choices=SERVERS, action="append", help="without it all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        model = folder / "model"
        model.mkdir()
        subprocess.run([sys.executable, "-c", TRAINING, str(ROOT), str(model)], check=True, capture_output=True)
        golden = json.loads((model / "golden.json").read_text())["inputs"]
        # mlserver and bentoml know no missing numbers in JSON: they are asked about a row without any
        row = next(
            row for row in (dict(zip(golden, values, strict=True)) for values in zip(*golden.values(), strict=True))
            if None not in row.values()
        )  # fmt: skip
        targets = [
            target
            for server in options.only or SERVERS
            for target in stack.enter_context(SERVERS[server](folder / server, model, row))
        ]
        report(measure(targets, model, options.rounds, options.seconds))


def measure(targets: list[Target], model: Path, rounds: int, seconds: float) -> dict[str, dict[int, list[Measured]]]:
    """Figures by server and number of connections; all servers take turns in each round."""
    found: dict[str, dict[int, list[Measured]]] = {"bare signature": {1: []}}
    found |= {target.name: {1: [], N_CONNECTIONS: []} for target in targets}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        found["bare signature"][1].append(measure_bare(model, seconds))
        for target in targets:
            for n_connections in (N_CONNECTIONS, 1):
                found[target.name][n_connections].append(uvloop.run(ask(target, n_connections, seconds)))
    return found


def report(found: dict[str, dict[int, list[Measured]]]) -> None:
    """A table of medians, and how they stand to the goals."""

    def median(name: str, n_connections: int, figure: str) -> float:
        return statistics.median(getattr(each, figure) for each in found[name][n_connections])

    names = [name for name in found if N_CONNECTIONS in found[name]]
    base = median(names[0], N_CONNECTIONS, "cpu_us")
    print(f"{'':22}{'16 connections':>34}{'1 connection':>30}")
    print(f"{'':22}{'CPU µs/request':>16}{'ratio':>8}{'per s':>10}{'CPU µs':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for name in found:
        many = " " * 34
        if N_CONNECTIONS in found[name]:
            cpu_us = median(name, N_CONNECTIONS, "cpu_us")
            many = f"{cpu_us:16,.0f}{cpu_us / base:8.2f}{median(name, N_CONNECTIONS, 'per_s'):10,.0f}"
        one = [median(name, 1, figure) for figure in ("cpu_us", "p50_us", "p99_us")]
        print(f"{name:22}{many}{one[0]:12,.0f}{one[1] / 1000:9.2f}{one[2] / 1000:9.2f}")
    others = [median(name, N_CONNECTIONS, "cpu_us") for name in names if not name.startswith("kit")]
    if others:
        ratio = min(others) / max(median(name, N_CONNECTIONS, "cpu_us") for name in names if name.startswith("kit"))
        print(f"CPU per request: the others' least is {ratio:.1f} × kit's most (goal: at least {GOAL_RATIO:g})")
    limit_ms = 2 * median("bare signature", 1, "p99_us") / 1000 + GOAL_MS
    slowest = max((median(name, 1, "p99_us") / 1000 for name in names if name.startswith("kit")), default=0.0)
    print(f"p99 at 1 connection: kit {slowest:.2f} ms, goal: at most 2 × bare p99 + {GOAL_MS:g} ms = {limit_ms:.2f} ms")


if __name__ == "__main__":
    main()
