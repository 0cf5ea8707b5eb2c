"""Are two executions' results the same, and what differs around them? Pure: two sides in, findings out."""

from kit.compare.causes import Cause, find_causes, read_packages
from kit.compare.cells import compare_cells, read_cells
from kit.compare.comparator import Comparator, Kind, parse_comparators, read_comparators
from kit.compare.comparison import Agreement, Comparison
from kit.compare.metrics import compare_metrics
from kit.compare.outputs import compare_outputs

__all__ = [
    "Agreement",
    "Cause",
    "Comparator",
    "Comparison",
    "Kind",
    "compare_cells",
    "compare_metrics",
    "compare_outputs",
    "find_causes",
    "parse_comparators",
    "read_cells",
    "read_comparators",
    "read_packages",
]
