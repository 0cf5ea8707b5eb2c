"""Environments: named parameters, data, secrets, gates and policies, from `environments/<name>.toml`, strictly read."""

from kit.environment.gates import EvaluationSource, Gates, LiteRTLimits, MetricLimits, SliceLimits
from kit.environment.reading import (
    decode_environment,
    list_environments,
    read_environment,
    require_known_parameters,
)
from kit.environment.values import Environment, Limits, Policy, ReleasePolicy, SecretReference, Serving, StageSettings

__all__ = [
    "Environment",
    "EvaluationSource",
    "Gates",
    "Limits",
    "LiteRTLimits",
    "MetricLimits",
    "Policy",
    "ReleasePolicy",
    "SecretReference",
    "Serving",
    "SliceLimits",
    "StageSettings",
    "decode_environment",
    "list_environments",
    "read_environment",
    "require_known_parameters",
]
