"""100 cells of 200 kB output: kit's engine against plain papermill that saves the notebook, in one run.

    python benchmarks/journal.py [N_CELLS]

Prints both times and their ratio; the goal is at most 0.2.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from kit import standins
from kit.engine import Job, PapermillEngine
from kit.record import Status

OUTPUT_BYTES = 200_000


def main() -> None:
    n_cells = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    source = f"for _ in range(20): print('x' * {OUTPUT_BYTES // 20 - 1})"
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for i in range(n_cells)
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernelspec}, "cells": cells}
    standins.install()
    import papermill  # not part of either time

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        outcome = PapermillEngine().execute(Job(notebook=notebook, folder=folder, journal=folder))
        (folder / "executed.ipynb").write_text(json.dumps(outcome.notebook))
        ours_s = time.perf_counter() - start
        assert outcome.status is Status.SUCCEEDED, outcome.failure
        assert all(len(cell["outputs"][0]["text"]) == OUTPUT_BYTES for cell in outcome.notebook["cells"])
        (folder / "source.ipynb").write_text(json.dumps(notebook))
        start = time.perf_counter()
        papermill.execute_notebook(
            str(folder / "source.ipynb"), str(folder / "papermill.ipynb"), cwd=name, progress_bar=False
        )
        papermill_s = time.perf_counter() - start
    print(f"kit {ours_s:.2f} s, papermill {papermill_s:.2f} s, ratio {ours_s / papermill_s:.3f} ({n_cells} cells)")


if __name__ == "__main__":
    main()
