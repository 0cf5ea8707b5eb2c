"""The archive: records, objects and the ledger in a folder. Nothing in it is ever rewritten."""

from kit.archive.archive import Archive, open_archive
from kit.archive.checkpoints import describe_coverage, make_checkpoint
from kit.archive.decisions import decode_rollback, decode_waiver
from kit.archive.marker import MARKER, read_origin
from kit.archive.names import OPEN, RELEASE_FILE, STARTED, STATEMENT, VERDICT
from kit.archive.objects import Objects
from kit.archive.opened import OpenRecord

__all__ = [
    "MARKER",
    "OPEN",
    "RELEASE_FILE",
    "STARTED",
    "STATEMENT",
    "VERDICT",
    "Archive",
    "Objects",
    "OpenRecord",
    "decode_rollback",
    "decode_waiver",
    "describe_coverage",
    "make_checkpoint",
    "open_archive",
    "read_origin",
]
