"""Exports: records and releases as zips that outsiders can check, and taking such zips in."""

from kit.crate.export import Export, export_crate
from kit.crate.importing import Imported, Outcome, import_crate

__all__ = ["Export", "Imported", "Outcome", "export_crate", "import_crate"]
