"""Checks in a process of their own: for whoever must not import Great Expectations and pandas, and cannot wait forever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from kit.check import CheckResult
from kit.errors import UndecidableError
from kit.expectations.check import check_artifact
from kit.fresh import NoAnswer, ask

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
    found = ask("kit.expectations", list(requests), tuple[CheckResult, ...], timeout_s)
    if isinstance(found, NoAnswer):
        # of the last line only the kind of an exception is told: what it says may hold row values
        kind = found.last_line.partition(":")[0][:100]
        raise UndecidableError(f"the checking process {found.problem}{kind and ': '}{kind}")
    if len(found) != len(requests):
        raise UndecidableError(f"{len(requests)} checks were asked for, {len(found)} answered")
    return found


def check_requests(requests: Sequence[CheckRequest]) -> list[CheckResult]:
    """The process itself: apply all suites, in order."""
    return [
        check_artifact(
            Path(each.path), each.name, Path(each.suite), each.sha256, Path(each.profile) if each.profile else None
        )
        for each in requests
    ]
