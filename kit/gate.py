"""Gates and releases as values: evidence, the verdict bound to digests, and what a release pins. Fails closed."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec

from kit.artifact import Artifact
from kit.decision import WAIVABLE, Waiver
from kit.environment import MetricLimits
from kit.errors import IntegrityError
from kit.files import canonical_json, leave_out_empty, sha256_bytes
from kit.measures import is_larger_better

FORMAT = 1
BOUND = "data/"  # before the names of bound data among the subjects of a verdict


class Finding(enum.StrEnum):
    """What a piece of evidence says. `REFUSES` refuses; `WAIVED` would have, and a person let it pass until a day."""

    HOLDS = "holds"
    REFUSES = "refuses"
    WAIVED = "waived"
    NOTED = "noted"


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a gate looked at.

    Attributes:
        kind: `code`, `record`, `signature`, `promotion`, `check`, `metric`, `drop`, `slice`, `data`, `model` or `litert`.
        subject: the check's artifact, the metric's name, …
        finding: holds, refuses, waived or noted.
        detail: one sentence with what was expected and found.
    """

    kind: str
    subject: str
    finding: Finding
    detail: str


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gate's decision, good for exactly these bytes.

    Attributes:
        environment: whose gate it is.
        configuration_sha256: of the configuration that held the limits.
        subjects: digests by artifact name; the bundle among them, `data/<name>` what the environment binds, and
            `live/release.json` what it was compared with.
        evidence: everything that was looked at.
        live: id of the release that was live when it was reached; empty if none was.
        waivers: those that let evidence pass.
    """

    environment: str
    configuration_sha256: str
    subjects: dict[str, str]
    evidence: tuple[Evidence, ...]
    live: str = ""
    waivers: tuple[Waiver, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the release is refused; empty only if something was looked at and all of it holds."""
        if not any(each.finding is Finding.HOLDS for each in self.evidence):
            return ("nothing was checked", *self._refusals)
        return self._refusals

    @property
    def _refusals(self) -> tuple[str, ...]:
        given = {each.evidence for each in self.waivers if each.environment == self.environment and not each.revoked}
        return tuple(filter(None, (_explain_refusal(each, given) for each in self.evidence)))

    @property
    def passed(self) -> bool:
        """True if nothing refuses and something was checked."""
        return not self.reasons


def _explain_refusal(evidence: Evidence, waived: Collection[str]) -> str:
    """Why a piece of evidence refuses; empty if it does not. One that says it was waived refuses without its waiver."""
    sentence = f"{evidence.kind} {evidence.subject}: {evidence.detail}"
    if evidence.finding is Finding.WAIVED:
        is_waived = evidence.kind in WAIVABLE and f"{evidence.kind}:{evidence.subject}" in waived
        return "" if is_waived else f"{sentence}; the verdict names no waiver that may let it pass"
    return sentence if evidence.finding is Finding.REFUSES else ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a release pins: the content of release.json.

    Attributes:
        bundle_sha256: the sources that run.
        training_record: the record that made the artifacts.
        artifacts: model and what comes with it.
        lock_sha256: digest of the lock file in the bundle; None without one.
        configuration: effective configuration of the environment, frozen.
        configuration_sha256: its digest.
        metrics: of the training record.
        verdict: of the gate.
        promoted_from: id of the release that this one repeats for another environment; empty if it is none.
        python: implementation and version that trained, as `CPython 3.11.2`; empty if it is not known.
    """

    format: int = FORMAT
    environment: str
    bundle_sha256: str
    commit: str | None
    training_record: str
    artifacts: tuple[Artifact, ...]
    lock_sha256: str | None
    configuration: dict[str, Any]
    configuration_sha256: str
    metrics: dict[str, float | int | bool | str]
    verdict: Verdict
    promoted_from: str = ""
    python: str = ""

    def encode(self) -> bytes:
        """Canonical JSON, the bytes of release.json."""
        plain = msgspec.to_builtins(self, builtin_types=(datetime,))
        plain["verdict"] = leave_out_empty(plain["verdict"], ("live", "waivers"))  # these came later: older releases
        return canonical_json(leave_out_empty(plain, ("promoted_from", "python")))  # keep their bytes

    @property
    def sha256(self) -> str:
        """Digest of release.json."""
        return sha256_bytes(self.encode())

    def artifact(self, name: str) -> Artifact | None:
        """The released artifact of that name, if there is one."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A numbered release in the archive; never changed.

    Attributes:
        id: `<environment>-<number>`.
        record: of the execution that cut it; its output release.json is the manifest.
        manifest_sha256: digest of release.json in the archive's objects.
        who: user and host.
    """

    format: int = FORMAT
    id: str
    environment: str
    number: int
    time: datetime
    who: str
    record: str
    manifest_sha256: str

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(msgspec.to_builtins(self, builtin_types=(datetime,)))


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read release.json.

    Raises:
        IntegrityError: it is none, or its configuration is not the one that its digest names.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not a readable release: {error}") from error
    if sha256_bytes(canonical_json(manifest.configuration)) != manifest.configuration_sha256:
        raise IntegrityError(f"{where}: the frozen configuration does not have the digest that the release names")
    return manifest


def judge_bounds(name: str, value: Any, limits: MetricLimits) -> list[Evidence]:
    """Hold one metric against its absolute limits; evidence of kind `metric`, none where only `max_drop` is set.

    Args:
        name: of the metric.
        value: as recorded; None if it is missing.
        limits: bounds, both included.
    """
    if value is None:
        return [Evidence("metric", name, Finding.REFUSES, "missing: the training recorded no metric of that name")]
    if not _is_number(value):
        return [Evidence("metric", name, Finding.REFUSES, f"is no finite number: {value}")]
    if limits.min is limits.max is limits.max_drop is None:
        return [Evidence("metric", name, Finding.REFUSES, "the environment sets no limit for it: give min or max")]
    found = []
    if limits.min is not None:
        detail = f"{value:.6g}, at least {limits.min:g}"
        found.append(_bound("metric", name, value >= limits.min, detail, "below the limit"))
    if limits.max is not None:
        detail = f"{value:.6g}, at most {limits.max:g}"
        found.append(_bound("metric", name, value <= limits.max, detail, "above the limit"))
    return found


def judge_drop(name: str, value: float, max_drop: float, live: float, live_id: str) -> Evidence:
    """Hold one metric against the live release's; evidence of kind `drop`.

    Args:
        name: of the metric; says whether larger or smaller is better, see `kit.measures.is_larger_better`.
        value: the candidate's, finite.
        max_drop: by so much it may be worse, itself included.
        live: the same metric of the live release, on the same rows.
        live_id: id of the live release.
    """
    limit, complaint = describe_drop(name, live, max_drop, live_id)
    return _bound("drop", name, room_to_drop(name, value, max_drop, live) >= 0, f"{value:.6g}, {limit}", complaint)


def room_to_drop(name: str, value: float, max_drop: float, live: float) -> float:
    """How much worse a metric may still get: lower, or higher where smaller is better. Below 0 it is too far already."""
    return value - (live - max_drop) if is_larger_better(name) else (live + max_drop) - value


def describe_drop(name: str, live: float, max_drop: float, live_id: str) -> tuple[str, str]:
    """The limit that a live release sets, and the complaint about a metric beyond it."""
    may, complaint = ("drop", "dropped too far") if is_larger_better(name) else ("rise", "rose too far")
    return f"{live_id} has {live:.6g}, may {may} by {max_drop:g}", complaint


def _bound(kind: str, name: str, holds: bool, detail: str, complaint: str) -> Evidence:
    return Evidence(
        kind, name, Finding.HOLDS if holds else Finding.REFUSES, detail if holds else f"{complaint}: {detail}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
