"""An archive of 100,000 records: searches beside MLflow's over 10,000, and what commands cost there."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.loop.places import KIT, ROOT, commit, make_environment, make_project, write_stage
from benchmarks.loop.rounds import Contender, Goal, Result, compare, measure

N_RECORDS, N_RUNS = 100_000, 10_000
SEARCHES = ("latest 50", "filter", "best by metric")
HERE = Path(__file__).parent


def measure_archive(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """Searches in process, each program asked in turn."""
    archive = _make_archive(folder / "searched")
    mlflow = str(make_environment("mlflow", tools) / "python")
    programs = {
        "kit": [sys.executable, str(HERE / "kit_search.py"), str(archive), str(folder / "index.sqlite")],
        "mlflow": [mlflow, str(HERE / "mlflow_search.py"), str(folder / "mlflow.db"), str(N_RUNS)],
    }
    running = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in programs.items()
    }
    try:
        for program in running.values():
            _read_until_ready(program)
        rounds = [{name: _ask(program) for name, program in running.items()} for _ in range(n_rounds)]
    finally:
        for program in running.values():
            program.kill()
            program.wait()
        shutil.rmtree(archive.parent, ignore_errors=True)
    median = {
        (name, search): statistics.median(each[name][search] for each in rounds)
        for name in running
        for search in SEARCHES
    }
    what = f"{{}} of {N_RECORDS:,} records, in process; MLflow of {N_RUNS:,}"
    return [
        Result(Goal(what.format(search), "kit", "MLflow search", 0.05), median["kit", search], median["mlflow", search])
        for search in SEARCHES
    ]


def measure_commands(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """CPU time of whole commands; `status` in the worked example's project, which has a graph to judge."""
    del tools
    project = make_project(folder / "commands")
    write_stage(project, "train", "n: int = 1", ["print(n)"])
    commit(project)
    _make_archive(project)
    name = max(path.name for path in (project / "archive" / "records").iterdir())
    example = _copy_example(folder / "example")
    commands = {
        "--help": ["--help"],
        "records": ["records"],
        "records, filter and best": ["records", "--where", "units=64", "--best", "auc"],
        "show": ["show", name],
    }
    contenders = [Contender(f"kit {each}", [str(KIT), *command], project) for each, command in commands.items()]
    contenders.append(Contender("kit status", [str(KIT), "status", "--env", "dev"], example))
    goals = [Goal(f"`{each.name}`", each.name, "", 0.15) for each in contenders]
    try:
        return compare(goals, measure(contenders, n_rounds))
    finally:
        shutil.rmtree(project, ignore_errors=True)


def _make_archive(project: Path) -> Path:
    """An archive in a project; made in seconds, because nothing waits for the disk."""
    sys.path.insert(0, str(ROOT / "tests"))
    from archives import make_archive_of

    return make_archive_of(project / "archive", N_RECORDS, n_releases=100)


def _copy_example(folder: Path) -> Path:
    """The worked example, executed once."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    done = subprocess.run([str(KIT), "all", "--env", "dev"], cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return folder


def _read_until_ready(program: subprocess.Popen[str]) -> None:
    assert program.stdout
    for line in program.stdout:
        if line.strip() == "ready":
            return
    sys.exit(f"{program.args}: ended before it was ready")


def _ask(program: subprocess.Popen[str]) -> dict[str, float]:
    assert program.stdin
    assert program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    found: dict[str, float] = json.loads(program.stdout.readline())
    return found
