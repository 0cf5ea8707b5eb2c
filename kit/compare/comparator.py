"""How one result is compared: chosen by its type, or declared in `[tool.kit.compare]` of pyproject.toml.

[tool.kit.compare]
"predictions.parquet" = { kind = "table", rtol = 1e-6 }
"metrics.auc" = { kind = "metric", atol = 1e-6 }
"cells.timing" = { kind = "ignore", reason = "prints how long it took" }
"""

from __future__ import annotations

import enum
import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from kit.errors import ProjectError, UnknownNameError, suggest

METRICS = "metrics."
CELLS = "cells."
TABLE = "[tool.kit.compare]"


class Kind(enum.StrEnum):
    """What is looked at."""

    BYTES = "bytes"
    JSON = "json"
    TABLE = "table"
    TENSORS = "tensors"
    IMAGE = "image"
    METRIC = "metric"
    IGNORE = "ignore"


class Comparator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How two results are compared.

    Two numbers are the same if |after - before| <= atol + rtol * |before|; NaN is the same as NaN.

    Attributes:
        kind: what is looked at.
        rtol: relative tolerance, 0 or more.
        atol: absolute tolerance, 0 or more; for an image in levels of a channel, 0 to 255.
        reason: why; an `ignore` must have one.
    """

    kind: Kind
    rtol: float = 0.0
    atol: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        """`table(rtol=1e-06)`, `ignore(prints how long it took)`."""
        if self.kind is Kind.IGNORE:
            return f"{self.kind}({self.reason})"
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        told = ", ".join(f"{name}={value:g}" for name, value in tolerances.items() if value)
        return f"{self.kind}({told})" if told else str(self.kind)


_KEYS = {
    Kind.BYTES: ("reason",),
    Kind.JSON: ("rtol", "atol", "reason"),
    Kind.TABLE: ("rtol", "atol", "reason"),
    Kind.TENSORS: ("rtol", "atol", "reason"),
    Kind.IMAGE: ("atol", "reason"),
    Kind.METRIC: ("rtol", "atol", "reason"),
    Kind.IGNORE: ("reason",),
}
_KIND_OF_SUFFIX = {
    ".csv": Kind.TABLE,
    ".h5": Kind.TENSORS,
    ".json": Kind.JSON,
    ".keras": Kind.TENSORS,
    ".npy": Kind.TENSORS,
    ".npz": Kind.TENSORS,
    ".parquet": Kind.TABLE,
    ".png": Kind.IMAGE,
}


def comparator_of(name: str) -> Comparator:
    """The comparator of a file by its name's ending: no tolerance, a project declares its own."""
    return Comparator(_KIND_OF_SUFFIX.get(PurePosixPath(name).suffix.lower(), Kind.BYTES))


def metric_comparator(name: str, comparators: Mapping[str, Comparator]) -> Comparator:
    """The comparator of a metric; without a declared one numbers must be the same."""
    declared = comparators.get(METRICS + name)
    return declared if declared and declared.kind in (Kind.METRIC, Kind.IGNORE) else Comparator(Kind.METRIC)


def read_comparators(
    pyproject: bytes, where: str = "pyproject.toml", known: Collection[str] | None = None
) -> dict[str, Comparator]:
    """The declared comparators of a project, from the bytes of its pyproject.toml; none if it declares none.

    Raises:
        ProjectError: no TOML, or a declaration is not as it must be.
        UnknownNameError: see `parse_comparators`.
    """
    try:
        table: Any = tomllib.loads(pyproject.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{where} cannot be read as TOML: {error}") from error
    for key in ("tool", "kit", "compare"):
        table = table.get(key, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise ProjectError(f"{where}, {TABLE}: expected a table, found {table!r}")
    return parse_comparators(table, where, known)


def parse_comparators(
    table: Mapping[str, Any], where: str = "pyproject.toml", known: Collection[str] | None = None
) -> dict[str, Comparator]:
    """Declared comparators by subject: an output's name, `metrics.<name>` or `cells.<id>`.

    Args:
        table: `[tool.kit.compare]` as TOML has it.
        where: the file, for messages.
        known: subjects that exist; without it any may be declared.

    Raises:
        ProjectError: an unknown kind or key, a tolerance that is none, an `ignore` without a reason.
        UnknownNameError: a subject that is not in `known`, with the nearest one.
    """
    comparators = {subject: _parse(subject, value, f"{where}, {TABLE}") for subject, value in table.items()}
    for subject in comparators:
        if known is not None and subject not in known:
            raise UnknownNameError("output, metric or cell", subject, known, f"{where}, {TABLE}")
    return comparators


def _parse(subject: str, value: Any, where: str) -> Comparator:
    where = f"{where}, {subject!r}"
    if not isinstance(value, dict):
        raise ProjectError(f'{where}: expected a table such as {{ kind = "table", rtol = 1e-6 }}, found {value!r}')
    kind = _parse_kind(subject, value, where)
    for key in value:
        if key != "kind" and key not in _KEYS[kind]:
            allowed = ["kind", *_KEYS[kind]]
            raise ProjectError(f"{where}: key {key!r} of a comparator of kind {kind.value!r}{suggest(key, allowed)}")
    tolerances = {key: _parse_tolerance(value[key], f"{where}: {key}") for key in ("rtol", "atol") if key in value}
    reason = value.get("reason", "")
    if not isinstance(reason, str) or (kind is Kind.IGNORE and not reason.strip()):
        raise ProjectError(f"{where}: expected the reason in a few words, found {reason!r}; whoever reads it will ask")
    return Comparator(kind, reason=reason.strip(), **tolerances)


def _parse_kind(subject: str, value: Mapping[str, Any], where: str) -> Kind:
    if "kind" not in value:
        nested = next((name for name, inner in value.items() if isinstance(inner, dict)), None)
        hint = f'; a name with a dot needs quotes: "{subject}.{nested}"' if nested else ""
        raise ProjectError(f"{where}: has no kind; expected one of {', '.join(Kind)}{hint}")
    kinds = [kind.value for kind in Kind]
    if value["kind"] not in kinds:
        name = value["kind"]
        raise ProjectError(f"{where}: kind {name!r}{suggest(name, kinds) if isinstance(name, str) else ' is no text'}")
    kind = Kind(value["kind"])
    if kind is Kind.METRIC and not subject.startswith(METRICS):
        raise ProjectError(f"{where}: only a metric can be compared so; a metric is named '{METRICS}<name>'")
    if subject.startswith(CELLS) and kind not in (Kind.BYTES, Kind.IMAGE, Kind.IGNORE):
        raise ProjectError(
            f"{where}: a cell is compared by bytes, image (its pictures) or ignore, found {kind.value!r}"
        )
    return kind


def _parse_tolerance(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ProjectError(f"{where} must be a finite number, 0 or more, found {value!r}")
    return float(value)
