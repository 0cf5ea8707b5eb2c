"""Conditions on metrics and parameters, as people write them: `auc>=0.7`, `units=64`, `optimizer!=sgd`."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from kit.errors import UsageError

Operator = Literal["=", "!=", "<", "<=", ">", ">="]

_NAME = r"(?P<name>[^\s=!<>](?:[^=!<>]*[^\s=!<>])?)"
_FORM = re.compile(rf"\s*{_NAME}\s*(?P<operator><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_QUOTED = re.compile(r"\"(.*)\"|'(.*)'", re.DOTALL)
_MAX_INTEGER = (1 << 63) - 1


class Condition(msgspec.Struct, frozen=True):
    """A name, an operator, a value.

    Attributes:
        name: of a metric or a parameter; `metric.auc` and `parameter.units` where both have it.
        operator: `=` and the others. A record without the name fulfils none, `!=` neither. A number is neither smaller nor
            larger than a text.
        value: a number or a text; `true`, `false` and `null` are the texts of what has no other value.
    """

    name: str
    operator: Operator
    value: int | float | str


def parse_condition(text: str) -> Condition:
    """Read one condition.

    Raises:
        UsageError: it is none.
    """
    match = _FORM.fullmatch(text)
    if match is None or not match["value"]:
        raise UsageError(
            f"condition {text!r}: expected NAME, then one of = != < <= > >=, then a value: auc>=0.7, optimizer=adam; "
            f"a text that looks like a number in quotes: code='007'"
        )
    operator = match["operator"].replace("==", "=")
    return msgspec.convert(
        {"name": match["name"], "operator": operator, "value": _read_value(match["value"])}, Condition
    )


def _read_value(text: str) -> int | float | str:
    if quoted := _QUOTED.fullmatch(text):
        return next(part for part in quoted.groups() if part is not None)
    if not _NUMBER.fullmatch(text):
        return text
    value = scalar_of(float(text) if re.search(r"[.eE]", text) else int(text))
    return text if value is None else value


def scalar_of(value: Any) -> int | float | str | None:
    """A value as the index keeps it: numbers as such, what cannot be compared as numbers as text; None if it is no scalar."""
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int():
            return value if abs(value) <= _MAX_INTEGER else _as_float(value)
        case float() | str():
            return value
    return None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
