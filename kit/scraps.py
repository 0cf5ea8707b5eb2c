"""scrapbook: named scalars that a notebook records, glued as outputs and read back from the executed notebook.

Every scalar scrap is a metric, also one that the notebook glued itself. Only this module imports scrapbook.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kit.errors import ParameterError

Scalar = float | int | bool | str

_MEDIA_TYPE = "application/scrapbook.scrap."


def plain_scalar(value: Any) -> Scalar:
    """A metric as a plain value: numpy scalars and arrays of one element become Python's own.

    JSON has no NaN and no infinity: they become the texts `NaN`, `Infinity` and `-Infinity`, which a record keeps and
    no metric limit accepts.

    Raises:
        ParameterError: the value is no scalar.
    """
    if getattr(value, "size", None) == 1 and callable(getattr(value, "item", None)):
        value = value.item()  # numpy and its like: a scalar, or an array of one element
    elif getattr(value, "ndim", None) == 0 and callable(getattr(value, "numpy", None)):
        return plain_scalar(value.numpy())  # a tensor
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite_or_text(float(value))
    if isinstance(value, str):
        return str(value)
    raise ParameterError(
        f"a metric is a number, a truth value or a text, found {type(value).__name__}; "
        "reduce it first, or write it as an output"
    )


def glue(name: str, value: Any) -> Scalar:
    """Record a scalar under a name in the running notebook, through scrapbook, and give the value as recorded.

    Raises:
        ParameterError: the name is empty or no text, or the value is no scalar.
    """
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"a metric needs a name, found {name!r}")
    scalar = plain_scalar(value)
    from kit import standins

    standins.install()
    import scrapbook

    # text must be said: scrapbook would take the first encoder that fits, and only this one keeps it as it is
    scrapbook.glue(name, scalar, encoder="text" if isinstance(scalar, str) else "json")
    return scalar


def read_scraps(notebook: Mapping[str, Any]) -> dict[str, Scalar]:
    """The scalar scraps of an executed notebook by name; of several under one name the last one counts.

    Lists, tables, pictures and anything malformed are skipped: they are outputs, not metrics.
    """
    found: dict[str, Scalar] = {}
    for payload in _payloads(notebook):
        name, value = payload.get("name"), payload.get("data")
        if not isinstance(name, str) or not name:
            continue
        if payload.get("encoder") in ("json", "text") and isinstance(value, bool | int | float | str):
            found[name] = _finite_or_text(value) if isinstance(value, float) else value
        else:
            found.pop(name, None)  # the name now stands for something else: the earlier value no longer holds
    return found


def _payloads(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for cell in notebook.get("cells", ()):
        for output in cell.get("outputs", ()):
            for media_type, payload in (output.get("data") or {}).items():
                if media_type.startswith(_MEDIA_TYPE) and media_type.endswith("+json") and isinstance(payload, dict):
                    yield payload


def _finite_or_text(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
