"""Nested tables, as TOML writes them, read by dotted name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # TOML 1.0, "Keys"


def flatten_table(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested tables by dotted name: `gates.metrics.auc.min`, `data."a.csv"`; an empty table is a leaf."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        name = key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
        leaves |= flatten_table(item, f"{prefix}.{name}" if prefix else name)
    return leaves or ({prefix: {}} if prefix else {})
