"""Gates and releases as values: evidence, the verdict bound to digests, and what a release pins. Fails closed."""

from __future__ import annotations

import enum
import math
from datetime import datetime
from typing import Any

import msgspec

from kit.artifact import Artifact
from kit.decision import Waiver
from kit.environment import MetricLimits
from kit.errors import IntegrityError
from kit.files import canonical_json, leave_out_empty, sha256_bytes

FORMAT = 1


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
        return tuple(
            f"{each.kind} {each.subject}: {each.detail}" for each in self.evidence if each.finding is Finding.REFUSES
        )

    @property
    def passed(self) -> bool:
        """True if nothing refuses and something was checked."""
        return not self.reasons


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


def judge_metric(name: str, value: Any, limits: MetricLimits, live: Any, live_id: str) -> list[Evidence]:
    """Hold one metric against its limits, absolute and against what is live.

    Args:
        name: of the metric.
        value: as recorded; None if it is missing.
        limits: bounds, both included.
        live: the same metric of the live release; None if there is none.
        live_id: id of the live release; empty if there is none.
    """
    if value is None:
        return [Evidence("metric", name, Finding.REFUSES, "missing: the training recorded no metric of that name")]
    if not _is_number(value):
        return [Evidence("metric", name, Finding.REFUSES, f"is no finite number: {value}")]
    found = []
    if limits.min is not None:
        found.append(_bound(name, value >= limits.min, f"{value:.6g}, at least {limits.min:g}", "below the limit"))
    if limits.max is not None:
        found.append(_bound(name, value <= limits.max, f"{value:.6g}, at most {limits.max:g}", "above the limit"))
    if limits.max_drop is not None:
        found.append(_judge_drop(name, value, limits.max_drop, live, live_id))
    return found or [Evidence("metric", name, Finding.REFUSES, "the environment sets no limit for it: give min or max")]


def _judge_drop(name: str, value: float, max_drop: float, live: Any, live_id: str) -> Evidence:
    if not live_id:
        return Evidence("metric", name, Finding.NOTED, "no live release to compare with")
    if not _is_number(live):
        return Evidence(
            "metric", name, Finding.REFUSES, f"the live release {live_id} has no such number to compare with"
        )
    detail = f"{value:.6g}, {live_id} has {live:.6g}, may drop by {max_drop:g}"
    return _bound(name, value >= live - max_drop, detail, "dropped too far")


def _bound(name: str, holds: bool, detail: str, complaint: str) -> Evidence:
    return Evidence(
        "metric", name, Finding.HOLDS if holds else Finding.REFUSES, detail if holds else f"{complaint}: {detail}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
