"""Exports: records and releases as zips that outsiders can check, and taking such zips in."""

from kit.crate.export import Export, export_crate
from kit.crate.importing import Import, Imported, Outcome, import_crate

__all__ = ["Export", "Import", "Imported", "Outcome", "export_crate", "import_crate"]
