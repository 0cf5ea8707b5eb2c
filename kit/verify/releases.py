"""Releases: the verdict that the ledger names is bound to exactly the bytes that the release pins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kit.archive import RELEASE_FILE, VERDICT, Objects
from kit.errors import IntegrityError
from kit.execute.plan import BUNDLE
from kit.files import sha256_bytes
from kit.gate import Manifest, decode_manifest
from kit.ledger import Entry
from kit.record import Record
from kit.signing import decode_envelope
from kit.statement import subjects_of
from kit.verify.findings import Code, Finding, false, short

_VOID = "the gate has not admitted these bytes"


def judge_release(archive: Path, folder: Path, entry: Entry, record: Record | None) -> Iterator[Finding]:
    """Verify one release.

    Args:
        archive: its folder.
        folder: of the record that cut it.
        entry: the ledger's.
        record: that one, if it could be read.
    """
    path = f"records/{entry.record}/{VERDICT}"
    try:
        data = (folder / VERDICT).read_bytes()
        statement = decode_envelope(data, path).read_statement(path)
    except (IntegrityError, OSError) as error:
        yield false(Code.MISSING, path, f"the verdict on {entry.release}", f"{error}", _VOID)
        return
    if sha256_bytes(data) != entry.sha256:
        expected = f"{short(entry.sha256)} (entry {entry.seq})"
        yield false(Code.EDITED, path, expected, short(sha256_bytes(data)), _VOID)
    result = (statement.get("predicate") or {}).get("result")
    if result not in ("PASSED", "WARNED"):
        yield false(Code.EDITED, path, "a verdict that admits", str(result), f"{entry.release} was refused")
    if record is not None:
        yield from _judge_manifest(archive, path, entry, record, subjects_of(statement))


def _judge_manifest(
    archive: Path, path: str, entry: Entry, record: Record, subjects: Mapping[str, str]
) -> Iterator[Finding]:
    output = record.output(RELEASE_FILE)
    sha256 = subjects.get(RELEASE_FILE, "")
    if output is None or output.sha256 != sha256:
        found = short(output.sha256) if output else "none"
        yield false(Code.EDITED, path, f"{RELEASE_FILE} {short(sha256)}", found, _VOID)
        return
    try:
        manifest = decode_manifest(Objects(archive / "objects").path(sha256).read_bytes(), f"release {entry.release}")
    except (IntegrityError, OSError):
        return  # the object itself is missing or changed, which is said there
    bound: dict[str, Any] = _bound(manifest)
    for name in sorted(bound.keys() | (subjects.keys() - {RELEASE_FILE})):
        if bound.get(name) != subjects.get(name):
            expected, found = short(subjects.get(name, "")), short(bound.get(name, ""))
            yield false(Code.EDITED, f"{path}, {name}", expected, found, _VOID)


def _bound(manifest: Manifest) -> dict[str, Any]:
    return {**{artifact.name: artifact.sha256 for artifact in manifest.artifacts}, BUNDLE: manifest.bundle_sha256}
