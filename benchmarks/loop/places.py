"""Where contenders run: an environment for each tool, a project for kit, notebooks for papermill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KIT = Path(sys.executable).with_name("kit")
# tool -> packages of its environment; papermill's with the versions of kit's lock
TOOLS = {
    "papermill": ["papermill", "ipykernel", "pandas", "tensorflow-cpu"],
    "papermill with jupyterlab": ["papermill", "ipykernel", "jupyterlab"],
    "dvc": ["dvc"],
    "mlflow": ["mlflow-skinny", "sqlalchemy", "alembic", "pandas"],
}


def make_environment(tool: str, folder: Path) -> Path:
    """The folder of a tool's programs; installed once, byte code compiled, from the network or uv's cache."""
    place = folder / tool.replace(" ", "-")
    done = place / ".installed"
    if not done.is_file():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        constraints = folder / "constraints.txt"
        constraints.write_text(_versions())
        install = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--compile-bytecode"]
        install += ["--python", str(place / "bin" / "python"), *TOOLS[tool]]
        if tool.startswith("papermill"):  # the others want other versions than kit does
            install += ["--constraint", str(constraints)]
        subprocess.run(install, check=True)
        done.touch()
    return place / "bin"


def describe_versions(tools: Sequence[str], folder: Path) -> dict[str, str]:
    """Tool -> version of its first package."""
    found = {}
    for tool in tools:
        program = [str(make_environment(tool, folder) / "python"), "-c"]
        code = f"import importlib.metadata as m; print(m.version({TOOLS[tool][0]!r}))"
        found[tool] = subprocess.run([*program, code], check=True, capture_output=True, text=True).stdout.strip()
    return found


def _versions() -> str:
    """`name==version` of kit's lock, without hashes."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return "\n".join(line.split(" \\")[0] for line in lines if "==" in line and not line.startswith(" ")) + "\n"


def make_cells(*sources: str) -> list[dict[str, Any]]:
    """Code cells."""
    return [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for n, source in enumerate(sources)
    ]


def encode(cells: Sequence[Mapping[str, Any]]) -> str:
    """A notebook as nbformat 4.5."""
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def write_plain(path: Path, parameters: str, sources: Sequence[str]) -> None:
    """The notebook as papermill executes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(encode(_with_parameters(parameters, sources)))


def write_stage(
    project: Path,
    name: str,
    parameters: str,
    sources: Sequence[str],
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> None:
    """The same notebook as a stage of kit: one cell more, which opens it."""
    opening = f"import kit\nstage = kit.open_stage(inputs={list(inputs)!r}, outputs={list(outputs)!r})"
    cells = _with_parameters(parameters, [opening, *sources])
    (project / "notebooks").mkdir(parents=True, exist_ok=True)
    (project / "notebooks" / f"{name}.ipynb").write_text(encode(cells))


def make_project(folder: Path, data: Mapping[str, str] | None = None) -> Path:
    """A project of kit, in git, with an environment `dev`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "environments").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.kit]\nname = "benchmark"\nexclude = ["data/*"]\n')
    (folder / ".gitignore").write_text("archive/\nreports/\n.kit/\ndata/\n")
    bound = "".join(f'"{name}" = "{place}"\n' for name, place in (data or {}).items())
    (folder / "environments" / "dev.toml").write_text(f"[data]\n{bound}")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def commit(folder: Path) -> None:
    """Commit all that is there."""
    who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    subprocess.run(["git", "-C", str(folder), "add", "--all"], check=True)
    subprocess.run(["git", "-C", str(folder), *who, "commit", "--quiet", "-m", "benchmark"], check=True)


def _with_parameters(parameters: str, sources: Sequence[str]) -> list[dict[str, Any]]:
    cells = make_cells(parameters, *sources)
    cells[0]["metadata"] = {"tags": ["parameters"]}
    return cells
