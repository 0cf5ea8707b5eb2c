"""What the index shows of releases, and how values read in reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from kit.files import format_bytes
from kit.record import Record, Status

# The metric that stands for a stage where no one says which: the first of these that it has.
PREFERRED_METRICS = ("test_auc", "auc", "roc_auc", "accuracy", "f1", "rmse", "mae", "log_loss", "loss")


class EvidenceRow(msgspec.Struct, frozen=True):
    """One thing that a gate looked at: the kind of evidence, what it is about, the finding, and the detail."""

    kind: str
    subject: str
    finding: str
    detail: str = ""

    @property
    def tone(self) -> str:
        """The colour class of the finding."""
        return {"holds": "good", "refuses": "bad", "waived": "open"}.get(self.finding, "quiet")


class WaiverRow(msgspec.Struct, frozen=True, kw_only=True):
    """A waiver as pages show it.

    Attributes:
        evidence: `<kind>:<subject>`.
        state: how it stands now, in a few words.
        who: who decided.
        time: when; None where only the verdict tells of it.
        reason: in that person's words.
        until: the last day on which it holds.
        holds: True if it lets something pass today.
        revoked: True for a decision that took an earlier one back.
    """

    evidence: str
    state: str
    who: str
    time: datetime | None = None
    reason: str = ""
    until: date | None = None
    holds: bool = False
    revoked: bool = False

    @property
    def is_alarming(self) -> bool:
        """True for one that has run out or cannot be read: what rests on it does not stand."""
        return not self.holds and not self.revoked and not self.state.startswith("replaced")


class ReleaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A release, or the refusal of one, as the index shows it.

    Attributes:
        id: `staging-3`; empty for a refusal.
        record: id of the record of the release stage.
        who: the user who cut it.
        live: True for the release that its environment runs now.
        passed: the gate's verdict.
        reasons: why the gate refused; empty if it passed.
        promoted_from: id of the release that it repeats.
        waivers: those that it rests on.
        training: id of the record that made its model.
        commit: of its sources.
        manifest_sha256: digest of its release.json.
    """

    id: str
    environment: str
    time: datetime
    record: str
    who: str
    live: bool = False
    passed: bool = True
    reasons: tuple[str, ...] = ()
    evidence: tuple[EvidenceRow, ...] = ()
    promoted_from: str = ""
    waivers: tuple[WaiverRow, ...] = ()
    training: str = ""
    commit: str = ""
    manifest_sha256: str = ""

    @property
    def tone(self) -> str:
        """The colour class of the verdict: waived evidence is not as good as evidence that holds."""
        return "bad" if not self.passed else "open" if self.waivers else "good"

    @property
    def summary(self) -> str:
        """The verdict in a few words."""
        if not self.passed:
            return "refused"
        return f"passed, {len(self.waivers)} waived" if self.waivers else "passed"


def main_metric(record: Record) -> tuple[str, float] | None:
    """The metric that stands for a record, see `choose_metric`."""
    return choose_metric(record.metrics)


def choose_metric(metrics: Mapping[str, float | int | bool | str]) -> tuple[str, float] | None:
    """A preferred name, else the first number."""
    numbers = {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    name = next((name for name in [*PREFERRED_METRICS, *numbers] if name in numbers), None)
    return None if name is None else (name, numbers[name])


def newest_first(records: Iterable[Record]) -> list[Record]:
    """Records, the latest start first."""
    return sorted(records, key=lambda record: (record.started, record.id), reverse=True)


def format_number(value: Any) -> str:
    """A metric to read: four significant digits, thousands apart; whole numbers whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u202f")
    if abs(value) >= 1000:
        return f"{value:,.1f}".replace(",", "\u202f")
    return f"{value:.4f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"


def format_seconds(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`; a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_moment(time: datetime) -> str:
    """`1 Mar 2026, 09:30 UTC`."""
    return f"{format_day(time)}, {time.astimezone(UTC):%H:%M} UTC"


def format_day(time: datetime) -> str:
    """`1 Mar 2026`, in UTC."""
    moment = time.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def format_value(value: Any) -> str:
    """A parameter's or an argument's value, as JSON writes it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def format_count(n: int, noun: str) -> str:
    """`1 record`, `12 records`; digits as `format_number` has them."""
    return f"{format_number(n)} {noun}{'' if n == 1 else 's'}"


def mark_code(text: str) -> Any:
    """A sentence as HTML, escaped; what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def tone_of(status: Status) -> str:
    """The colour class of a status: good, bad or open."""
    return {Status.SUCCEEDED: "good", Status.STARTED: "open"}.get(status, "bad")


FILTERS = {
    "bytes": format_bytes,
    "code": mark_code,
    "count": format_count,
    "day": format_day,
    "moment": format_moment,
    "number": format_number,
    "seconds": format_seconds,
    "tone": tone_of,
    "value": format_value,
}
