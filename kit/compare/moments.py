"""Dates and times in text that are those of the execution which printed it, and no one else's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

Window = tuple[datetime, datetime]

_FRACTION = r"(?:[.,]\d{1,9})?"
_ZONE = r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?P<month_name>{'|'.join(_MONTHS)})"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        # 2026-03-01T09:30:00.250Z, 2026-03-01 09:30:00,250, 2026-03-01 09:30, 2026-03-01
        r"(?<![\w-])(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
        rf"(?:[T ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d){_FRACTION})? ?{_ZONE})?(?![\w:])",
        # 20260301T093000Z, 20260301-093000, 2026-03-01_09-30-00, 20260301
        r"(?<!\d)(?P<year>\d{4})(-?)(?P<month>\d\d)\2(?P<day>\d\d)"
        rf"[T_-](?P<hour>\d\d)(-?)(?P<minute>\d\d)\6(?P<second>\d\d){_ZONE}(?![\d])",
        r"(?<![\w.-])(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?![\w.-])",
        # Sun Mar  1 09:30:00 2026, as ctime and git have it
        rf"\b{_WEEKDAY}{_MONTH} +(?P<day>\d{{1,2}}) {_CLOCK} (?:[A-Z]{{3,4}} )?(?P<year>\d{{4}})\b",
        # Sun, 01 Mar 2026 09:30:00 +0000: RFC 2822
        rf"\b{_WEEKDAY}(?P<day>\d{{1,2}}) {_MONTH} (?P<year>\d{{4}}) {_CLOCK}(?: (?:GMT|UTC|[+-]\d{{4}}))?",
    )
)
_TIME_OF_DAY = re.compile(rf"(?<![\w:.]){_CLOCK}{_FRACTION}(?![\w:])")
_EPOCH = re.compile(r"(?<![\w.])(1\d{9})(?:\.\d+|\d{3}|\d{6}|\d{9})?(?![\w.])")  # seconds, or 10**-3, -6, -9 of them
_SLACK = timedelta(seconds=2)
_ANY_ZONE = timedelta(hours=14)  # a date and time without a zone may be local anywhere
_DAY = timedelta(days=1)


def replace_moments(text: str, window: Window, by: str = "<time>") -> str:
    """Replace every date and time that lies within an execution.

    Args:
        text: what it printed.
        window: its start and end, aware.
        by: what stands there instead.
    """
    start, end = window[0] - _SLACK, window[1] + _SLACK
    for pattern in _DATES:
        text = pattern.sub(lambda match: by if _is_date_within(match, start, end) else match[0], text)
    text = _TIME_OF_DAY.sub(lambda match: by if _is_clock_within(match, start, end) else match[0], text)
    return _EPOCH.sub(
        lambda match: by if start.timestamp() <= int(match[1]) + 1 <= end.timestamp() + 1 else match[0], text
    )


def _is_date_within(match: re.Match[str], start: datetime, end: datetime) -> bool:
    parts = match.groupdict()
    month = _MONTHS.index(parts["month_name"]) + 1 if parts.get("month_name") else int(parts["month"])
    hour, minute, second = (int(parts.get(part) or 0) for part in ("hour", "minute", "second"))
    try:
        zone = _zone(parts.get("zone"))
        moment = datetime(int(parts["year"]), month, int(parts["day"]), hour, minute, second, tzinfo=zone)
    except ValueError:  # no such day, hour or zone
        return False
    unknown = timedelta() if parts.get("zone") else _ANY_ZONE
    day = timedelta() if parts.get("hour") else _DAY  # of a date it is the beginning
    return start - unknown - day <= moment <= end + unknown


def _zone(text: str | None) -> timezone:
    if not text or text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _is_clock_within(match: re.Match[str], start: datetime, end: datetime) -> bool:
    """True for a time of day within the execution, in UTC or in the time zone of this machine."""
    clock = [int(match[part]) for part in ("hour", "minute", "second")]
    for now in _in_both_zones(start):
        try:
            moment = now.replace(hour=clock[0], minute=clock[1], second=clock[2], microsecond=999_999)
        except ValueError:
            return False
        if start <= moment <= end + _SLACK or start <= moment + _DAY <= end + _SLACK:
            return True
    return False


def _in_both_zones(moment: datetime) -> Iterator[datetime]:
    yield moment.astimezone(UTC)
    yield moment.astimezone()
