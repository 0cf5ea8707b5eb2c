"""Expectation suites: the JSON files beside the notebooks, parsed strictly, because a typo must not open a gate.

Great Expectations passes an empty suite and drops an expectation whose type it does not know. It is not imported here:
its own types are read from its sources, so that looking at a suite costs nothing. Two types are kit's own: how far a
column may have moved from the reference profile that training wrote.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from kit.check import Severity
from kit.errors import SuiteError, suggest
from kit.files import sha256_bytes

ROW_COUNTS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")

PSI, KL_DIVERGENCE = "expect_column_psi_to_be_at_most", "expect_column_kl_divergence_to_be_at_most"
DRIFT_TYPES = (PSI, KL_DIVERGENCE)

# Great Expectations 1.24.1 imports it and never registers it: evaluating it always fails.
_NEVER_REGISTERED = {"expect_multicolumn_values_to_be_unique"}

_SUITE_KEYS = ("name", "expectations", "meta")
_EXPECTATION_KEYS = ("type", "kwargs", "severity", "meta")
_DRIFT_ARGUMENTS = ("column", "max_value", "profile_column")


class Expectation(msgspec.Struct, frozen=True):
    """One expectation of a suite file: its type and arguments, what failing means, and why it is there."""

    type: str
    arguments: dict[str, Any]
    severity: Severity
    why: str

    @property
    def needs_profile(self) -> bool:
        """True if it is kit's own and compares with a reference profile; the others are Great Expectations'."""
        return self.type in DRIFT_TYPES


class Suite(msgspec.Struct, frozen=True):
    """An expectation suite, as `notebooks/expectations/<artifact stem>.json` has it."""

    name: str
    sha256: str
    expectations: tuple[Expectation, ...]

    @property
    def needs_profile(self) -> bool:
        """True if one of its expectations compares with a reference profile."""
        return any(expectation.needs_profile for expectation in self.expectations)


def suite_path_of(artifact: str, notebooks: Path) -> Path:
    """Where the suite of an artifact lies: `notebooks/expectations/<artifact stem>.json`."""
    return notebooks / "expectations" / f"{Path(artifact).stem}.json"


def load_suite(path: Path) -> Suite:
    """Read a suite file strictly; does not import Great Expectations.

    Raises:
        SuiteError: unreadable, empty, without a row count, an unknown key or expectation type, a missing reason, or
            an expectation that could not fail.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path.name}: the suite cannot be read ({error.strerror}); write {path}") from error
    return parse_suite(data, path.name)


def parse_suite(data: bytes, where: str) -> Suite:
    """The same for a file's bytes; `where` names the file in messages."""
    try:
        declared = json.loads(data)
    except ValueError as error:
        raise SuiteError(f"{where}: the suite is no JSON: {error}") from error
    _require_keys(declared, _SUITE_KEYS, ("name", "expectations"), where)
    if not isinstance(declared["name"], str) or not declared["name"]:
        raise SuiteError(f"{where}: 'name' must be a text, found {declared['name']!r}")
    items = declared["expectations"]
    if not isinstance(items, list) or not items:
        raise SuiteError(f"{where}: the suite is empty and would pass everything; write at least one expectation")
    expectations = tuple(_parse_expectation(item, f"{where}, expectation {n}") for n, item in enumerate(items, 1))
    if not any(e.type in ROW_COUNTS and e.severity is Severity.CRITICAL for e in expectations):
        raise SuiteError(f"{where}: no critical row count, an empty table would pass; add {ROW_COUNTS[0]}")
    return Suite(declared["name"], sha256_bytes(data), expectations)


@cache
def known_types() -> tuple[str, ...]:
    """Names of the installed Great Expectations' own expectations, read from its sources without importing it."""
    spec = importlib.util.find_spec("great_expectations")
    folders = spec.submodule_search_locations if spec else None
    texts = [Path(folder, "expectations", "core", "__init__.py").read_text("utf-8") for folder in folders or ()]
    names = {name for text in texts for name in re.findall(r"^from \S*\.(expect_\w+) import", text, re.M)}
    return tuple(sorted(names - _NEVER_REGISTERED))


def _parse_expectation(item: Any, where: str) -> Expectation:
    _require_keys(item, _EXPECTATION_KEYS, ("type", "kwargs"), where)
    kind, arguments, meta = item["type"], item["kwargs"], item.get("meta")
    known = (*known_types(), *DRIFT_TYPES)
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        raise SuiteError(
            f"{where}: type {kind!r}{suggest(str(kind), near)}  (Great Expectations would drop it silently)"
        )
    where = f"{where} ({kind})"
    if not isinstance(arguments, dict):
        raise SuiteError(f"{where}: 'kwargs' must be an object, found {arguments!r}")
    if not isinstance(meta, dict) or not isinstance(meta.get("why"), str) or not meta["why"].strip():
        raise SuiteError(f'{where}: no reason; add "meta": {{"why": "…"}} for whoever reads the failed check')
    severity = item.get("severity", Severity.CRITICAL.value)
    if severity not in tuple(Severity):
        raise SuiteError(f"{where}: severity {severity!r}{suggest(str(severity), [known.value for known in Severity])}")
    if kind in DRIFT_TYPES:
        _require_drift_arguments(arguments, where)
    else:
        _require_it_can_fail(kind, arguments, where)
    return Expectation(kind, arguments, Severity(severity), meta["why"].strip())


def _require_drift_arguments(arguments: Mapping[str, Any], where: str) -> None:
    _require_keys(arguments, _DRIFT_ARGUMENTS, ("column", "max_value"), where)
    for key in ("column", "profile_column"):
        if not isinstance(arguments.get(key, "-"), str) or arguments.get(key) == "":
            raise SuiteError(f"{where}: {key!r} must be a column's name, found {arguments[key]!r}")
    limit = arguments["max_value"]
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise SuiteError(f"{where}: 'max_value' must be a finite number above 0, found {limit!r}")


def _require_it_can_fail(kind: str, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse what Great Expectations would pass on any data."""
    has_bounds = arguments.get("min_value") is not None or arguments.get("max_value") is not None
    if kind.endswith("_to_be_between") and "quantile" not in kind and not has_bounds:
        raise SuiteError(f"{where}: passes on anything; give min_value or max_value")
    if "value_set" in arguments and arguments["value_set"] is None:
        raise SuiteError(f"{where}: passes on anything; value_set must be a list")
    mostly = arguments.get("mostly", 1)
    if isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 < mostly <= 1:
        raise SuiteError(f"{where}: 'mostly' must be in (0, 1], found {mostly!r}")


def _require_keys(value: Any, known: Iterable[str], required: Iterable[str], where: str) -> None:
    if not isinstance(value, dict):
        raise SuiteError(f"{where}: must be an object, found {type(value).__name__}")
    for key in value:
        if key not in known:
            raise SuiteError(f"{where}: key {key!r}{suggest(key, known)}")
    for key in required:
        if key not in value:
            raise SuiteError(f"{where}: {key!r} is missing")
