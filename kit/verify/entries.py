"""Entries about records: the verdict on a release is bound to the bytes that it pins, a comparison to what was compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.archive import RELEASE_FILE, VERDICT, Objects
from kit.errors import IntegrityError
from kit.files import read_regular, sha256_bytes
from kit.gate import BOUND, Manifest, decode_manifest
from kit.graph import RELEASE
from kit.ledger import Entry, Kind
from kit.record import Record
from kit.release.verdict import bound_digests, find_contradictions
from kit.signing import PublicKey, decode_envelope
from kit.statement import subjects_of
from kit.verify.chain import Chain
from kit.verify.executions import folder_of
from kit.verify.findings import Code, Finding, false, short
from kit.verify.objects import Hashed
from kit.verify.records import Examined, judge_signature

_VOID = "the gate has not admitted these bytes"
_BESIDE = (BOUND, "live/")


def judge_entries(
    archive: Path, chain: Chain, found: Mapping[str, Examined], hashed: Hashed, keys: Sequence[PublicKey]
) -> Iterator[Finding]:
    """Verify the releases and comparisons that the ledger tells of.

    Args:
        archive: its folder.
        chain: its ledger.
        found: what was found of each record.
        hashed: its objects.
        keys: trusted ones.
    """
    imported = {entry.record for entry in chain.of_kind(Kind.IMPORT)}
    for entry in chain.of_kind(Kind.RELEASE, Kind.REPRODUCTION):
        examined = found.get(entry.record)
        if examined is None:
            meaning = "no such execution was ever announced"
            yield false(Code.UNLOGGED, f"ledger/{entry.seq:09d}.json", f"a record {entry.record}", "none", meaning)
        elif entry.kind is Kind.RELEASE:
            yield from judge_release(archive, entry, examined.record, hashed, keys)
            if entry.record in imported:
                what, meaning = "a record that was executed here", "the gate of another archive is not this one's"
                yield false(Code.REORDERED, f"ledger/{entry.seq:09d}.json", what, "an imported one", meaning)
        else:
            is_imported = entry.record in imported
            yield from _judge_reproduction(archive, entry, examined.record, hashed, keys, imported=is_imported)


def _judge_reproduction(
    archive: Path, entry: Entry, record: Record | None, hashed: Hashed, keys: Sequence[PublicKey], *, imported: bool
) -> Iterator[Finding]:
    path = Objects(Path("objects")).path(entry.sha256).as_posix()
    if entry.sha256 not in hashed.sound:
        if entry.sha256 not in hashed.damaged:
            yield false(Code.MISSING, path, f"the comparison of entry {entry.seq}", "nothing", "a proof was removed")
        return
    try:
        envelope = decode_envelope(read_regular(archive / path), path)
        predicate = envelope.read_statement(path).get("predicate")
    except (IntegrityError, OSError) as error:
        yield false(Code.EDITED, path, f"the comparison of entry {entry.seq}", str(error), "nothing was compared")
        return
    yield from judge_signature(path, envelope, keys, imported=imported)
    details = predicate.get("kit") if isinstance(predicate, dict) else None
    named = details.get("again") if isinstance(details, dict) else None
    if named != entry.record or (record is not None and not record.reproduces):
        what = f"a comparison by {entry.record}"
        yield false(Code.EDITED, path, what, f"one by {named}", "the entry names something that did not happen")


def judge_release(
    archive: Path, entry: Entry, record: Record | None, hashed: Hashed, keys: Sequence[PublicKey]
) -> Iterator[Finding]:
    """Verify one release.

    Args:
        archive: its folder.
        entry: the ledger's.
        record: the one that cut it, if it could be read.
        hashed: objects, those of `list_beside` among them.
        keys: trusted ones.
    """
    path = f"records/{entry.record}/{VERDICT}"
    try:
        data = read_regular(folder_of(archive, entry.record) / VERDICT)
        envelope = decode_envelope(data, path)
        statement = envelope.read_statement(path)
    except (IntegrityError, OSError) as error:
        yield false(Code.MISSING, path, f"the verdict on {entry.release}", f"{error}", _VOID)
        return
    if sha256_bytes(data) != entry.sha256:
        expected = f"{short(entry.sha256)} (entry {entry.seq})"
        yield false(Code.EDITED, path, expected, short(sha256_bytes(data)), _VOID)
    yield from judge_signature(path, envelope, keys)
    predicate = statement.get("predicate")
    result = predicate.get("result") if isinstance(predicate, dict) else None
    if result not in ("PASSED", "WARNED"):
        yield false(Code.EDITED, path, "a verdict that admits", str(result), f"{entry.release} was refused")
    if record is not None:
        environment = entry.release.rpartition("-")[0]
        if (record.stage, record.environment, record.succeeded) != (RELEASE, environment, True):
            found = f"a {record.status} {record.stage} of {record.environment}"
            yield false(
                Code.EDITED,
                path,
                f"a succeeded release of {environment}",
                found,
                f"the gate of {environment} has not admitted it",
            )
        if record.reproduces:
            what, meaning = "an execution of its own", "it was executed as proof, and entered as a release"
            yield false(Code.REWRITTEN, path, what, f"one that did {record.reproduces} again", meaning)
        yield from _judge_manifest(archive, path, entry, record, hashed, statement)


def _judge_manifest(
    archive: Path, path: str, entry: Entry, record: Record, hashed: Hashed, statement: Mapping[str, Any]
) -> Iterator[Finding]:
    subjects = subjects_of(statement)
    output = record.output(RELEASE_FILE)
    sha256 = subjects.get(RELEASE_FILE, "")
    if output is None or output.sha256 != sha256:
        found = short(output.sha256) if output else "none"
        yield false(Code.EDITED, path, f"{RELEASE_FILE} {short(sha256)}", found, _VOID)
        return
    try:
        manifest = decode_manifest(read_regular(Objects(archive / "objects").path(sha256)), f"release {entry.release}")
    except (IntegrityError, OSError):
        return  # the object itself is missing or changed, which is said there
    beside = _beside(manifest)
    bound = bound_digests(manifest) | beside
    other = [
        name for name in bound.keys() | (subjects.keys() - {RELEASE_FILE}) if bound.get(name) != subjects.get(name)
    ]
    for name in sorted(other):
        expected, found = short(subjects.get(name, "")), short(bound.get(name, ""))
        yield false(Code.EDITED, f"{path}, {name}", expected, found, _VOID)
    for sentence in () if other else find_contradictions(manifest, statement, entry.record):
        yield false(Code.EDITED, path, f"a verdict that says what {RELEASE_FILE} says", sentence, _VOID)
    for name, each in sorted(beside.items()):
        if each not in hashed.sound | hashed.damaged:
            what, meaning = f"{name}, object {short(each)}", "what the gate looked at was removed"
            yield false(Code.MISSING, Objects(Path("objects")).path(each).as_posix(), what, "nothing", meaning)


def _beside(manifest: Manifest) -> dict[str, str]:
    """What a verdict was reached on beside what is released: the environment's data, and what was live."""
    return {name: sha256 for name, sha256 in manifest.verdict.subjects.items() if name.startswith(_BESIDE)}


def list_beside(archive: Path, record: Record | None) -> Iterator[str]:
    """Digests of the objects that the verdict on a release was reached on, beside what its record names."""
    output = record.output(RELEASE_FILE) if record else None
    if output is None:
        return
    try:
        data = read_regular(Objects(archive / "objects").path(output.sha256))
        yield from _beside(decode_manifest(data, RELEASE_FILE)).values()
    except (IntegrityError, OSError):
        return  # said where the object is looked at
