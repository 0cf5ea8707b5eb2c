"""Runs the comparisons and prints them as a table; see the package."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.loop.archives import measure_archive, measure_commands
from benchmarks.loop.executions import measure_large, measure_many, measure_tensorflow, measure_trivial
from benchmarks.loop.pages import measure_page
from benchmarks.loop.pipelines import measure_large_input, measure_many_files
from benchmarks.loop.places import ROOT, describe_versions
from benchmarks.loop.rounds import Result
from benchmarks.loop.sweeps import measure_tensorflow_sweep, measure_trivial_sweep

CASES: dict[str, Callable[[Path, Path, int], list[Result]]] = {
    "trivial": measure_trivial,
    "tensorflow": measure_tensorflow,
    "many-cells": measure_many,
    "large-outputs": measure_large,
    "large-input": measure_large_input,
    "many-files": measure_many_files,
    "commands": measure_commands,
    "sweep-tensorflow": measure_tensorflow_sweep,
    "sweep-trivial": measure_trivial_sweep,
    "archive": measure_archive,
    "page": measure_page,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more comes before them")
    parser.add_argument("--only", nargs="*", choices=[*CASES], default=[*CASES], help="only these cases")
    parser.add_argument(
        "--tools", type=Path, default=ROOT / ".kit" / "benchmarks", help="where the other tools are installed"
    )
    parser.add_argument("--folder", type=Path, help="where the cases run; a temporary folder without")
    options = parser.parse_args()
    options.tools.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-", dir=options.folder) as folder:
        results = []
        for name in options.only:
            print(name, file=sys.stderr)
            results += CASES[name](Path(folder), options.tools, options.rounds)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {options.rounds} rounds. {_describe_machine()}\n")
    print(", ".join(f"{tool} {found}" for tool, found in _versions(options.tools).items()), end=".\n\n")
    print("\n".join(_table(results)))
    sys.exit(0 if all(result.holds for result in results) else 1)


def _table(results: Iterable[Result]) -> Iterable[str]:
    yield "| what | kit | beside | | ratio | goal | |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        goal = result.goal
        if result.theirs_s is None:
            yield f"| {goal.what} | {result.ours_s:.3f} s CPU | – | | | ≤ {goal.limit} s | {_verdict(result)} |"
        else:
            yield (
                f"| {goal.what} | {_seconds(result.ours_s)} | {goal.theirs} | {_seconds(result.theirs_s)} | "
                f"{result.value:.3g} | ≤ {goal.limit} | {_verdict(result)} |"
            )


def _verdict(result: Result) -> str:
    return "met" if result.holds else "missed"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.2f} ms"


def _versions(tools: Path) -> dict[str, str]:
    own = {name: version(name) for name in ("papermill", "nbconvert", "tensorflow-cpu", "ipykernel")}
    return {
        "kit": version("kit-ml"),
        "Python": platform.python_version(),
        **own,
        **describe_versions(["dvc", "mlflow"], tools),
    }


def _describe_machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}"


if __name__ == "__main__":
    main()
