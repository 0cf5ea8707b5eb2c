"""Sweeps: one stage executed once for each of many combinations of its parameters, a record for each."""

from kit.sweep.definition import Definition, find_definition, name_sweep
from kit.sweep.plan import PlannedSweep, plan_sweep
from kit.sweep.read import Sweep, choose_metric, make_view, read_sweep

__all__ = [
    "Definition",
    "PlannedSweep",
    "Sweep",
    "choose_metric",
    "find_definition",
    "make_view",
    "name_sweep",
    "plan_sweep",
    "read_sweep",
]
