"""Where things come from: the records behind an artifact, back to raw data, code and environment."""

from kit.lineage.find import explain_origin, find_subject
from kit.lineage.node import Finding, Kind, Node
from kit.lineage.walk import read_lineage, trace_artifact, trace_record, trace_release

__all__ = [
    "Finding",
    "Kind",
    "Node",
    "explain_origin",
    "find_subject",
    "read_lineage",
    "trace_artifact",
    "trace_record",
    "trace_release",
]
