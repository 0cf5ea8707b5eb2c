"""What the ledger tells of executions that were done again: how each reproduction ended, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never

import msgspec

from kit.archive import Archive
from kit.errors import KitError
from kit.ledger import Entry, Kind
from kit.lineage.outcome import Code, Level, exit_code_of
from kit.record import Record
from kit.signing import PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import OUTPUTS, subjects_of

_UNDECIDED = 3


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """One reproduction, as its statement in the archive has it.

    Attributes:
        record: id of the record that was done again.
        again: id of the record that did it again.
        time: when the comparison was entered in the ledger.
        who: user and host that did it.
        sha256: digest of the statement of the comparison, an object of the archive.
        level: how far the outputs agree.
        exit_code: 0 the claim holds, 1 it is false, 3 it could not be decided, or its statement cannot be relied on.
        independently: True if the statement says that another key on another machine did it.
        independence: why or why not, in the statement's sentence.
        standing: how the statement's signature stands to the trusted keys.
        signer: key id that the signature claims; empty without one.
        problem: why the statement cannot be relied on, in a sentence; empty if it can be read and fits both records.
    """

    record: str
    again: str
    time: datetime
    who: str
    sha256: str
    level: Level = Level.NOT_EXECUTED
    exit_code: int = _UNDECIDED
    independently: bool = False
    independence: str = ""
    standing: Standing = Standing.UNSIGNED
    signer: str = ""
    problem: str = ""

    @property
    def verdict(self) -> str:
        """`holds`, `is FALSE`, or why neither can be said."""
        if self.problem:
            return f"cannot be relied on: {self.problem}"
        return {0: "holds", 1: "is FALSE"}.get(self.exit_code, "could not be decided")

    @property
    def signature(self) -> str:
        """Who vouches for the comparison."""
        match self.standing:
            case Standing.TRUSTED:
                return f"signed with {self.signer}, a trusted key"
            case Standing.UNKNOWN_KEY:
                return f"signed with {self.signer}, if that key is whose it says"
            case Standing.BAD:
                return f"NOT VALID: the signature is not one of {self.signer}"
            case Standing.UNSIGNED:
                return "not signed"
        assert_never(self.standing)

    @property
    def reason(self) -> str:
        """Independently or why not; what only the statement itself claims is marked as that."""
        if self.independently and self.standing is not Standing.TRUSTED:
            return f"{self.independence} (so it says itself; `kit verify --keys` decides)"
        return self.independence


class _Found(msgspec.Struct, frozen=True):
    code: Code


class _Comparison(msgspec.Struct, frozen=True):
    record: str
    again: str
    level: Level
    independently: bool
    independence: str
    findings: tuple[_Found, ...]


class _Details(msgspec.Struct, frozen=True):
    again: str
    comparison: _Comparison


class _Predicate(msgspec.Struct, frozen=True):
    result: str
    kit: _Details


def list_reproductions(archive: Archive, keys: Sequence[PublicKey] = (), about: str = "") -> list[Again]:
    """All reproductions that the ledger tells of, oldest first; one whose statement is damaged says so.

    Args:
        archive: that it is the ledger of.
        keys: trusted ones.
        about: id of a record: only those that did it again, or that it is.

    Raises:
        IntegrityError: an entry of the ledger cannot be read.
    """
    found = []
    for entry in reversed(list(archive.tell(Kind.REPRODUCTION))):
        done = _read_record(archive, entry.record)
        original = (done.reproduces or "") if done else ""
        if not about or not original or about in (entry.record, original):
            found.append(_read_again(archive, entry, original, keys))
    return [each for each in found if each.record and (not about or about in (each.record, each.again))]


def _read_again(archive: Archive, entry: Entry, original: str, keys: Sequence[PublicKey]) -> Again:
    again = Again(record=original, again=entry.record, time=entry.time, who=entry.who, sha256=entry.sha256)
    where = f"comparison of entry {entry.seq}"
    try:
        envelope = decode_envelope(archive.objects.read(entry.sha256), where)
        statement = envelope.read_statement(where)
        predicate = msgspec.convert(statement.get("predicate"), _Predicate)
    except (KitError, OSError, msgspec.ValidationError) as error:
        return msgspec.structs.replace(again, problem=f"the {where} cannot be read: {error}")
    standing, signer = judge_envelope(envelope, keys)
    stated = predicate.kit.comparison
    exit_code = exit_code_of(each.code for each in stated.findings)
    problem = _contradiction(archive, again, predicate, exit_code) or _strangers(archive, stated.record, statement)
    return msgspec.structs.replace(
        again,
        record=original or stated.record,
        level=stated.level,
        exit_code=_UNDECIDED if problem else exit_code,
        independently=stated.independently,
        independence=stated.independence,
        standing=standing,
        signer=signer,
        problem=problem,
    )


def _contradiction(archive: Archive, again: Again, predicate: _Predicate, exit_code: int) -> str:
    stated = predicate.kit.comparison
    if not {predicate.kit.again, stated.again} <= {again.again}:
        return f"it states what {stated.again or 'nothing'} did, not {again.again}"
    if not again.record:
        done = _read_record(archive, again.again)
        return f"record {again.again} did nothing again" if done else f"record {again.again} cannot be read"
    if stated.record != again.record:
        return f"it states that {stated.record} was done again, the record says {again.record}"
    if exit_code == 0 and (predicate.result != "PASSED" or stated.level is Level.NOT_EXECUTED):
        return f"it names no finding, and its result is {predicate.result} at level {stated.level}"
    return ""


def _strangers(archive: Archive, original: str, statement: dict[str, Any]) -> str:
    """Whether it is about other bytes than those that the original wrote."""
    record = _read_record(archive, original)
    if record is None:
        return f"record {original}, which was done again, cannot be read"
    expected = {f"{OUTPUTS}{each.name}": each.sha256 for each in record.outputs}
    if subjects_of(statement) != (expected or {"bundle.zip": record.code.bundle_sha256}):
        return f"it is about other outputs than those of {original}"
    return ""


def _read_record(archive: Archive, record_id: str) -> Record | None:
    try:
        return archive.read_record(record_id)
    except (KitError, OSError):
        return None
