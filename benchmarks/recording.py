"""What recording adds to an execution: hashing, sealing, stating, signing, checkpoint and report, without the kernel.

    python benchmarks/recording.py [MEGABYTES]

The goal is at most 1 s CPU + bytes / 400 MB/s. A function stands for the notebook, and its own time is taken off.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kit.archive import make_checkpoint
from kit.execute import Order
from kit.pipeline import execute_stage
from kit.report import make_page
from kit.testing import FakeEngine, make_key, make_project, make_workbench
from kit.workspace import Context


def main(n_megabytes: int = 500) -> None:
    """Print one line per figure."""
    for size in (0, n_megabytes):
        with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as folder:
            seconds = measure(Path(folder), size)
        print(f"output of {size} MB: {seconds:.2f} s CPU (goal {1 + size / 400:.2f})")


def measure(folder: Path, n_megabytes: int) -> float:
    """CPU seconds of kit for one recorded execution with its page, beside what the notebook itself took."""
    spent = 0.0

    def write(context: Context) -> dict[str, Any]:
        nonlocal spent
        before = time.process_time()
        with Path(context.outputs["table.csv"]).open("wb") as file:
            for _ in range(n_megabytes):
                file.write(os.urandom(1_000_000))
        spent = time.process_time() - before
        return {"rows": 1}

    workbench = make_workbench(make_project(folder), FakeEngine(prepare=write), key=make_key())
    before = time.process_time()
    record = execute_stage(workbench, Order("prepare", "dev")).record
    make_checkpoint(workbench.archive)
    make_page(workbench.project, workbench.archive, record)
    assert record.succeeded, record.failure
    return time.process_time() - before - spent


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
