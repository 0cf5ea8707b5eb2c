"""One sealed record: its files against its statement, the statement against the ledger and against the record itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kit.archive import STARTED, STATEMENT
from kit.check import CheckResult
from kit.errors import IntegrityError, NewerFormatError
from kit.files import canonical_json, digest_of, open_regular, read_regular, sha256_bytes
from kit.ledger import Entry, Kind
from kit.record import Record, decode_record
from kit.signing import Envelope, PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import OUTPUTS, describe_execution, look_up, origin_of, subjects_of
from kit.verify.findings import Code, Finding, false, noted, short, undecided

_SEALED = "it is not what was sealed"


class Examined(msgspec.Struct):
    """A record as it was read.

    Attributes:
        record: None if it cannot be read or is not the one that was sealed.
        findings: what is wrong with it.
        standing: how its signature stands to the trusted keys; None if it has no statement that can be read.
        signer: key id of that signature.
    """

    record: Record | None
    findings: list[Finding]
    standing: Standing | None = None
    signer: str = ""


def examine_record(
    folder: Path, record_id: str, origin: str, start: Entry | None, end: Entry, keys: Sequence[PublicKey]
) -> Examined:
    """Verify the files of a sealed record.

    Args:
        folder: where they lie.
        record_id: as the ledger names it.
        origin: of the archive.
        start: the entry that announced it; None for one that was imported.
        end: the entry that names its statement.
        keys: trusted ones.
    """
    examined = Examined(None, [])
    where = f"records/{record_id}"
    statement = _read_statement(folder, where, end, keys, examined)
    if statement is None:
        return examined
    subjects, invocation = subjects_of(statement), look_up(statement, *_INVOCATION)
    if invocation != record_id:
        meaning = "the record of one execution was put in the place of another"
        examined.findings.append(false(Code.REORDERED, f"{where}/{STATEMENT}", record_id, str(invocation), meaning))
    made_for = origin_of(statement)
    if start and origin and made_for != origin:
        meaning = "an execution of another archive was entered as one of this"
        examined.findings.append(
            false(Code.REORDERED, f"{where}/{STATEMENT}", f"origin {origin}", made_for or "none", meaning)
        )
    examined.findings += _judge_files(folder, where, subjects)
    examined.record = _read_record(folder, where, record_id, subjects, examined.findings)
    if examined.record:
        examined.findings += _judge_statement(where, examined.record, statement)
        examined.findings += _judge_parts(where, examined.record, subjects)
        if start:
            examined.findings += _judge_start(folder, where, examined.record, start)
    return examined


def _read_statement(
    folder: Path, where: str, end: Entry, keys: Sequence[PublicKey], examined: Examined
) -> dict[str, Any] | None:
    """The statement; None if there is none to go by."""
    path = f"{where}/{STATEMENT}"
    try:
        data = read_regular(folder / STATEMENT)
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
    standing, key = judge_envelope(envelope, keys)
    examined.standing, examined.signer = standing, key
    examined.findings += judge_standing(path, standing, key, keys, imported=end.kind is Kind.IMPORT)
    return statement


def judge_signature(
    path: str, envelope: Envelope, keys: Sequence[PublicKey], *, imported: bool = False
) -> Iterator[Finding]:
    """What an envelope's signatures leave to be desired, see `judge_standing`."""
    return judge_standing(path, *judge_envelope(envelope, keys), keys, imported=imported)


def judge_standing(
    path: str, standing: Standing, key: str, keys: Sequence[PublicKey], *, imported: bool
) -> Iterator[Finding]:
    """What a signature leaves to be desired; that there is none is said for all records together.

    Args:
        path: of the envelope.
        standing: how its signature stands to the trusted keys.
        key: id of the key that it names.
        keys: trusted ones.
        imported: it came from another archive, whose people the verifier need not know.
    """
    match standing:
        case Standing.BAD:
            meaning = "the statement was changed after it was signed, or someone else made it"
            yield false(Code.BAD_SIGNATURE, path, f"a signature by {key}", "one that it did not make", meaning)
        case Standing.UNKNOWN_KEY if keys and imported:
            meaning = "it was imported; nobody whom you trust has stated it"
            yield noted(Code.UNKNOWN_KEY, path, f"a signature by {key}, which you did not give", meaning)
        case Standing.UNKNOWN_KEY if keys:
            meaning = "nobody whom you trust has stated it"
            yield false(Code.UNKNOWN_KEY, path, "a signature by a trusted key", f"one by {key}", meaning)


def _judge_files(folder: Path, where: str, subjects: dict[str, str]) -> Iterator[Finding]:
    there = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
    }
    for name, path in sorted(there.items()):
        if name == STATEMENT:
            continue
        if path.is_symlink() or not path.is_file():
            yield false(Code.EDITED, f"{where}/{name}", "a file", "a link or a special file", _SEALED)
        elif name not in subjects or name.startswith(OUTPUTS):
            meaning = "the statement does not name it, so it was put there afterwards"
            yield false(Code.UNLOGGED, f"{where}/{name}", "sealed files only", "one more", meaning)
        elif (found := _digest(path)) != subjects[name]:
            yield false(Code.EDITED, f"{where}/{name}", short(subjects[name]), short(found), _SEALED)
    for name, sha256 in sorted(subjects.items()):
        if name not in there and not name.startswith(OUTPUTS):
            yield false(Code.MISSING, f"{where}/{name}", short(sha256), "nothing", "a sealed file was removed")


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return digest_of(file)
    except OSError:
        return ""


def _read_record(
    folder: Path, where: str, record_id: str, subjects: dict[str, str], findings: list[Finding]
) -> Record | None:
    path = folder / "record.json"
    if not path.is_file() or _digest(path) != subjects.get("record.json"):
        return None  # said already, as a file
    try:
        record = decode_record(read_regular(path), f"{where}/record.json")
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


_INVOCATION = ("predicate", "runDetails", "metadata", "invocationId")
_SAME = (  # places of a statement that follow from the record
    ("predicateType",),
    ("predicate", "buildDefinition", "buildType"),
    ("predicate", "buildDefinition", "externalParameters"),
    ("predicate", "buildDefinition", "resolvedDependencies"),
    _INVOCATION,
)


def _judge_parts(where: str, record: Record, subjects: dict[str, str]) -> Iterator[Finding]:
    """The files of a record that record.json itself speaks of."""
    wanted = {f"checks/{each.artifact}.json": _digest_check(each) for each in record.checks}
    wanted["requirements.txt"] = record.software.packages_sha256
    for name, sha256 in wanted.items():
        if name in subjects and subjects[name] != sha256:
            meaning = "record.json tells of other content"
            yield false(Code.EDITED, f"{where}/{name}", short(sha256), short(subjects[name]), meaning)


def _digest_check(check: CheckResult) -> str:
    return sha256_bytes(canonical_json(msgspec.to_builtins(check)))


def _judge_statement(where: str, record: Record, statement: dict[str, Any]) -> Iterator[Finding]:
    expected_statement, subjects = describe_execution(record, {}, ""), subjects_of(statement)
    for place in _SAME:
        if look_up(statement, *place) != msgspec.json.decode(msgspec.json.encode(look_up(expected_statement, *place))):
            meaning = "statement and record do not speak of the same execution"
            yield false(Code.EDITED, f"{where}/{STATEMENT}", f"{place[-1]} as in record.json", "another", meaning)
    stated = {name: sha256 for name, sha256 in subjects.items() if name.startswith(OUTPUTS)}
    recorded = {f"{OUTPUTS}{artifact.name}": artifact.sha256 for artifact in record.outputs}
    for name in sorted(stated.keys() | recorded.keys()):
        if stated.get(name) != recorded.get(name):
            meaning = "statement and record do not speak of the same execution"
            expected, found = short(stated.get(name, "")), short(recorded.get(name, ""))
            yield false(Code.EDITED, f"{where}/record.json, {name}", expected, found, meaning)


_ANNOUNCED = (
    "stage",
    "environment",
    "configuration_sha256",
    "parameters",
    "code",
    "started",
    "release",
    "reproduces",
    "drift",
    "key",
    "sweep",
    "attempts",
)


def _judge_start(folder: Path, where: str, record: Record, start: Entry) -> Iterator[Finding]:
    path = f"{where}/{STARTED}"
    try:
        data = read_regular(folder / STARTED)
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
