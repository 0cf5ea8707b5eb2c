"""32 points of a sweep on all cores: `kit sweep` beside `xargs -P2 papermill`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.executions import TENSORFLOW, TRIVIAL
from benchmarks.loop.places import KIT, commit, make_environment, make_project, write_plain, write_stage
from benchmarks.loop.rounds import Contender, Goal, Result, compare, measure

N_POINTS = 32
PARAMETERS = "n: int = 1  # the point"


def measure_trivial_sweep(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """Trivial cells."""
    goals = [Goal("a sweep of 32, trivial notebook, 2 cores", "kit sweep", "xargs -P2 papermill", 0.35)]
    return _measure(folder / "sweep", tools, TRIVIAL, n_rounds, goals)


def measure_tensorflow_sweep(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """A notebook that imports TensorFlow."""
    goals = [Goal("a sweep of 32, TensorFlow-importing notebook, 2 cores", "kit sweep", "xargs -P2 papermill", 0.15)]
    return _measure(folder / "tensorflow-sweep", tools, TENSORFLOW, n_rounds, goals)


def _measure(folder: Path, tools: Path, sources: Sequence[str], n_rounds: int, goals: Sequence[Goal]) -> list[Result]:
    write_plain(folder / "plain" / "in.ipynb", PARAMETERS, sources)
    papermill = make_environment("papermill", tools) / "papermill"
    each = f"seq {N_POINTS} | xargs -P2 -I@ {papermill} in.ipynb out-@.ipynb -p n @ --no-progress-bar"
    project = make_project(folder / "kit")
    write_stage(project, "trial", PARAMETERS, sources)
    commit(project)
    grid = "n=" + ",".join(map(str, range(1, N_POINTS + 1)))

    def forget() -> None:
        shutil.rmtree(project / "archive", ignore_errors=True)
        (project / ".kit" / "ledger.json").unlink(missing_ok=True)  # it would notice that the archive was replaced

    def count() -> None:
        n_sealed = sum(1 for _ in (project / "archive" / "records").glob("*/statement.dsse.json"))
        assert n_sealed == N_POINTS, f"{n_sealed} records of {N_POINTS}"

    command = [str(KIT), "sweep", "trial", "--env", "dev", "--grid", grid, "--workers", "2"]
    contenders = [
        Contender("xargs -P2 papermill", ["sh", "-c", each], folder / "plain"),
        Contender("kit sweep", command, project, before=forget, after=count),
    ]
    return compare(goals, measure(contenders, n_rounds))
