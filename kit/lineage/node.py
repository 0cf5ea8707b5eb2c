"""The nodes of a tree of origins, and the facts that each kind of them holds."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact
from kit.files import format_time
from kit.gate import BOUND, Manifest
from kit.parameter import ResolvedParameter, Source
from kit.record import Record


class Kind(enum.StrEnum):
    """What a node of a tree stands for."""

    ARTIFACT = "artifact"
    METRIC = "metric"
    RECORD = "record"
    RELEASE = "release"
    CODE = "code"
    ENVIRONMENT = "environment"
    SOURCE = "source"


class Finding(enum.StrEnum):
    """Whether a node is what the node above says of it. `UNDECIDED`: what would tell is missing or unreadable here."""

    HOLDS = "holds"
    UNDECIDED = "undecided"
    CONTRADICTS = "contradicts"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One thing and where it came from.

    Attributes:
        kind: what it is.
        name: an artifact's name, a record's or release's id, a location, a digest.
        facts: further facts as JSON values; their keys depend on the kind alone.
        finding: anything but `HOLDS` has a `detail`.
        detail: one sentence for people.
        repeated: True if its own origins are told elsewhere in the same tree.
        children: what it came from.
    """

    kind: Kind
    name: str
    facts: dict[str, Any] = {}
    finding: Finding = Finding.HOLDS
    detail: str = ""
    repeated: bool = False
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below, top down."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def worst(self) -> Finding:
        """The worst finding in the tree: one contradiction outweighs everything that is undecided."""
        found = {node.finding for node in self.walk()}
        return next(each for each in (Finding.CONTRADICTS, Finding.UNDECIDED, Finding.HOLDS) if each in found)


def artifact_node(
    archive: Archive, artifact: Artifact, *, changed: bool = False, children: tuple[Node, ...] = ()
) -> Node:
    """An artifact: `sha256`, `size_bytes`, `media_type`, `in_archive`."""
    facts = {
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "media_type": artifact.media_type,
        "in_archive": archive.objects.has(artifact.sha256),
    }
    detail = "changed while it was read" if changed else ""
    return Node(kind=Kind.ARTIFACT, name=artifact.name, facts=facts, detail=detail, children=children)


def record_node(record: Record, *, repeated: bool = False, detail: str = "", children: tuple[Node, ...] = ()) -> Node:
    """A record; of its parameters those that a person or an environment chose."""
    chosen = [each for each in record.parameters if each.source is not Source.NOTEBOOK]
    facts = {
        "stage": record.stage,
        "environment": record.environment,
        "status": record.status.value,
        "started": format_time(record.started),
        "ended": format_time(record.ended) if record.ended else None,
        "release": record.release,
        "reproduces": record.reproduces,
        "parameters": [_parameter_facts(each) for each in chosen],
        "n_default_parameters": len(record.parameters) - len(chosen),
    }
    return Node(kind=Kind.RECORD, name=record.id, facts=facts, repeated=repeated, detail=detail, children=children)


def _parameter_facts(each: ResolvedParameter) -> dict[str, Any]:
    return {"name": each.name, "value": each.value, "source": each.source.value}


def environment_node(record: Record) -> Node:
    """What a record was executed with beside code and data."""
    facts = {
        "configuration_sha256": record.configuration_sha256,
        "packages_sha256": record.software.packages_sha256,
        "n_packages": record.software.n_packages,
        "lock_sha256": record.software.lock_sha256,
        "kit_version": record.software.kit_version,
        "python": record.machine.python,
        "platform": record.machine.platform,
        "cpu_model": record.machine.cpu_model,
    }
    return Node(kind=Kind.ENVIRONMENT, name=record.environment, facts=facts)


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """What a release pins."""
    return {
        "promoted_from": manifest.promoted_from or None,
        "training_record": manifest.training_record,
        "bundle_sha256": manifest.bundle_sha256,
        "commit": manifest.commit,
        "configuration_sha256": manifest.configuration_sha256,
        "lock_sha256": manifest.lock_sha256,
        "artifacts": {each.name: each.sha256 for each in manifest.artifacts},
        "metrics": manifest.metrics,
        "verdict": "passed" if manifest.verdict.passed else "refused",
        "live": manifest.verdict.live or None,
        "data": {
            name.removeprefix(BOUND): sha256
            for name, sha256 in sorted(manifest.verdict.subjects.items())
            if name.startswith(BOUND)
        },
        "waivers": [each.evidence for each in manifest.verdict.waivers],
    }
