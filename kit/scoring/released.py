"""The model of a release, opened to answer: the representation that its frozen configuration names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kit.environment import Environment, LiteRTLimits
from kit.model.servable import Servable, open_saved_model

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


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
    import_tensorflow_without_keras()
    return open_saved_model(folder / environment.gates.model)


def import_tensorflow_without_keras() -> None:
    """Import TensorFlow without Keras, which answering does not need: half the CPU time, 170 MB less.

    TensorFlow 2.21 imports Keras at the end of its own import (`tensorflow/__init__.py`, b/196254385), unless it is told
    that Keras 2 is wanted; then it looks for `tf_keras`, which is not installed. `tf.keras` is looked up at its first use,
    when the variable is as it was, so a notebook that wants Keras later gets Keras 3.
    """
    if "tensorflow" in sys.modules:
        return
    before = os.environ.get(LEGACY_KERAS)
    os.environ[LEGACY_KERAS] = "1"
    try:
        import tensorflow  # noqa: F401
    finally:
        if before is None:
            del os.environ[LEGACY_KERAS]
        else:
            os.environ[LEGACY_KERAS] = before
