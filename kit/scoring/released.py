"""The model of a release, opened to answer: the representation that its frozen configuration names."""

from __future__ import annotations

from pathlib import Path

from kit.environment import Environment, LiteRTLimits
from kit.model.servable import Servable, open_saved_model


def open_released_model(environment: Environment, folder: Path) -> Servable:
    """Open what a release answers with: its SavedModel, or its LiteRT model without TensorFlow.

    Args:
        environment: the frozen configuration of the release.
        folder: where its artifacts lie, verified.

    Raises:
        IntegrityError: the model does not load.
    """
    if environment.serving.representation == "litert":
        from kit.model.litert import open_litert

        limits = environment.gates.litert or LiteRTLimits()
        return open_litert(folder / limits.model, folder / limits.encoding)
    return open_saved_model(folder / environment.gates.model)
