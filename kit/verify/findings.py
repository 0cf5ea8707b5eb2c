"""What a verification finds, as values with stable codes."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec


class Code(enum.StrEnum):
    """What kind of thing was found. These words are stable: scripts may rely on them."""

    EDITED = "EDITED"
    MISSING = "MISSING"
    UNLOGGED = "UNLOGGED"
    CHAIN_BROKEN = "CHAIN-BROKEN"
    REORDERED = "REORDERED"
    TRUNCATED = "TRUNCATED"
    REWRITTEN = "REWRITTEN"
    BAD_SIGNATURE = "BAD-SIGNATURE"
    UNKNOWN_KEY = "UNKNOWN-KEY"
    NEWER_FORMAT = "NEWER-FORMAT"
    INPUT_NOT_AVAILABLE = "INPUT-NOT-AVAILABLE"
    LOST = "LOST"
    UNSIGNED = "UNSIGNED"
    UNCOVERED = "UNCOVERED"
    NO_OUTSIDE_CHECKPOINT = "NO-OUTSIDE-CHECKPOINT"
    LEFTOVER = "LEFTOVER"


class Weight(enum.StrEnum):
    """What a finding means for the claim that was checked."""

    FALSE = "false"
    UNDECIDED = "undecided"
    NOTED = "noted"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found.

    Attributes:
        code: what kind of thing.
        weight: whether the claim is false, cannot be decided here, or only must be read with it.
        path: where, relative to the archive.
        expected: what would have been right.
        found: what is there.
        meaning: what it says about the archive, in a sentence.
    """

    code: Code
    weight: Weight
    path: str
    expected: str
    found: str
    meaning: str

    def __str__(self) -> str:
        """One line."""
        facts = f"expected {self.expected}, found {self.found}" if self.expected else self.found
        return f"{self.code:<12} {self.path}: {facts}; {self.meaning}"


class Report(msgspec.Struct, frozen=True):
    """The result of a verification.

    Attributes:
        subject: what was verified.
        origin: names the archive's ledger.
        n_entries: of the ledger.
        root: base64 of the RFC 6962 root over them.
        n_records: that were looked at.
        n_objects: that were hashed.
        n_bytes: of these objects.
        ledger_signers: key ids of trusted signatures under its checkpoints.
        signers: how many of the records each trusted key signed, by key id.
        findings: the grave ones first.
    """

    subject: str
    origin: str
    n_entries: int
    root: str
    n_records: int
    n_objects: int
    n_bytes: int
    ledger_signers: tuple[str, ...]
    signers: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 the claim holds, 1 it is false, 3 it cannot be decided here."""
        weights = {finding.weight for finding in self.findings}
        return 1 if Weight.FALSE in weights else 3 if Weight.UNDECIDED in weights else 0

    @property
    def verdict(self) -> str:
        """One sentence."""
        match self.exit_code:
            case 0:
                return "holds: complete, unchanged and in order, as far as the notes above say"
            case 1:
                n_false = sum(finding.weight is Weight.FALSE for finding in self.findings)
                return f"is FALSE: {n_false} finding{'' if n_false == 1 else 's'} contradict{'s' if n_false == 1 else ''} it"
        reasons = dict.fromkeys(each.meaning for each in self.findings if each.weight is Weight.UNDECIDED)
        return f"cannot be decided here: {'; '.join(reasons)}"


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each once, the grave ones first, else in the order in which they were found."""
    order = list(Weight)
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.weight)))


def false(code: Code, path: str, expected: str, found: str, meaning: str) -> Finding:
    """A finding that contradicts the claim."""
    return _make(code, Weight.FALSE, path, expected, found, meaning)


def undecided(code: Code, path: str, expected: str, found: str, meaning: str) -> Finding:
    """A finding that keeps the claim from being decided here."""
    return _make(code, Weight.UNDECIDED, path, expected, found, meaning)


def noted(code: Code, path: str, found: str, meaning: str) -> Finding:
    """A finding that the claim must be read with."""
    return _make(code, Weight.NOTED, path, "", found, meaning)


def _make(code: Code, weight: Weight, *texts: str) -> Finding:
    """A name on disk may be no Unicode text: what JSON cannot hold is written out."""
    return Finding(code, weight, *(text.encode("utf-8", "backslashreplace").decode() for text in texts))


def short(sha256: str) -> str:
    """A digest, short enough for a line."""
    return f"sha256 {sha256[:12]}…" if sha256 else "nothing"
