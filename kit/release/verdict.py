"""A verdict beside the release that it admits: both must speak of the same bytes, evidence and environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from kit.archive import RELEASE_FILE
from kit.execute.sources import BUNDLE
from kit.files import canonical_json
from kit.gate import Manifest
from kit.statement import TEST_RESULT, describe_resource, look_up, subjects_of

_KIT = ("predicate", "kit")


def bound_digests(manifest: Manifest) -> dict[str, str]:
    """What a release pins: digests of the bundle and of all artifacts by name."""
    return {**{each.name: each.sha256 for each in manifest.artifacts}, BUNDLE: manifest.bundle_sha256}


def find_contradictions(manifest: Manifest, statement: Mapping[str, Any], record: str) -> Iterator[str]:
    """Where release.json and the verdict on it do not say the same: a sentence each, `expected …, found …`.

    Args:
        manifest: as release.json has it.
        statement: of verdict.dsse.json.
        record: id of the record that cut the release.
    """
    verdict = manifest.verdict
    yield from _compare_digests(
        "the verdict", subjects_of(statement), verdict.subjects | {RELEASE_FILE: manifest.sha256}
    )
    yield from _compare_digests("release.json", verdict.subjects, bound_digests(manifest), exactly=False)
    configuration = describe_resource(f"environments/{manifest.environment}.toml", manifest.configuration_sha256)
    expected: list[tuple[str, Any, Any]] = [
        ("predicate", TEST_RESULT, look_up(statement, "predicateType")),
        ("record", record, look_up(statement, *_KIT, "record")),
        ("configuration", [configuration], look_up(statement, "predicate", "configuration")),
        ("evidence", msgspec.to_builtins(verdict.evidence), look_up(statement, *_KIT, "evidence")),
        ("environment", manifest.environment, verdict.environment),
        ("configuration", manifest.configuration_sha256, verdict.configuration_sha256),
    ]
    for name, wanted, found in expected:
        if _encode(wanted) != _encode(found):
            yield f"the verdict's {name}: expected {_shorten(wanted)}, found {_shorten(found)}"
    result = look_up(statement, "predicate", "result")
    if result not in ("PASSED", "WARNED") or not verdict.passed:
        yield f"the verdict: expected one that admits the release, found {result}"


def _compare_digests(
    where: str, found: Mapping[str, str], expected: Mapping[str, str], *, exactly: bool = True
) -> Iterator[str]:
    for name in sorted(expected.keys() | (found.keys() if exactly else ())):
        if found.get(name) != expected.get(name):
            wanted, there = (short(each.get(name, "")) for each in (expected, found))
            yield f"{where}, {name}: expected {wanted}, found {there}"


def short(sha256: str) -> str:
    """The first twelve digits of a digest; `nothing` without one."""
    return f"{sha256[:12]}…" if sha256 else "nothing"


def _encode(value: Any) -> bytes:
    return canonical_json(msgspec.to_builtins(value))


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode()
    return f"{text[:60]}…" if len(text) > 60 else text
