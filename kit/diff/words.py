"""How values of a difference read, in a terminal and on a page alike."""

from __future__ import annotations

import re
from typing import Any

from kit.diff.values import MetricDiff
from kit.files import canonical_json, format_bytes

_DIGEST = re.compile(r"[0-9a-f]{64}")


def tell_value(name: str, value: Any) -> str:
    """A value as a person wants it: digests short, seconds and bytes with their unit, what is no text as JSON.

    Args:
        name: the fact's; its ending tells the unit (`wall_s`, `peak_memory_bytes`). A cell's index, which counts from 0,
            is told as everywhere else: `cell 15`.
        value: a JSON value.
    """
    match value:
        case None:
            return "none"
        case str():
            return value[:12] if name == "commit" or _DIGEST.fullmatch(value) else value
        case int() if not isinstance(value, bool) and name == "failed_cell":
            return f"cell {value + 1}"
        case int() | float() if not isinstance(value, bool) and name.endswith("_bytes"):
            return format_bytes(int(value))
        case int() | float() if not isinstance(value, bool) and name.endswith("_s"):
            return f"{value:.1f} s"
        case float():
            return f"{value:.6g}"
    return canonical_json(value).decode()


def tell_difference(metric: MetricDiff) -> str:
    """`+0.0008`; empty where there is none to tell."""
    return f"{metric.difference:+.6g}" if metric.difference else ""


def tell_relative(metric: MetricDiff) -> str:
    """`+0.13 %`; empty where there is none to tell."""
    return f"{100 * metric.relative:+.3g} %" if metric.relative else ""
