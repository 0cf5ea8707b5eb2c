"""Verifying an archive: is everything there, unchanged, in order, and said by whom it claims?

Reads bytes, digests and signatures only. No notebook is parsed, no model loaded, nothing unpickled, no process started,
nothing written; a test proves it.
"""

from kit.verify.audit import audit_archive
from kit.verify.findings import Code, Finding, Report, Weight
from kit.verify.notes import Noted
from kit.verify.single import verify_record
from kit.verify.whole import verify_archive

__all__ = ["Code", "Finding", "Noted", "Report", "Weight", "audit_archive", "verify_archive", "verify_record"]
