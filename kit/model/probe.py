"""Does a SavedModel load in a fresh process and say again what it said when it was trained?"""

from __future__ import annotations

import enum
import math
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import IntegrityError
from kit.fresh import NoAnswer, ask, first_line
from kit.model.golden import Golden, read_golden
from kit.model.importing import QUIET, import_tensorflow_without_keras
from kit.model.servable import SIGNATURE

TIMEOUT_S = 300.0


class ProbeFinding(enum.StrEnum):
    """How a probe ended. Only `REPRODUCED` is success."""

    REPRODUCED = "reproduced"
    NO_GOLDEN = "no-golden"
    NOT_LOADED = "not-loaded"
    NO_SIGNATURE = "no-signature"
    REFUSED_INPUT = "refused-input"
    NO_OUTPUT = "no-output"
    OTHER_SHAPE = "other-shape"
    NOT_FINITE = "not-finite"
    DIFFERS = "differs"
    TIMED_OUT = "timed-out"
    DIED = "died"


class ProbeResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a probe found.

    Attributes:
        finding: how it ended.
        detail: one sentence with what was expected and found.
        n_rows: golden rows that were compared.
        max_difference: largest absolute difference; None where nothing was compared.
    """

    finding: ProbeFinding
    detail: str
    n_rows: int = 0
    max_difference: float | None = None

    @property
    def passed(self) -> bool:
        """True only if rows were compared and all were reproduced."""
        return self.finding is ProbeFinding.REPRODUCED and self.n_rows > 0


class ProbeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A SavedModel's folder and its golden predictions; paths are absolute."""

    saved_model: str
    golden: str


def probe_saved_model(folder: Path, golden: Path, timeout_s: float = TIMEOUT_S) -> ProbeResult:
    """Load a SavedModel in a fresh process, query it with golden inputs, compare with golden outputs.

    Whatever happens becomes a result; nothing but all rows reproduced is a success.

    Args:
        folder: the SavedModel.
        golden: as `write_golden` wrote it.
        timeout_s: for the whole process; loading TensorFlow takes several seconds of it.
    """
    try:
        read_golden(golden)
    except IntegrityError as error:
        return ProbeResult(ProbeFinding.NO_GOLDEN, str(error))
    order = ProbeOrder(str(folder.resolve()), str(golden.resolve()))
    found = ask("kit.model", order, ProbeResult, timeout_s, QUIET)
    if isinstance(found, NoAnswer):
        finding = ProbeFinding.TIMED_OUT if found.is_late else ProbeFinding.DIED
        return ProbeResult(finding, found.describe("the probing process"))
    return found


def query_and_compare(folder: Path, golden: Golden) -> ProbeResult:
    """The probe itself; imports TensorFlow and runs whatever the model is, so only ever in a process of its own."""
    if golden.signature != SIGNATURE:
        detail = f"golden predictions are of signature {golden.signature!r}; what is measured, scored and served is {SIGNATURE!r}"
        return ProbeResult(ProbeFinding.NO_SIGNATURE, detail)
    import_tensorflow_without_keras()
    import tensorflow

    try:
        model = tensorflow.saved_model.load(str(folder))
    except Exception as error:  # noqa: BLE001  a broken model can raise anything; it becomes a finding
        return ProbeResult(ProbeFinding.NOT_LOADED, f"{folder.name} does not load: {first_line(error)}")
    signatures = getattr(model, "signatures", {})
    if golden.signature not in signatures:
        found = ", ".join(sorted(signatures)) or "none"
        return ProbeResult(ProbeFinding.NO_SIGNATURE, f"no signature {golden.signature!r}; the model has {found}")
    try:
        answers = signatures[golden.signature](**_to_tensors(signatures[golden.signature], golden, tensorflow))
    except Exception as error:  # noqa: BLE001  as above
        return ProbeResult(ProbeFinding.REFUSED_INPUT, f"the model refuses the golden inputs: {first_line(error)}")
    return compare_outputs(golden, {name: value.numpy() for name, value in answers.items()})


def compare_outputs(golden: Golden, answers: dict[str, Any]) -> ProbeResult:
    """Compare a model's answers, numpy arrays by name, with golden outputs."""
    import numpy

    largest = 0.0
    for name, column in golden.outputs.items():
        expected = numpy.asarray(column, dtype=float)
        if name not in answers:
            return ProbeResult(ProbeFinding.NO_OUTPUT, f"no output {name!r}; the model gives {', '.join(answers)}")
        found = numpy.asarray(answers[name])
        if found.shape not in ((golden.n_rows,), (golden.n_rows, 1)):
            detail = f"output {name!r} has shape {list(found.shape)}, expected [{golden.n_rows}]"
            return ProbeResult(ProbeFinding.OTHER_SHAPE, detail)
        values = found.reshape(-1).astype(float)
        if not numpy.isfinite(values).all():
            n_broken = int((~numpy.isfinite(values)).sum())
            return ProbeResult(ProbeFinding.NOT_FINITE, f"output {name!r} is not finite in {n_broken} rows")
        largest = max(largest, float(numpy.abs(values - expected).max()))
    limit = f"largest difference {largest:.3g}, allowed {golden.atol:g}, over {golden.n_rows} rows"
    if not golden.n_rows or math.isnan(largest) or largest > golden.atol:
        return ProbeResult(
            ProbeFinding.DIFFERS, f"golden predictions are not reproduced: {limit}", golden.n_rows, largest
        )
    return ProbeResult(ProbeFinding.REPRODUCED, f"golden predictions reproduced: {limit}", golden.n_rows, largest)


def _to_tensors(signature: Any, golden: Golden, tensorflow: Any) -> dict[str, Any]:
    specs = signature.structured_input_signature[1]
    if set(specs) != set(golden.inputs):
        raise ValueError(f"it takes {sorted(specs)}, golden inputs are {sorted(golden.inputs)}")
    tensors = {}
    for name, column in golden.inputs.items():
        missing = "" if specs[name].dtype == tensorflow.string else math.nan
        values = [missing if value is None else value for value in column]
        tensor = tensorflow.cast(values, specs[name].dtype) if missing != "" else tensorflow.constant(values)
        tensors[name] = tensorflow.expand_dims(tensor, 1) if specs[name].shape.rank == 2 else tensor
    return tensors
