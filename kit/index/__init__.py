"""The index: what an archive's records say, in a database that can be deleted at any time."""

from kit.index.condition import Condition, parse_condition
from kit.index.entries import Told
from kit.index.index import RecordIndex
from kit.index.values import SORTS, Page, Query, Row

__all__ = ["SORTS", "Condition", "Page", "Query", "RecordIndex", "Row", "Told", "parse_condition"]
