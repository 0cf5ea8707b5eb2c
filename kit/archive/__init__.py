"""The archive: records, objects and releases in a folder. Nothing in it is ever rewritten."""

from kit.archive.archive import Archive, OpenRecord, open_archive
from kit.archive.objects import Objects

__all__ = ["Archive", "Objects", "OpenRecord", "open_archive"]
