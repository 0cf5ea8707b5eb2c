"""What a person decides about releases, in their own name and with a reason: waivers and rollbacks, as values."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import msgspec

WAIVABLE = ("check", "metric", "drop", "slice", "data", "litert", "promotion")
UNWAIVABLE = ("code", "record", "signature", "model")  # what says that the bytes are sound
MAX_DAYS = 366  # that a waiver may hold; what is to last longer belongs into the environment's file
_DAY = timedelta(days=1)
MAX_AHEAD = _DAY  # that the clock of who gave it may be ahead of the one that judges


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One piece of evidence that may refuse and is let pass, in one environment, until a day.

    Attributes:
        environment: whose gate it is.
        evidence: `<kind>:<subject>` of the evidence, as `check:features.parquet` or `metric:auc`.
        reason: why, in the person's words.
        until: the last day, in UTC, on which it holds.
        who: user and host.
        time: of the decision.
        revoked: True takes an earlier waiver of the same evidence back.
        since_entry: number of the ledger's newest entry of a waiver then, 0 if there was none, so that no one can enter this
            decision again later.
    """

    environment: str
    evidence: str
    reason: str
    until: date
    who: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    revoked: bool = False
    since_entry: int = 0

    @property
    def expires(self) -> datetime:
        """The moment from which on it no longer holds."""
        return datetime.combine(min(self.until, date.max - _DAY) + _DAY, time.min, UTC)

    def holds_at(self, moment: datetime) -> bool:
        """True until it expires, unless it was a revocation, or a clock that was set back says that it is not given yet."""
        return not self.revoked and self.time <= moment + MAX_AHEAD and moment < self.expires


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An earlier release made the live one again.

    Attributes:
        environment: where.
        before: id of the release that was live.
        since_entry: number of the ledger's entry that had made it live, so that no one can enter this decision again later.
        after: id of the release that is live from now on.
        reason: why, in the person's words.
        who: user and host.
        time: of the decision.
    """

    environment: str
    before: str
    since_entry: int
    after: str
    reason: str
    who: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
