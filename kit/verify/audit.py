"""Auditing again and again: an archive must only ever have grown since the last time."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from kit.checkpoint import Checkpoint, find_checkpoints
from kit.errors import UsageError
from kit.files import write_atomically
from kit.signing import PublicKey
from kit.verify.findings import Code, Report
from kit.verify.notes import Noted
from kit.verify.whole import verify_archive

HEADS = "heads.txt"


def audit_archive(
    archive: Path, state: Path, keys: Sequence[PublicKey] = (), outside: Sequence[Noted] = ()
) -> tuple[Report, Checkpoint | None]:
    """Verify an archive, also against what earlier audits saw, and remember its head if all of it holds.

    Args:
        archive: its folder.
        state: the auditor's own folder for this archive, kept where those who write the archive cannot write.
        keys: trusted public keys.
        outside: further checkpoints.

    Returns:
        The report, and the head of the audit before this one; None the first time.

    Raises:
        IntegrityError: what was remembered cannot be read; an audit never begins anew by itself.
        UsageError: the state lies in the archive, or is no folder.
    """
    if state.resolve().is_relative_to(archive.resolve()):
        raise UsageError(f"--state {state} lies in the archive itself: choose a folder that its writers cannot write")
    if state.exists() and not state.is_dir():
        raise UsageError(f"--state {state} is a file; expected a folder")
    file = state / HEADS
    data = file.read_bytes() if file.is_file() else b""
    remembered = find_checkpoints(data, str(file)) if file.is_file() else []
    earlier = [Noted(each, f"{file.name} of the audit, size {each.size}", outside=True) for each in remembered]
    report = verify_archive(archive, keys, [*earlier, *outside])
    last = remembered[-1] if remembered else None
    head = Checkpoint(report.origin, report.n_entries, base64.b64decode(report.root))
    undecided = {Code.NEWER_FORMAT, Code.TRUNCATED} & {each.code for each in report.findings}
    if report.exit_code != 1 and not undecided and head.size and head != last:
        write_atomically(file, data + f"{head.line}\n".encode())
    return report, last
