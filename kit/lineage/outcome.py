"""The words for what doing an execution again gave: stable codes and levels."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import assert_never


class Code(enum.StrEnum):
    """What kind of thing was found. These words are stable: scripts may rely on them."""

    INPUT_CHANGED = "INPUT-CHANGED"
    RUN_FAILED = "RUN-FAILED"
    OUTPUT_DIFFERS = "OUTPUT-DIFFERS"
    METRIC_DIFFERS = "METRIC-DIFFERS"
    CELL_DIFFERS = "CELL-DIFFERS"
    INPUT_NOT_AVAILABLE = "INPUT-NOT-AVAILABLE"
    ENVIRONMENT_NOT_REBUILT = "ENVIRONMENT-NOT-REBUILT"
    NOTHING_COMPARED = "NOTHING-COMPARED"

    @property
    def exit_code(self) -> int:
        """1 if it makes the claim false, 3 if it keeps it from being decided here."""
        return 3 if self in (Code.INPUT_NOT_AVAILABLE, Code.ENVIRONMENT_NOT_REBUILT, Code.NOTHING_COMPARED) else 1


class Level(enum.StrEnum):
    """How far a reproduction went; each level holds more than the one before."""

    NOT_EXECUTED = "not-executed"
    EXECUTED = "executed"
    OUTPUTS_EQUAL = "outputs-equal"
    BIT_IDENTICAL = "bit-identical"

    @property
    def sentence(self) -> str:
        """In words."""
        match self:
            case Level.NOT_EXECUTED:
                return "it could not be done again"
            case Level.EXECUTED:
                return "it could be done again, but its outputs are not shown to be equal"
            case Level.OUTPUTS_EQUAL:
                return "its outputs are equal within their comparators"
            case Level.BIT_IDENTICAL:
                return "its outputs are bit-identical"
        assert_never(self)


def exit_code_of(codes: Iterable[Code]) -> int:
    """0 the claim holds, 1 it is false, 3 it cannot be decided: one contradiction outweighs everything undecided."""
    found = {code.exit_code for code in codes}
    return 1 if 1 in found else 3 if found else 0
