"""Reproductions: an execution done again from its record alone, compared, stated and entered in the ledger."""

from kit.lineage import Code, Level
from kit.reproduce.findings import Finding, Report, Reproduction
from kit.reproduce.stage import reproduce_record
from kit.reproduce.whole import reproduce

__all__ = ["Code", "Finding", "Level", "Report", "Reproduction", "reproduce", "reproduce_record"]
