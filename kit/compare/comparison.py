"""What comparing one result of two executions found."""

from __future__ import annotations

import enum

import msgspec


class Agreement(enum.StrEnum):
    """How far two results agree."""

    IDENTICAL = "identical"
    EQUAL = "equal"
    DIFFERENT = "different"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"

    @property
    def holds(self) -> bool:
        """True unless they differ or that could not be told."""
        return self in (Agreement.IDENTICAL, Agreement.EQUAL, Agreement.IGNORED)


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output, metric or cell of two executions.

    Attributes:
        subject: an output's name, `metrics.<name>` or `cells.<id>`.
        comparator: how they were compared, `table(rtol=1e-06)`.
        agreement: what came of it: `identical` is the same bytes, `equal` the same within the comparator.
        detail: one sentence: where they differ first, how often and how much; empty for identical ones.
    """

    subject: str
    comparator: str
    agreement: Agreement
    detail: str = ""

    @property
    def holds(self) -> bool:
        """True unless the two differ or that could not be told."""
        return self.agreement.holds

    def __str__(self) -> str:
        """`predictions.parquet: different by table(rtol=1e-06): 3 of 9 values differ, …`."""
        sentence = f"{self.subject}: {self.agreement} by {self.comparator}"
        return f"{sentence}: {self.detail}" if self.detail else sentence
