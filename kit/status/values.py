"""How stages stand, as values."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, assert_never

import msgspec

from kit.record import Failure

_MAX_CHARACTERS = 60  # of a value in a sentence
N_DIGITS = 12  # of a digest


class State(enum.StrEnum):
    """How a stage stands."""

    UP_TO_DATE = "up to date"  # its newest record says what an execution would say
    STALE = "stale"  # something that it depends on is another
    FAILED = "failed"  # what would be executed now was executed last, and did not succeed
    RUNNING = "running"
    NEVER = "never"  # no execution of it succeeded here
    BLOCKED = "blocked"  # it cannot be executed as things are


def describe_state(stage: str, state: State) -> str:
    """`train is stale`, `train failed`, `train never succeeded here`."""
    match state:
        case State.FAILED:
            return f"{stage} failed"
        case State.NEVER:
            return f"{stage} never succeeded here"
        case State.UP_TO_DATE | State.STALE | State.RUNNING | State.BLOCKED:
            return f"{stage} is {state}"
        case _:
            assert_never(state)


class Kind(enum.StrEnum):
    """What changed."""

    PARAMETER = "parameter"
    CELL = "cell"
    HELPER = "helper"
    FILE = "file"
    INPUT = "input"
    PACKAGE = "package"
    LOCK = "lock"
    PYTHON = "python"
    KIT = "kit"
    VARIABLE = "variable"
    SETTING = "setting"
    SECRET = "secret"
    COMMIT = "commit"
    SOURCES = "sources"
    CONFIGURATION = "configuration"
    RELEASE = "release"
    CARRIED = "carried"
    RECORD = "record"


class Reason(msgspec.Struct, frozen=True):
    """One thing for which a stage is not up to date.

    Attributes:
        kind: what it is.
        subject: which one: a name, a path, a cell's number.
        before: its value, version, digest or record then; None where it was not there.
        after: the same, now.
        detail: what else is to be said, in a few words; where the kind has no two sides, all.
        lines: of a cell or a text file, how it differs: each begins with `+`, `-` or a space.
    """

    kind: Kind
    subject: str = ""
    before: Any = None
    after: Any = None
    detail: str = ""
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`parameter 'epochs': 3 → 5 (environment)`."""
        what = f"{self.kind} {self.subject}".strip()
        if self.before is None and self.after is None:
            return ": ".join(filter(None, (what, self.detail))) if self.subject else self.detail or what
        change = f"{_tell(self.before)} → {_tell(self.after)}"
        return f"{what}: {change}" + (f" ({self.detail})" if self.detail else "")


def _tell(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return f"{text[:N_DIGITS]}…"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


class StageStatus(msgspec.Struct, frozen=True):
    """How one stage stands.

    Attributes:
        stage: its name.
        state: how it stands.
        record: id of its newest succeeded record here; empty if there is none.
        when: that record ended.
        release: id of the release that is live, for the stage `release`, or that the record ran.
        reasons: why it is not up to date.
        latest: id of the newest execution, if that is another than `record`; empty otherwise.
        failure: of that one, if it failed.
    """

    stage: str
    state: State
    record: str = ""
    when: datetime | None = None
    release: str = ""
    reasons: tuple[Reason, ...] = ()
    latest: str = ""
    failure: Failure | None = None


class Overview(msgspec.Struct, frozen=True):
    """How the stages that `kit all` executes in an environment stand, in their order."""

    environment: str
    stages: tuple[StageStatus, ...]

    @property
    def is_up_to_date(self) -> bool:
        """True if `kit all` would execute nothing."""
        return all(each.state is State.UP_TO_DATE for each in self.stages)
