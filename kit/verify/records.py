"""One sealed record: its files against its statement, the statement against the ledger and against the record itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from kit.archive import STARTED, STATEMENT
from kit.errors import IntegrityError, NewerFormatError
from kit.files import sha256_bytes, sha256_file
from kit.ledger import Entry
from kit.record import Record, decode_record
from kit.signing import Envelope, PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import OUTPUTS, subjects_of
from kit.verify.findings import Code, Finding, false, noted, short, undecided

_SEALED = "it is not what was sealed"


class Examined(msgspec.Struct):
    """A record as it was read.

    Attributes:
        record: None if it cannot be read or is not the one that was sealed.
        signer: key id of a trusted signature; empty without one.
        findings: what is wrong with it.
    """

    record: Record | None
    signer: str
    findings: list[Finding]


def examine_record(
    folder: Path, record_id: str, start: Entry | None, end: Entry, keys: Sequence[PublicKey]
) -> Examined:
    """Verify the files of a sealed record.

    Args:
        folder: where they lie.
        record_id: as the ledger names it.
        start: the entry that announced it; None for one that was imported.
        end: the entry that names its statement.
        keys: trusted ones.
    """
    examined = Examined(None, "", [])
    where = f"records/{record_id}"
    stated = _read_statement(folder, where, end, keys, examined)
    if stated is None:
        return examined
    subjects, invocation = stated
    if invocation != record_id:
        meaning = "the record of one execution was put in the place of another"
        examined.findings.append(
            false(Code.REORDERED, f"{where}/{STATEMENT}", record_id, invocation or "none", meaning)
        )
    examined.findings += _judge_files(folder, where, subjects)
    examined.record = _read_record(folder, where, record_id, subjects, examined.findings)
    if examined.record:
        examined.findings += _judge_statement(where, examined.record, subjects)
        if start:
            examined.findings += _judge_start(folder, where, examined.record, start)
    return examined


def _read_statement(
    folder: Path, where: str, end: Entry, keys: Sequence[PublicKey], examined: Examined
) -> tuple[dict[str, str], str] | None:
    """(subjects, record id) of the statement; None if there is none to go by."""
    path = f"{where}/{STATEMENT}"
    try:
        data = (folder / STATEMENT).read_bytes()
        envelope = decode_envelope(data, path)
        statement = envelope.read_statement(path)
    except FileNotFoundError:
        meaning = "without its statement nothing in the record is proved"
        examined.findings.append(false(Code.MISSING, path, short(end.sha256), "nothing", meaning))
        return None
    except (IntegrityError, OSError) as error:
        examined.findings.append(false(Code.EDITED, path, short(end.sha256), str(error), _SEALED))
        return None
    if sha256_bytes(data) != end.sha256:
        found = short(sha256_bytes(data))
        examined.findings.append(false(Code.EDITED, path, f"{short(end.sha256)} (entry {end.seq})", found, _SEALED))
    examined.findings += _judge_signature(path, envelope, keys, examined)
    details = (statement.get("predicate") or {}).get("runDetails") or {}
    return subjects_of(statement), str((details.get("metadata") or {}).get("invocationId") or "")


def _judge_signature(path: str, envelope: Envelope, keys: Sequence[PublicKey], examined: Examined) -> Iterator[Finding]:
    standing, key = judge_envelope(envelope, keys)
    match standing:
        case Standing.TRUSTED:
            examined.signer = key
        case Standing.BAD:
            meaning = "the statement was changed after it was signed, or someone else made it"
            yield false(Code.BAD_SIGNATURE, path, f"a signature by {key}", "one that it did not make", meaning)
        case Standing.UNKNOWN_KEY if keys:
            meaning = "nobody whom you trust has stated this record"
            yield false(Code.UNKNOWN_KEY, path, "a signature by a trusted key", f"one by {key}", meaning)
        case Standing.UNSIGNED if keys:
            yield noted(Code.UNSIGNED, path, "no signature", "only the ledger vouches for this record, not a person")


def _judge_files(folder: Path, where: str, subjects: dict[str, str]) -> Iterator[Finding]:
    there = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    for name, path in sorted(there.items()):
        if name == STATEMENT:
            continue
        if path.is_symlink() or not path.is_file():
            yield false(Code.EDITED, f"{where}/{name}", "a file", "a link or a special file", _SEALED)
        elif name not in subjects:
            meaning = "the statement does not name it, so it was put there afterwards"
            yield false(Code.UNLOGGED, f"{where}/{name}", "sealed files only", "one more", meaning)
        elif (found := _digest(path)) != subjects[name]:
            yield false(Code.EDITED, f"{where}/{name}", short(subjects[name]), short(found), _SEALED)
    for name, sha256 in sorted(subjects.items()):
        if name not in there and not name.startswith(OUTPUTS):
            yield false(Code.MISSING, f"{where}/{name}", short(sha256), "nothing", "a sealed file was removed")


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""


def _read_record(
    folder: Path, where: str, record_id: str, subjects: dict[str, str], findings: list[Finding]
) -> Record | None:
    path = folder / "record.json"
    if not path.is_file() or _digest(path) != subjects.get("record.json"):
        return None  # said already, as a file
    try:
        record = decode_record(path.read_bytes(), f"{where}/record.json")
    except NewerFormatError as error:
        meaning = "verify it with a newer kit"
        findings.append(
            undecided(Code.NEWER_FORMAT, f"{where}/record.json", "a format that this kit reads", str(error), meaning)
        )
        return None
    except IntegrityError as error:
        findings.append(false(Code.EDITED, f"{where}/record.json", "a record", str(error), _SEALED))
        return None
    if record.id != record_id:
        meaning = "the record of one execution was put in the place of another"
        findings.append(false(Code.REORDERED, f"{where}/record.json", record_id, record.id, meaning))
    return record


def _judge_statement(where: str, record: Record, subjects: dict[str, str]) -> Iterator[Finding]:
    stated = {name: sha256 for name, sha256 in subjects.items() if name.startswith(OUTPUTS)}
    recorded = {f"{OUTPUTS}{artifact.name}": artifact.sha256 for artifact in record.outputs}
    for name in sorted(stated.keys() | recorded.keys()):
        if stated.get(name) != recorded.get(name):
            meaning = "statement and record do not speak of the same execution"
            expected, found = short(stated.get(name, "")), short(recorded.get(name, ""))
            yield false(Code.EDITED, f"{where}/record.json, {name}", expected, found, meaning)


_ANNOUNCED = ("stage", "environment", "configuration_sha256", "parameters", "code", "started", "release", "reproduces")


def _judge_start(folder: Path, where: str, record: Record, start: Entry) -> Iterator[Finding]:
    path = f"{where}/{STARTED}"
    try:
        data = (folder / STARTED).read_bytes()
        announced = decode_record(data, path)
    except (IntegrityError, OSError):
        yield false(
            Code.MISSING, path, short(start.sha256), "nothing that can be read", "what was announced is not known"
        )
        return
    if sha256_bytes(data) != start.sha256:
        yield false(Code.EDITED, path, f"{short(start.sha256)} (entry {start.seq})", short(sha256_bytes(data)), _SEALED)
    other = [name for name in _ANNOUNCED if getattr(record, name) != getattr(announced, name)]
    if [each.artifact for each in record.inputs] != [each.artifact for each in announced.inputs]:
        other.append("inputs")
    if other:
        meaning = "what was sealed is not what was announced before the kernel started"
        yield false(Code.EDITED, f"{where}/record.json", "as announced", f"another {', '.join(other)}", meaning)
