"""Real SavedModels that say which they are, a project that promotes them and rolls back, and the server that follows it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lives import Life
from loads import STEP
from servers import Process

from kit.release import roll_back
from kit.testing import DATA
from kit.workspace import Context

MODELS = """
import sys
from pathlib import Path
import numpy as np, tensorflow as tf
from kit.model import save_saved_model, write_golden
def make(folder, constant):
    module = tf.Module()
    module.constant = tf.Variable(constant)
    module.score = tf.function(lambda x: {"sum": x + module.constant}).get_concrete_function(x=tf.TensorSpec([None]))
    save_saved_model(module, folder / "saved_model", {"serving_default": module.score})
    columns = {"x": np.float32([0, 1, 2])}
    write_golden(folder / "golden.json", columns, {"sum": columns["x"] + np.float32(constant)})
for number in range(1, int(sys.argv[2]) + 1):
    make(Path(sys.argv[1]) / str(number), number * float(sys.argv[3]))
"""


def make_models(folder: Path, n_models: int) -> list[Path]:
    """SavedModels with golden rows; the k-th adds k times 1000 to `x`."""
    folder.mkdir(parents=True)
    paths = [folder / str(number) for number in range(1, n_models + 1)]
    for path in paths:
        path.mkdir()
    command = [sys.executable, "-c", MODELS, str(folder), str(n_models), str(STEP)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return paths


class ServedLife(Life):
    """A project whose models were released to staging, each once, and go to production by promotes and rollbacks.

    Args:
        folder: of the project.
        models: as `make_models` gives them; the k-th becomes staging-k.
        poll_s: seconds between two looks of the server.
    """

    def __init__(self, folder: Path, models: Sequence[Path], poll_s: float) -> None:
        super().__init__(folder, {
            "dev": DATA,
            "staging": f'{DATA}[release]\nfrom = "dev"\n',
            "production": f'{DATA}[policy]\npromoted_from = ["staging"]\n[serving]\npoll_s = {poll_s}\n',
        })  # fmt: skip
        self.constants: dict[str, float] = {}  # that a release of production adds
        self.execute("build", "prepare")
        for number, self._model in enumerate(models, start=1):
            self.execute("train", epochs=str(number))
            self.release("staging")

    def _train(self, context: Context) -> dict[str, Any]:
        shutil.copytree(self._model / "saved_model", context.outputs["saved_model"])
        shutil.copy(self._model / "golden.json", context.outputs["golden.json"])
        return {}

    def promote_model(self, number: int) -> str:
        """Take a model through the gate of production; gives the id that is live now."""
        release = self.promote(f"staging-{number}").id
        self.constants[release] = float(number * STEP)
        return release

    def change(self, number: int) -> str:
        """The n-th change of a release that follows another: promotes and rollbacks in turn, never to what is live.

        Promotes take the first three models in turn; rollbacks go to the release before the one that is live, or far back.
        """
        if number % 2 == 0:
            return self.promote_model(1 + number // 2 % 3)
        releases = list(self.constants)
        return self.roll_back_to(releases[-2] if number % 4 == 1 else releases[0])

    def roll_back_to(self, release: str) -> str:
        """Make an earlier release live; gives its id."""
        return roll_back(self.bench, "production", "to see whether it is followed", release).rollback.after

    @contextlib.contextmanager
    def damaged(self, release_id: str) -> Iterator[None]:
        """While entered, the variables of a release's model are others in the archive than its gate admitted."""
        release = self.archive.find_release(release_id)
        assert release
        model = self.archive.read_manifest(release).artifact("saved_model")
        assert model
        files = {file.path: file for file in self.archive.objects.read_tree(model).files}
        path = self.archive.objects.path(files["variables/variables.data-00000-of-00001"].sha256)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        try:
            yield
        finally:
            path.write_bytes(data)


class Server(Process):
    """`kit serve`; its log's events are kept, its lines of requests only counted, as there may be a million."""

    n_requests = 0

    def __init__(self, life: ServedLife) -> None:
        self._n_awaited: Counter[str] = Counter()
        super().__init__(life.project.root, "--env", "production")
        assert self.announced, b"".join(self._texts).decode()

    def _read(self) -> None:
        assert self.process.stderr
        for text in self.process.stderr:
            if text.startswith(b"{") and b'"route":' in text:
                self.n_requests += 1
                continue
            with self._changed:
                self._texts.append(text)
                if text.startswith(b"{"):
                    self.lines.append(json.loads(text))
                self._changed.notify_all()

    def hang_up(self, times: int = 1) -> None:
        """Tell it to look at what is live."""
        for _ in range(times):
            self.process.send_signal(signal.SIGHUP)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While entered, it does nothing, so it sees only what is there at the end."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def wait_for_switch(self, release: str) -> None:
        """Wait until a release has taken over; call it once for each time that one shall."""
        self._n_awaited[release] += 1
        self.wait_for(self._n_awaited[release], event="switched", release=release)

    @property
    def memory_bytes(self) -> int:
        """What it has in memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024
