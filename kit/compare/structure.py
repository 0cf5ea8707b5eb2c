"""Comparing values made of lists, objects and scalars, such as JSON, and naming where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kit.compare.tally import Tally


def compare_json(before: Path, after: Path, tally: Tally) -> None:
    """Compare two JSON files by their values: order of keys, white space and `1` or `1.0` make no difference.

    Raises:
        ValueError: one is no JSON.
    """
    compare_values("", json.loads(before.read_bytes()), json.loads(after.read_bytes()), tally)


def compare_values(place: str, before: Any, after: Any, tally: Tally) -> None:
    """Compare two values part by part; a missing key or another length is one difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            inner = f"{place}.{key}" if str(key).isidentifier() else f"{place}[{key!r}]"
            if key in before and key in after:
                compare_values(inner, before[key], after[key], tally)
            else:
                tally.n_compared += 1
                tally.add(1, _name(inner), before.get(key, MISSING), after.get(key, MISSING))
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            tally.n_compared += 1
            tally.add(1, f"length of {_name(place)}", len(before), len(after))
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            compare_values(f"{place}[{index}]", old, new, tally)
    else:
        tally.compare(_name(place), before, after)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


def _name(place: str) -> str:
    return place.lstrip(".") or "the value"
