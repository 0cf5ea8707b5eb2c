"""TensorFlow imported for answering alone."""

from __future__ import annotations

import os
import sys

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
# environment of a process that answers: no log of TensorFlow's start, the same numbers on each CPU family as far as can be
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


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
