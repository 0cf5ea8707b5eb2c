"""Everything that makes two trainings differ on one kind of machine, pinned and told."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from kit.errors import UsageError

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def pin_determinism(seed: int, threads: int = 1) -> dict[str, Any]:
    """Seed Python, numpy and TensorFlow, pin its threads, and ask for deterministic operations only.

    Args:
        seed: 0 or more, below 2**32.
        threads: of one operation, and of operations side by side; sums depend on how many share the work.

    Returns:
        What was pinned, for the record. `PYTHONHASHSEED` is only noted: it cannot change in a running process.

    Raises:
        UsageError: too late, TensorFlow has started with other settings; or a number out of range.
    """
    if not 0 <= seed < 2**32 or threads < 1:
        raise UsageError(f"seed must be in [0, 2**32) and threads at least 1; found seed={seed}, threads={threads}")
    _pin_onednn()
    import numpy
    import tensorflow

    random.seed(seed)
    numpy.random.seed(seed)
    tensorflow.keras.utils.set_random_seed(seed)
    _pin_threads(tensorflow, threads)
    tensorflow.config.experimental.enable_op_determinism()
    return {
        "seed": seed,
        "python_hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "op_determinism": True,
        "intra_op_threads": threads,
        "inter_op_threads": threads,
        "onednn": False,
        "tensorflow": str(tensorflow.__version__),
        "numpy": str(numpy.__version__),
    }


def start_variables() -> dict[str, str]:
    """What a kernel that will pin determinism starts with: TensorFlow reads it while it is imported, perhaps beforehand."""
    quiet = {} if LOG_LEVEL in os.environ else {LOG_LEVEL: "2"}  # its notes on the processor are no one's result
    return {ONEDNN: "0", **quiet}


def _pin_onednn() -> None:
    if "tensorflow" in sys.modules and os.environ.get(ONEDNN) != "0":
        raise UsageError(
            f"tensorflow was imported before determinism was pinned, so {ONEDNN}=0 comes too late; "
            f"call stage.make_deterministic() above the first import of tensorflow or keras, in a fresh kernel"
        )
    os.environ.update(start_variables())


def _pin_threads(tensorflow: Any, threads: int) -> None:
    threading = tensorflow.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise UsageError(
            f"tensorflow has already computed something, with "
            f"{threading.get_intra_op_parallelism_threads()} threads, so it cannot be pinned to {threads}; "
            f"restart the kernel and call stage.make_deterministic() first"
        ) from error
