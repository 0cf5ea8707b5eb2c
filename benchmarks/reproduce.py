"""Repeats a record and counts false alarms: `python benchmarks/reproduce.py PROJECT RECORD [N]`, N = 20.

Run it in a project whose stages were executed with the kit that is installed. Prints one line for each repeat and a
summary: level, findings, seconds of which executing took how many.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from kit.archive import open_archive
from kit.engine import PapermillEngine
from kit.execute import Workbench
from kit.project import find_project
from kit.reproduce import reproduce


def main(folder: str, name: str, n: str = "20") -> int:
    project = find_project(Path(folder))
    archive = open_archive(project.archive, project.name)
    bench = Workbench(project, archive, PapermillEngine())
    alarms, around_s = 0, []
    for number in range(1, int(n) + 1):
        start = time.perf_counter()
        report = reproduce(bench, name)
        wall_s = time.perf_counter() - start
        (stage,) = report.stages
        executed_s = (archive.read_record(stage.again).wall_s or 0.0) if stage.again else 0.0
        around_s.append(wall_s - executed_s)
        alarms += report.exit_code != 0
        print(f"{number:3} {report.level} {wall_s:.2f} s, executing {executed_s:.2f} s", *report.findings, flush=True)
    print(
        f"{n} repeats of {name}: {alarms} false alarms; comparing and entering {statistics.median(around_s):.3f} s (median)"
    )
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
