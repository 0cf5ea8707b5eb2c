"""Executing a notebook: kit, recorded and sealed, beside papermill's command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.places import KIT, commit, make_environment, make_project, write_plain, write_stage
from benchmarks.loop.rounds import Contender, Cost, Goal, Result, compare, measure

TRIVIAL = [f"x{n} = {n}\nprint(x{n})" for n in range(10)]
TENSORFLOW = ["import tensorflow as tf", "import pandas as pd", "print(tf.__version__, pd.__version__)"]
MANY = [f"print({n})" for n in range(200)]
LARGE = [f"print('{n % 10}' * 200_000)" for n in range(100)]
PARAMETERS = "n: int = 1  # changed in each round"


def measure_trivial(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """10 trivial cells."""
    goals = [
        Goal("10 trivial cells, cold, recorded and sealed", "kit --cold", "papermill", 1.0),
        Goal("10 trivial cells, cold, recorded and sealed", "kit --cold", "papermill with jupyterlab", 0.5),
        Goal("10 trivial cells, warm, recorded and sealed", "kit --warm", "papermill", 0.5),
    ]
    others = ("papermill", "papermill with jupyterlab")
    return compare(goals, _measure(folder / "trivial", tools, TRIVIAL, n_rounds, others=others))


def measure_tensorflow(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """A notebook that imports TensorFlow."""
    goals = [Goal("a notebook importing TensorFlow, warm, recorded and sealed", "kit --warm", "papermill", 0.12)]
    return compare(goals, _measure(folder / "tensorflow", tools, TENSORFLOW, n_rounds))


def measure_many(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """200 cells."""
    goals = [
        Goal("200 cells, warm, recorded and sealed", "kit --warm", "papermill", 0.2),
        Goal("200 cells, cold, recorded and sealed", "kit --cold", "papermill", 0.2),
    ]
    costs = _measure(folder / "many", tools, MANY, n_rounds, twice=True)
    return [*compare(goals, costs), *compare([_linear("400 cells beside 200")], costs)]


def measure_large(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """100 cells with 200 kB of output each."""
    goals = [
        Goal("100 cells × 200 kB, warm, recorded and sealed", "kit --warm", "papermill", 0.2),
        Goal("100 cells × 200 kB, cold, recorded and sealed", "kit --cold", "papermill", 0.2),
    ]
    costs = _measure(folder / "large", tools, LARGE, n_rounds, twice=True)
    return [*compare(goals, costs), *compare([_linear("200 cells × 200 kB beside 100")], costs)]


def _linear(what: str) -> Goal:
    return Goal(f"{what}, warm: linear", "kit --warm, twice the cells", "kit --warm", 2.0)


def _measure(
    folder: Path,
    tools: Path,
    sources: Sequence[str],
    n_rounds: int,
    *,
    others: Sequence[str] = ("papermill",),
    twice: bool = False,
) -> dict[str, Cost]:
    write_plain(folder / "plain" / "in.ipynb", PARAMETERS, sources)
    contenders = [
        Contender(
            tool,
            [
                str(make_environment(tool, tools) / "papermill"),
                "in.ipynb",
                "out.ipynb",
                "-p",
                "n",
                "2",
                "--no-progress-bar",
            ],
            folder / "plain",
        )
        for tool in others
    ]
    project = make_project(folder / "kit")
    write_stage(project, "trial", PARAMETERS, sources)
    write_stage(project, "double", PARAMETERS, [*sources, *sources], outputs=[])
    commit(project)
    for start in ("--cold", "--warm"):
        command = [str(KIT), "trial", "--env", "dev", "--n", "2", "--force", start]
        contenders.append(Contender(f"kit {start}", command, project))
    if twice:
        command = [str(KIT), "double", "--env", "dev", "--force", "--warm"]
        contenders.append(Contender("kit --warm, twice the cells", command, project))
    return measure(contenders, n_rounds)
