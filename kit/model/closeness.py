"""How close a LiteRT model is to its SavedModel, measured in a fresh process: `python -m kit.model.closeness`.

Whatever the models or the rows do becomes a sentence in the result, never a number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.environment import EvaluationSource
from kit.errors import KitError, UsageError
from kit.measures import auc
from kit.model.golden import Golden, read_golden
from kit.model.litert import open_litert
from kit.model.probe import ProbeFinding, compare_outputs
from kit.model.rows import read_inputs, read_label
from kit.model.servable import Servable, golden_columns, open_saved_model
from kit.signing import KEY_VARIABLE

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

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
    with tempfile.TemporaryDirectory(prefix="kit-closeness-") as scratch:
        return _run(representations, Path(scratch), timeout_s)


def _run(representations: Representations, scratch: Path, timeout_s: float) -> Closeness:
    asked, answer, log = scratch / "order.json", scratch / "result.json", scratch / "log.txt"
    asked.write_bytes(msgspec.json.encode(representations))
    # -P: a `kit` or `tensorflow` folder that happens to lie in the working directory must not be imported.
    command = [sys.executable, "-P", "-m", "kit.model.closeness", str(asked), str(answer)]
    inherited = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    variables = {**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                command, env=variables, cwd=scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        result = msgspec.json.decode(answer.read_bytes(), type=Closeness)
    except subprocess.TimeoutExpired:
        return Closeness(problem=f"the models were not compared in {timeout_s:g} s")
    except (OSError, msgspec.DecodeError):
        last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2][:300]
        return Closeness(problem=f"the comparing process ended with {done.returncode} and no result: {last}")
    if done.returncode != 0:
        return Closeness(problem=f"the comparing process ended with {done.returncode}")
    return result


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
        line = str(error).strip().partition("\n")[0][:300]
        return Closeness(problem=line if isinstance(error, KitError) else f"{type(error).__name__}: {line}")


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
    expected = _score_rows("the SavedModel", saved_model, rows, source.output)
    scores = _score_rows("the LiteRT model", litert, rows, source.output)
    return msgspec.structs.replace(
        found,
        n_rows=len(labels),
        difference=float(np.abs(scores - expected).max()),
        auc=auc(labels, expected),
        auc_litert=auc(labels, scores),
    )


def _score_rows(what: str, model: Servable, rows: Path, output: str) -> Array:
    """(n,) finite float64 scores of all rows."""
    import numpy as np

    names = [field.name for field in model.signature.outputs]
    if output not in names:
        raise UsageError(f"{what} has no output {output!r}; it gives {', '.join(names)}")
    answers = []
    for batch in read_inputs(rows, model.signature.inputs):
        n_rows, answer = len(next(iter(batch.values()))), model.predict(batch)[output]
        if answer.shape not in ((n_rows,), (n_rows, 1)):
            raise UsageError(f"{what} gives {output!r} of shape {list(answer.shape)}, expected [{n_rows}]")
        answers.append(answer.reshape(-1))
    scores = np.concatenate(answers).astype(np.float64)
    n_broken = int((~np.isfinite(scores)).sum())
    if n_broken:
        raise UsageError(f"{what} gives {output!r} that is not finite in {n_broken:,} of {len(scores):,} rows")
    return scores


def main(asked: str, result: str) -> None:
    """Compare and write the result as JSON; no result file means failure."""
    representations = msgspec.json.decode(Path(asked).read_bytes(), type=Representations)
    Path(result).write_bytes(msgspec.json.encode(measure_closeness(representations)))


if __name__ == "__main__":
    main(*sys.argv[1:])
