"""`kit lab`, and a stage notebook driven cell by cell through the Jupyter server that it starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

TOKEN = "test-token"
PREPARE = [
    "n: int = 3  # rows",
    "import kit\nstage = kit.open_stage(outputs=['table.csv'])",
    "stage.outputs['table.csv'].write_text('x\\n' * n)",
    "stage.metric('rows', n)",
]
TRAIN = [
    "factor: float = 2.0  # of nothing",
    "import kit\nstage = kit.open_stage(inputs=['table.csv'], outputs=['model.txt'])",
    "stage.outputs['model.txt'].write_text(stage.inputs['table.csv'].read_text())",
    "print(stage.recorded, stage.outputs['model.txt'].read_text().count('x'))",
    "%run prepare.ipynb",
]


def write_notebook(path: Path, cells: list[str]) -> None:
    code = [
        {
            "cell_type": "code",
            "id": f"c{index}",
            "metadata": {"tags": ["parameters"]} if index == 0 else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for index, source in enumerate(cells)
    ]
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": f"# {path.stem}"}
    path.write_text(json.dumps({"cells": [title, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "environments").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.kit]\nname = "tiny"\n')
    (tmp_path / "environments" / "dev.toml").write_text('description = "here"\n')
    write_notebook(tmp_path / "notebooks" / "prepare.ipynb", PREPARE)
    write_notebook(tmp_path / "notebooks" / "train.ipynb", TRAIN)
    return tmp_path


@pytest.fixture
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, runtime folder) of a JupyterLab that `kit lab` started."""
    runtime = tmp_path_factory.mktemp("runtime")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.open_browser=False",
        "--allow-root",
    ]
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(runtime / "config")}
    command = [sys.executable, "-m", "kit.cli", "lab", *options]
    process = subprocess.Popen(
        command, cwd=project, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "is running at" in line:
                break
        yield f"http://127.0.0.1:{port}", runtime
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def call_server(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{address}{path}", data, {"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def execute_cells(address: str, runtime: Path, notebook: str) -> str:
    """Execute a notebook's cells one by one, as JupyterLab does; gives what they wrote to stdout and stderr."""
    from jupyter_client.blocking import BlockingKernelClient

    session = {"path": notebook, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
    kernel = call_server(address, "/api/sessions", session)["kernel"]["id"]
    content = call_server(address, f"/api/contents/{notebook}?content=1")["content"]
    client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels()
    written: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            written.append(message["content"]["text"])

    try:
        client.wait_for_ready(timeout=60)
        for cell in content["cells"]:
            if cell["cell_type"] == "code":
                reply = client.execute_interactive(cell["source"], output_hook=keep, timeout=120)
                assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
    return "".join(written)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_stage_in_jupyterlab_reads_the_newest_record_and_writes_nothing_into_the_archive(
    project: Path, server: tuple[str, Path]
) -> None:
    done = subprocess.run([sys.executable, "-m", "kit.cli", "prepare"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before = sorted(path.relative_to(project) for path in (project / "archive").rglob("*"))

    written = execute_cells(*server, "notebooks/train.ipynb")

    assert "interactive: not recorded" in written
    assert "False 3" in written
    assert sorted(path.relative_to(project) for path in (project / "archive").rglob("*")) == before
