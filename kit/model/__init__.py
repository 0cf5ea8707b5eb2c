"""TensorFlow's adapter: determinism, model files with canonical bytes, and the probe that a gate trusts.

TensorFlow is imported inside functions only; importing this package costs nothing.
"""

from kit.model.determinism import pin_determinism
from kit.model.encoding import Encoding, flag_missing, one_hot, read_encoding, standardise, write_encoding
from kit.model.golden import Golden, read_golden, write_golden
from kit.model.litert import LiteRTServable, open_litert, save_litert
from kit.model.probe import ProbeFinding, ProbeResult, probe_saved_model
from kit.model.saving import save_keras, save_saved_model

__all__ = [
    "Encoding",
    "Golden",
    "LiteRTServable",
    "ProbeFinding",
    "ProbeResult",
    "flag_missing",
    "one_hot",
    "open_litert",
    "pin_determinism",
    "probe_saved_model",
    "read_encoding",
    "read_golden",
    "save_keras",
    "save_litert",
    "save_saved_model",
    "standardise",
    "write_encoding",
    "write_golden",
]
