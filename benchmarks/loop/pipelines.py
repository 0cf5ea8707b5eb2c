"""A pipeline in which nothing has changed: `kit all` beside `dvc status` and `dvc repro`."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.loop.places import KIT, commit, make_environment, make_project, write_stage
from benchmarks.loop.rounds import Contender, Cost, Goal, Result, compare, measure

STAGES = ("load", "clean", "enrich", "train")
CHUNK = b"0123456789abcdef" * 65_536  # 1 MiB
N_FILES = 10_000
SETTLED_S = 4.0  # a file that has just changed is hashed again: a clock may not tell two changes apart


def measure_large_input(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """4 stages, an input of 1 GiB."""
    goals = [Goal("nothing to do: 4 stages, an input of 1 GiB", "kit all", "dvc status", 0.15)]
    return compare(goals, _measure(folder / "gigabyte", tools, n_rounds, _write_gibibyte))


def measure_many_files(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """4 stages, an input of 10,000 files."""
    goals = [Goal("nothing to do: 4 stages, an input of 10,000 files", "kit all", "dvc repro", 0.2)]
    return compare(goals, _measure(folder / "files", tools, n_rounds, _write_files))


def _measure(folder: Path, tools: Path, n_rounds: int, write_data: Callable[[Path], None]) -> dict[str, Cost]:
    shutil.rmtree(folder, ignore_errors=True)
    kit, dvc = folder / "kit", folder / "dvc"
    _prepare_kit(kit, write_data)
    programs = make_environment("dvc", tools)
    _prepare_dvc(dvc, programs, write_data)
    quiet = {"DVC_NO_ANALYTICS": "1"}
    contenders = [
        Contender("dvc status", [str(programs / "dvc"), "status"], dvc, quiet),
        Contender("dvc repro", [str(programs / "dvc"), "repro"], dvc, quiet),
        Contender("kit all", [str(KIT), "all", "--env", "dev"], kit),
    ]
    try:
        return measure(contenders, n_rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare_kit(folder: Path, write_data: Callable[[Path], None]) -> None:
    make_project(folder, {"raw": "data/raw"})
    write_data(folder / "data" / "raw")
    before = "raw"
    for name in STAGES:
        write = f"stage.outputs['{name}.txt'].write_text('done')"
        write_stage(folder, name, "n: int = 1", [write], [before], [f"{name}.txt"])
        before = f"{name}.txt"
    commit(folder)
    for _ in range(2):
        subprocess.run([str(KIT), "all", "--env", "dev"], cwd=folder, check=True, capture_output=True)
        time.sleep(SETTLED_S)


def _prepare_dvc(folder: Path, programs: Path, write_data: Callable[[Path], None]) -> None:
    folder.mkdir(parents=True)
    write_data(folder / "raw")
    before, stages = "raw", ["stages:"]
    for name in STAGES:
        command = f"python3 -c \"open('{name}.txt', 'w').write('done')\""
        stages += [f"  {name}:", f"    cmd: {command}", f"    deps: [{before}]", f"    outs: [{name}.txt]"]
        before = f"{name}.txt"
    (folder / "dvc.yaml").write_text("\n".join(stages) + "\n")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for command in (["init", "--quiet"], ["config", "core.analytics", "false"], ["repro", "--quiet"]):
        subprocess.run([str(programs / "dvc"), *command], cwd=folder, check=True, capture_output=True)


def _write_gibibyte(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(CHUNK)


def _write_files(path: Path) -> None:
    for number in range(N_FILES):
        part = path / f"{number // 100:03d}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{number:05d}.txt").write_text(f"file {number}\n" * 20)
