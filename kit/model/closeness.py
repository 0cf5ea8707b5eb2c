"""How close a LiteRT model is to its SavedModel, measured in a fresh process: `python -m kit.model.closeness`.

Whatever the models or the rows do becomes a sentence in the result, never a number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from kit.environment import EvaluationSource
from kit.fresh import NoAnswer, answer, ask, first_line
from kit.measures import auc
from kit.model.golden import Golden, read_golden
from kit.model.importing import QUIET
from kit.model.litert import open_litert
from kit.model.probe import ProbeFinding, compare_outputs
from kit.model.rows import read_label
from kit.model.scores import score_rows
from kit.model.servable import Servable, golden_columns, open_saved_model

TIMEOUT_S = 900.0


class Representations(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two representations of one model, and what they are compared on; paths are absolute.

    Attributes:
        saved_model: the folder.
        golden: its golden predictions.
        litert: the LiteRT model.
        encoding: of its input.
        rows: the Parquet file with the evaluation rows; empty for none.
        source: names label and output of these rows; None for none.
    """

    saved_model: str
    golden: str
    litert: str
    encoding: str
    rows: str = ""
    source: EvaluationSource | None = None


class Closeness(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How close they are. A number that is not finite is None, as one that nothing gave.

    Attributes:
        problem: why they could not be compared, on golden predictions or on evaluation rows; empty if they could.
        n_golden: golden predictions that were compared.
        golden_difference: largest absolute difference of LiteRT from these.
        n_rows: evaluation rows that were compared.
        difference: largest absolute difference of LiteRT from the SavedModel on these.
        auc: of the SavedModel on these.
        auc_litert: of the LiteRT model on these.
    """

    problem: str = ""
    n_golden: int = 0
    golden_difference: float | None = None
    n_rows: int = 0
    difference: float | None = None
    auc: float | None = None
    auc_litert: float | None = None


def compare_representations(representations: Representations, timeout_s: float = TIMEOUT_S) -> Closeness:
    """Compare in a fresh process, which has no signing key; whatever happens becomes a result.

    Args:
        representations: what is compared on what.
        timeout_s: for the whole process; loading TensorFlow takes several seconds of it.
    """
    found = ask("kit.model.closeness", representations, Closeness, timeout_s, QUIET)
    return Closeness(problem=found.describe("the comparing process")) if isinstance(found, NoAnswer) else found


def measure_closeness(representations: Representations) -> Closeness:
    """The comparison itself; runs whatever the models are, so only ever in a process of its own.

    TensorFlow is loaded only if there are evaluation rows; golden predictions are the SavedModel's word already.
    """
    try:
        litert = open_litert(Path(representations.litert), Path(representations.encoding))
        golden = read_golden(Path(representations.golden))
        found = compare_with_golden(litert, golden)
        if found.problem or representations.source is None:
            return found
        saved_model = open_saved_model(Path(representations.saved_model), golden.signature)
        rows = Path(representations.rows)
        return compare_on_rows(found, saved_model, litert, rows, representations.source)
    except Exception as error:  # noqa: BLE001  a broken model can raise anything; it becomes a sentence
        return Closeness(problem=first_line(error))


def compare_with_golden(model: Servable, golden: Golden) -> Closeness:
    """How far a model is from golden predictions.

    Raises:
        IntegrityError: it takes other fields.
    """
    answers = model.predict(golden_columns(golden, model.signature))
    result = compare_outputs(golden, answers)
    if result.finding not in (ProbeFinding.REPRODUCED, ProbeFinding.DIFFERS):
        return Closeness(problem=result.detail)
    return Closeness(n_golden=result.n_rows, golden_difference=result.max_difference)


def compare_on_rows(
    found: Closeness, saved_model: Servable, litert: Servable, rows: Path, source: EvaluationSource
) -> Closeness:
    """Add to what golden predictions showed how far two models are apart on evaluation rows, read in batches.

    Raises:
        UsageError: a column or output is missing or of another kind, or the labels have no AUC.
        IntegrityError: the rows cannot be read.
    """
    import numpy as np

    labels = read_label(rows, source.label)
    expected = score_rows(saved_model, rows, source.output, "the SavedModel").astype(np.float64)
    scores = score_rows(litert, rows, source.output, "the LiteRT model").astype(np.float64)
    return msgspec.structs.replace(
        found,
        n_rows=len(labels),
        difference=float(np.abs(scores - expected).max()),
        auc=auc(labels, expected),
        auc_litert=auc(labels, scores),
    )


if __name__ == "__main__":
    answer(sys.argv[1:], Representations, measure_closeness)
