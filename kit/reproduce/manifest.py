"""Comparing the manifests of two releases: the same decision, for the same reasons, on artifacts that stand for each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kit.compare import Agreement, Comparator, Kind, compare_metrics
from kit.compare.structure import compare_values
from kit.compare.tally import Tally
from kit.gate import Evidence, Manifest, decode_manifest
from kit.reproduce.names import Names

# How far a number was from its limit: the numbers are compared as metrics and outputs, here counts that it was kept.
_MEASURED = ("metric", "drop", "slice", "model")


def compare_manifests(
    before: bytes, after: bytes, names: Names, comparators: Mapping[str, Comparator]
) -> tuple[Agreement, str]:
    """Compare two release.json, the second as if it were about the records and artifacts of the first.

    Returns:
        How far they agree, and where they differ in one sentence.

    Raises:
        IntegrityError: one cannot be read.
    """
    if before == after:
        return Agreement.IDENTICAL, ""
    old, new = decode_manifest(before, "the recorded release.json"), decode_manifest(after, "the new release.json")
    broken = [c for c in compare_metrics(old.metrics, new.metrics, comparators) if not c.holds]
    if broken:
        return Agreement.DIFFERENT, f"{broken[0].subject}: {broken[0].detail}"
    tally = Tally(Comparator(Kind.JSON))
    compare_values("", _comparable(old), names.translate(_comparable(new)), tally)
    if tally.n_differ:
        return Agreement.DIFFERENT, tally.sentence()
    return Agreement.EQUAL, "the same decision for the same reasons, on what was done again"


def _comparable(manifest: Manifest) -> dict[str, Any]:
    evidence = [_comparable_evidence(each) for each in manifest.verdict.evidence]
    plain: dict[str, Any] = msgspec.json.decode(manifest.encode())
    del plain["metrics"]
    artifacts = [{"name": each.name, "sha256": each.sha256} for each in manifest.artifacts]  # sizes may differ
    return plain | {"artifacts": artifacts, "verdict": plain["verdict"] | {"evidence": evidence}}


def _comparable_evidence(evidence: Evidence) -> dict[str, str]:
    plain: dict[str, str] = msgspec.to_builtins(evidence)
    return plain if evidence.kind not in _MEASURED else plain | {"detail": ""}
