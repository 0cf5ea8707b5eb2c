"""Probes of gates that load no model: a SavedModel is a text that ends with how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.model.evaluate import Evaluation, EvaluationOrder, Measured, Scored
from kit.release import ProbeOutcome, Probes
from kit.testing import write_outputs
from kit.workspace import Context

# the rows on which such models are compared are never read, but the training must have written them
EVALUATION = '[gates.evaluation]\ndata = "golden.json"\nlabel = "is_late"\noutput = "p_late"\n'


def answer(_model: Path, _golden: Path) -> ProbeOutcome:
    """A model that loads and answers."""
    return ProbeOutcome(True, "loaded, golden predictions reproduced")


def score_again(order: EvaluationOrder) -> Evaluation:
    """What each model's text says of it."""
    candidate, live = _score(order.candidate), _score(order.live) if order.live else None
    return Evaluation("", 100, {}, candidate, live)


def _score(model: str) -> Scored:
    auc = float(Path(model).read_text(encoding="utf-8").split()[-1])
    return Scored("", Measured(100, {"auc": auc}))


def write_model(context: Context, auc: float) -> Mapping[str, Any]:
    """What a training leaves whose model is that good."""
    write_outputs(context)
    Path(context.outputs["saved_model"]).write_text(f"auc {auc}", encoding="utf-8")
    return {"auc": auc}


GOOD = Probes(answer, evaluate=score_again)
