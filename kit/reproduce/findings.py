"""What doing an execution again found, as values with stable codes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kit.compare import Agreement, Cause, Comparison
from kit.lineage import Code, Level, exit_code_of


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that contradicts the claim, or keeps it from being decided here.

    Attributes:
        code: what kind of thing.
        subject: an input, an output, a metric, a cell; empty for the execution as a whole.
        detail: one sentence: where, what was expected and found.
    """

    code: Code
    subject: str
    detail: str

    @property
    def exit_code(self) -> int:
        """1 if the claim is false, 3 if it cannot be decided here."""
        return self.code.exit_code

    def __str__(self) -> str:
        """One line."""
        return f"{self.code:<14} {self.subject}: {self.detail}" if self.subject else f"{self.code:<14} {self.detail}"


class Reproduction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One execution, done again and compared.

    Attributes:
        record: id of the record that was done again.
        stage: its stage.
        again: id of the record that did it again; empty if nothing was executed.
        level: how far the outputs agree.
        independently: True if another key on another machine did it.
        independence: why it is independent or not, in a sentence.
        outputs: one comparison each.
        metrics: one comparison each.
        cells: one comparison for each code cell.
        findings: what contradicts the claim or keeps it from being decided.
        causes: what is not the same around the two executions.
        notes: what the result must be read with.
        statement_sha256: digest of the statement of this comparison in the archive's objects; empty without one.
    """

    record: str
    stage: str
    again: str = ""
    level: Level = Level.NOT_EXECUTED
    independently: bool = False
    independence: str = ""
    outputs: tuple[Comparison, ...] = ()
    metrics: tuple[Comparison, ...] = ()
    cells: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    statement_sha256: str = ""

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All of them."""
        return (*self.outputs, *self.metrics, *self.cells)

    @property
    def is_executed(self) -> bool:
        """True if it succeeded again, so that what depends on it can go on."""
        return self.level is not Level.NOT_EXECUTED


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One or many reproductions, as asked for.

    Attributes:
        subject: the record or release.
        stages: in the order in which they were done again.
        missing: ids of records that were not done again, because one before them could not be.
    """

    subject: str
    stages: tuple[Reproduction, ...]
    missing: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all stages."""
        return tuple(finding for stage in self.stages for finding in stage.findings)

    @property
    def exit_code(self) -> int:
        """0 the claim holds, 1 it is false, 3 it cannot be decided here."""
        found = exit_code_of(finding.code for finding in self.findings)
        return found or (3 if self.missing or not self.stages else 0)

    @property
    def level(self) -> Level:
        """The lowest of all stages."""
        if self.missing or not self.stages:
            return Level.NOT_EXECUTED
        return lowest_level(stage.level for stage in self.stages)

    @property
    def independently(self) -> bool:
        """True if another key on another machine did all of it."""
        return bool(self.stages) and not self.missing and all(stage.independently for stage in self.stages)

    @property
    def verdict(self) -> str:
        """One sentence."""
        match self.exit_code:
            case 0 if not any(stage.outputs for stage in self.stages):
                return "holds: it could be done again, its metrics and cells agree; it has no outputs to compare"
            case 0:
                independently = ", independently" if self.independently else ""
                return f"holds: {self.level.sentence}, metrics and cells agree{independently}"
            case 1:
                n_false = sum(finding.exit_code == 1 for finding in self.findings)
                return f"is FALSE: {n_false} finding{'' if n_false == 1 else 's'} contradict{'s' if n_false == 1 else ''} it"
        return "cannot be decided here: something that it needs is missing"


def lowest_level(levels: Iterable[Level]) -> Level:
    """The least that holds for all."""
    return min(levels, key=list(Level).index)


def level_of(outputs: Iterable[Comparison]) -> Level:
    """How far the outputs of a succeeded execution agree; without any that was looked at, only that it was executed."""
    agreements = {comparison.agreement for comparison in outputs}
    if not agreements - {Agreement.IGNORED} or not all(agreement.holds for agreement in agreements):
        return Level.EXECUTED
    return Level.BIT_IDENTICAL if agreements == {Agreement.IDENTICAL} else Level.OUTPUTS_EQUAL
