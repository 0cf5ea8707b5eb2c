"""Where things come from: the records behind an artifact, back to raw data, code and environment."""

from kit.lineage.again import Again, list_reproductions
from kit.lineage.find import explain_origin, find_subject
from kit.lineage.node import Finding, Kind, Node
from kit.lineage.outcome import Code, Level, exit_code_of
from kit.lineage.walk import read_lineage, trace_artifact, trace_record, trace_release

__all__ = [
    "Again",
    "Code",
    "Finding",
    "Kind",
    "Level",
    "Node",
    "exit_code_of",
    "explain_origin",
    "find_subject",
    "list_reproductions",
    "read_lineage",
    "trace_artifact",
    "trace_record",
    "trace_release",
]
