"""Checks in a process of their own: for whoever must not import Great Expectations and pandas, and cannot wait forever."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kit.check import CheckResult
from kit.errors import UndecidableError
from kit.expectations.check import check_artifact
from kit.signing import KEY_VARIABLE

TIMEOUT_S = 900.0


class CheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One check: the arguments of `check_artifact`, paths as texts."""

    path: str
    name: str
    suite: str
    sha256: str
    profile: str | None = None


def check_in_process(requests: Sequence[CheckRequest], timeout_s: float = TIMEOUT_S) -> tuple[CheckResult, ...]:
    """Apply suites to artifacts, all in one fresh process.

    Args:
        requests: paths must be absolute.
        timeout_s: for the whole process; importing Great Expectations takes several seconds of it.

    Returns:
        One result for each request, in order.

    Raises:
        UndecidableError: the process took too long, died, or left no readable answer.
    """
    with tempfile.TemporaryDirectory(prefix="kit-checks-") as folder:
        asked, answer, log = (Path(folder) / name for name in ("requests.json", "results.json", "log.txt"))
        asked.write_bytes(msgspec.json.encode(list(requests)))
        # -P: a `kit` or `pandas` folder that happens to lie in the working directory must not be imported.
        command = [sys.executable, "-P", "-m", "kit.expectations", str(asked), str(answer)]
        variables = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        try:
            with log.open("wb") as output:
                done = subprocess.run(
                    command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    timeout=timeout_s, check=False,
                )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UndecidableError(f"the checks did not end in {timeout_s:g} s") from None
        if done.returncode != 0:
            raise UndecidableError(f"the checking process ended with {done.returncode}: {_last_error(log)}")
        return _read_results(answer, len(requests))


def answer_requests(requests: Path, answer: Path) -> None:
    """The process itself: read requests, write their results as JSON; no file means failure."""
    asked = msgspec.json.decode(requests.read_bytes(), type=list[CheckRequest])
    results = [
        check_artifact(Path(a.path), a.name, Path(a.suite), a.sha256, Path(a.profile) if a.profile else None)
        for a in asked
    ]
    answer.write_bytes(msgspec.json.encode(results))


def _read_results(answer: Path, n_expected: int) -> tuple[CheckResult, ...]:
    try:
        results = msgspec.json.decode(answer.read_bytes(), type=tuple[CheckResult, ...])
    except (OSError, msgspec.DecodeError) as error:
        raise UndecidableError(f"the checking process left no readable answer: {type(error).__name__}") from error
    if len(results) != n_expected:
        raise UndecidableError(f"{n_expected} checks were asked for, {len(results)} answered")
    return results


def _last_error(log: Path) -> str:
    """The kind of the last exception in a log; what it says may hold row values."""
    last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
    return last.partition(":")[0][:100] or "it said nothing"
