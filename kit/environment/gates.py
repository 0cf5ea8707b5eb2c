"""What a release into an environment needs: limits of metrics, of slices, of a second representation."""

from __future__ import annotations

from typing import Annotated

import msgspec


class MetricLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds that a metric must meet, both included; `max_drop`: below what is live in the environment."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None


class SliceLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that must be met among the rows of each value of a column.

    Attributes:
        metrics: limits by the metric's name; `max_drop`: below what the live release reaches for the same value.
        min_rows: a value with fewer evaluation rows is noted, not judged.
    """

    metrics: dict[str, MetricLimits] = {}
    min_rows: Annotated[int, msgspec.Meta(ge=1)] = 100


class EvaluationSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On what a model, and the one that is live, are scored again by the gate.

    Attributes:
        data: the training's output that holds the rows, a Parquet file: the model's inputs, the label, slice columns.
        label: the column with the truth.
        output: the output of the model's signature that is compared with it.
        measure: `module:function` in notebooks/, from (labels, scores), both (n,), to metrics by name; without it kit's
            own (`kit.measures`).
    """

    data: str
    label: str
    output: str
    measure: str = ""


class LiteRTLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second representation of the model, and how far it may be from the SavedModel.

    Attributes:
        model: the training's output that is the LiteRT model.
        encoding: the one that says how raw fields become its input.
        max_difference: largest absolute difference of a score on golden and evaluation rows.
        max_auc_drop: largest loss of AUC on the evaluation rows.
    """

    model: str = "model.tflite"
    encoding: str = "encoding.json"
    max_difference: Annotated[float, msgspec.Meta(ge=0)] = 1e-3
    max_auc_drop: Annotated[float, msgspec.Meta(ge=0)] = 1e-3


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release into this environment needs.

    Attributes:
        checks: artifacts whose checks must have passed; those with a suite in the lineage are always required.
        metrics: limits by the metric's name.
        model: the artifact that is loaded in a fresh process.
        golden: the artifact with the predictions that it must reproduce.
        slices: limits by the name of a column of the evaluation rows.
        evaluation: the rows on which candidate and live release are compared; `max_drop` and slices need it.
        profile: the training's output that describes its data; data that the environment binds is held against it.
        litert: limits of the LiteRT model; without it there is none.
    """

    checks: tuple[str, ...] = ()
    metrics: dict[str, MetricLimits] = {}
    model: str = "saved_model"
    golden: str = "golden.json"
    slices: dict[str, SliceLimits] = {}
    evaluation: EvaluationSource | None = None
    profile: str = "profile.json"
    litert: LiteRTLimits | None = None
