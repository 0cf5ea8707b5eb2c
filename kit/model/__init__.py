"""TensorFlow's adapter: determinism, model files with canonical bytes, and the probe that a gate trusts.

TensorFlow is imported inside functions only; importing this package costs nothing.
"""

from kit.model.determinism import pin_determinism
from kit.model.golden import Golden, read_golden, write_golden
from kit.model.probe import ProbeFinding, ProbeResult, probe_saved_model
from kit.model.saving import save_keras, save_saved_model

__all__ = [
    "Golden",
    "ProbeFinding",
    "ProbeResult",
    "pin_determinism",
    "probe_saved_model",
    "read_golden",
    "save_keras",
    "save_saved_model",
    "write_golden",
]
