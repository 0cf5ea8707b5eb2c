"""The HTML page of a large notebook: `kit open` beside nbconvert's command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.loop.places import KIT, commit, make_project, write_stage
from benchmarks.loop.rounds import Contender, Goal, Result, compare, measure

PICTURE = """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot([k * k % 97 for k in range({n}, {n} + 200)])
plt.show()"""
SOURCES = [PICTURE.format(n=n) if n % 4 == 0 else f"total = sum(range({n}))\nprint(total)" for n in range(100)]


def measure_page(folder: Path, tools: Path, n_rounds: int) -> list[Result]:
    """100 cells with 25 pictures."""
    import subprocess

    del tools
    project = make_project(folder / "page")
    write_stage(project, "trial", "n: int = 1", SOURCES)
    commit(project)
    subprocess.run([str(KIT), "trial", "--env", "dev"], cwd=project, check=True, capture_output=True)
    record = next((project / "archive" / "records").iterdir())
    shutil.copy(record / "executed.ipynb", folder / "page" / "in.ipynb")

    def forget() -> None:
        shutil.rmtree(project / "reports", ignore_errors=True)
        for path in (project / ".kit").glob("reports*"):
            path.unlink()

    nbconvert = [str(Path(sys.executable).with_name("jupyter-nbconvert")), "--to", "html", "in.ipynb"]
    contenders = [
        Contender("nbconvert", nbconvert, folder / "page"),
        Contender("kit open", [str(KIT), "open", record.name, "--no-browser"], project, before=forget),
    ]
    goals = [Goal("HTML page of 100 cells with 25 pictures", "kit open", "nbconvert", 0.35)]
    return compare(goals, measure(contenders, n_rounds))
