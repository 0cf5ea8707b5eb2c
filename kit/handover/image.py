"""An image of data, laid out in a folder as the OCI image specification 1.1 has it: nothing in it runs.

Source: github.com/opencontainers/image-spec, image-layout.md, image-index.md, manifest.md, config.md, annotations.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from kit.files import canonical_json, format_time
from kit.handover.layers import Blob, write_blob

BLOBS = "blobs/sha256"
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"))  # data is the same on both; a node asks for its own
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"


class Layer(msgspec.Struct, frozen=True):
    """A layer, and one line on what is in it."""

    blob: Blob
    comment: str


def write_image(folder: Path, layers: Sequence[Layer], labels: Mapping[str, str], created: datetime, tag: str) -> Blob:
    """Describe layers that lie in a layout's blobs as one image for every platform.

    Args:
        folder: of the layout; its blobs' folder is there.
        layers: the lowest first.
        labels: of the configurations, and annotations of what refers to them.
        created: the release's time.
        tag: name of the image within the layout.

    Returns:
        The index of its platforms: its digest is the image's.
    """
    blobs = folder / BLOBS
    platforms = []
    for system, architecture in PLATFORMS:
        config = write_blob(blobs, CONFIG, canonical_json(_configure(layers, labels, created, system, architecture)))
        manifest = write_blob(blobs, MANIFEST, canonical_json(_manifest(config, layers, labels)))
        platforms.append({**manifest.descriptor, "platform": {"os": system, "architecture": architecture}})
    index = write_blob(blobs, INDEX, canonical_json({**_index(platforms), "annotations": dict(labels)}))
    entry = {**index.descriptor, "annotations": {REF_NAME: tag}}
    (folder / "index.json").write_bytes(canonical_json(_index([entry])))
    (folder / "oci-layout").write_bytes(canonical_json({"imageLayoutVersion": "1.0.0"}))
    return index


def _index(manifests: list[Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


def _manifest(config: Blob, layers: Sequence[Layer], labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor,
        "layers": [layer.blob.descriptor for layer in layers],
        "annotations": dict(labels),
    }


def _configure(
    layers: Sequence[Layer], labels: Mapping[str, str], created: datetime, system: str, architecture: str
) -> dict[str, Any]:
    when = format_time(created)
    return {
        "created": when,
        "os": system,
        "architecture": architecture,
        "config": {"Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [layer.blob.digest for layer in layers]},  # not compressed: the same
        "history": [{"created": when, "created_by": "kit release export", "comment": each.comment} for each in layers],
    }
