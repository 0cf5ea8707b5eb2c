"""Two releases beside each other: what they pin, on what evidence, with which configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from kit.decision import Waiver
from kit.diff.facts import diff_mapping, diff_metrics, diff_outputs_written
from kit.diff.files import SourceFile, diff_files
from kit.diff.records import diff_configurations
from kit.diff.values import Change, EvidenceDiff, ReleaseDiff, ReleaseHead
from kit.gate import Evidence, Manifest, Release, Verdict

_SOFTER = dict.fromkeys(("commit", "training_record", "promoted_from"), Change.ORIGIN)


class ReleaseSide(msgspec.Struct, frozen=True, kw_only=True):
    """One release with its manifest; `sources` is None if its bundle is not there, and `note` says so."""

    release: Release
    manifest: Manifest
    sources: dict[str, SourceFile] | None = None
    note: str = ""


def diff_releases(before: ReleaseSide, after: ReleaseSide) -> ReleaseDiff:
    """Everything that two releases have in common and not."""
    old, new = before.manifest, after.manifest
    difference = ReleaseDiff(
        before=_head(before),
        after=_head(after),
        differs=False,
        manifest=diff_mapping(_pins(old), _pins(new), _SOFTER),
        artifacts=diff_outputs_written(old.artifacts, new.artifacts),
        metrics=diff_metrics(old.metrics, new.metrics),
        configuration=diff_configurations(old.configuration, new.configuration),
        evidence=diff_evidence(old.verdict, new.verdict),
        files=diff_files(before.sources, after.sources),
        notes=_choose_notes(before, after),
    )
    groups = (
        difference.manifest, difference.artifacts, difference.metrics, difference.configuration, difference.evidence,
        difference.files,
    )  # fmt: skip
    differs = any(each.change.counts for group in groups for each in group)
    return msgspec.structs.replace(difference, differs=differs)


def _choose_notes(before: ReleaseSide, after: ReleaseSide) -> tuple[str, ...]:
    if before.manifest.bundle_sha256 == after.manifest.bundle_sha256:
        return ()
    return tuple(f"{side.release.id}: {side.note}" for side in (before, after) if side.note)


def diff_evidence(before: Verdict, after: Verdict) -> tuple[EvidenceDiff, ...]:
    """Evidence by kind and subject; another sentence under the same finding is `origin`, as digests and ids are in them."""
    old, new = _by_subject(before), _by_subject(after)
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        findings = (a.finding.value if a else None, b.finding.value if b else None)
        details = (a.detail if a else None, b.detail if b else None)
        found.append(EvidenceDiff(key[0], key[1], _change_of(a, b), *findings, *details))
    return tuple(found)


def _change_of(before: Evidence | None, after: Evidence | None) -> Change:
    if before is None or after is None:
        return Change.ADDED if before is None else Change.REMOVED
    if before.finding != after.finding:
        return Change.CHANGED
    return Change.SAME if before.detail == after.detail else Change.ORIGIN


def _by_subject(verdict: Verdict) -> dict[tuple[str, str, int], Evidence]:
    """By kind, subject and number: a metric has several pieces; of a record's id its stage is the subject."""
    found: dict[tuple[str, str, int], Evidence] = {}
    for each in verdict.evidence:
        subject = _stage_of(each.subject) if each.kind == "record" else each.subject
        n = sum(key[:2] == (each.kind, subject) for key in found)
        found[each.kind, subject, n] = each
    return found


def _stage_of(record_id: str) -> str:
    """`train` of `20260301T093000Z-train-4f09c1`: two releases never have the same records."""
    return record_id.partition("-")[2].rpartition("-")[0] or record_id


def _head(side: ReleaseSide) -> ReleaseHead:
    release = side.release
    return ReleaseHead(
        release.id,
        release.environment,
        release.time,
        release.who,
        release.record,
        side.manifest.training_record,
        side.manifest.verdict.passed,
    )


def _pins(manifest: Manifest) -> dict[str, Any]:
    return {
        "environment": manifest.environment,
        "bundle_sha256": manifest.bundle_sha256,
        "commit": manifest.commit,
        "training_record": manifest.training_record,
        "lock_sha256": manifest.lock_sha256,
        "configuration_sha256": manifest.configuration_sha256,
        "promoted_from": manifest.promoted_from or None,
        **{f"waiver of {each.evidence}": _tell_waiver(each) for each in manifest.verdict.waivers},
    }


def _tell_waiver(waiver: Waiver) -> str:
    return f"until {waiver.until} by {waiver.who}: {waiver.reason}"
