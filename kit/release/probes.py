"""What a gate has done in fresh processes: models loaded and asked, data checked. Tests give fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kit.check import CheckResult
from kit.expectations import CheckRequest, check_in_process
from kit.model.closeness import compare_representations
from kit.model.evaluate import evaluate_in_process
from kit.release.evaluated import Evaluate
from kit.release.represented import Compare


class ProbeOutcome(msgspec.Struct, frozen=True):
    """What became of loading and querying a model in a fresh process; `detail` says it in one sentence."""

    passed: bool
    detail: str


def probe_model(model: Path, golden: Path) -> ProbeOutcome:
    """Load a SavedModel in a fresh process and compare its golden predictions."""
    from kit.model import probe_saved_model

    result = probe_saved_model(model, golden)
    return ProbeOutcome(result.passed, result.detail)


@dataclass(frozen=True)
class Probes:
    """What a gate asks of fresh processes.

    Attributes:
        model: (SavedModel, golden predictions) -> does it load and say again what it said?
        evaluate: scores the candidate, and what is live, on the same rows.
        check: applies expectation suites to the data that the environment binds.
        compare: asks the LiteRT model and the SavedModel the same.
    """

    model: Callable[[Path, Path], ProbeOutcome] = probe_model
    evaluate: Evaluate = evaluate_in_process
    check: Callable[[Sequence[CheckRequest]], Sequence[CheckResult]] = check_in_process
    compare: Compare = compare_representations


PROBES = Probes()  # the real ones
