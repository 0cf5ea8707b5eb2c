"""The hand-over of a release to a cluster: one folder, the same bytes for the same release and options, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.errors import NotFoundError, UsageError
from kit.files import format_time, is_regular, remove_tree, sha256_file
from kit.gate import Manifest, Release
from kit.handover.containerfile import KitSource, describe_modelcar, describe_server, find_kit
from kit.handover.documents import encode_yaml
from kit.handover.edge import write_edge
from kit.handover.guide import describe_handover
from kit.handover.image import BLOBS, Layer, write_image
from kit.handover.layers import write_layer
from kit.handover.objects import describe_configuration, describe_kit_service, describe_tensorflow_service
from kit.handover.place import Place
from kit.handover.subject import Subject, describe_release_file, list_model_files, read_subject

IMAGE = "image"
README = "README.md"


class Handover(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        folder: that holds it.
        image: reference of the release's image, by digest, once it is pushed.
        files: paths in the folder, sorted.
        left_out: what was not written and what it takes, one sentence each.
    """

    folder: str
    image: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]


class _Image(msgspec.Struct, frozen=True):
    digest: str
    model: Layer
    release: Layer | None


def write_handover(
    archive: Archive,
    release: Release,
    manifest: Manifest,
    folder: Path,
    place: Place,
    release_file: Path | None = None,
) -> Handover:
    """Write all that a cluster needs to serve a release: image, objects, Containerfile, and how it goes on.

    Args:
        archive: only read; every byte taken from it is verified.
        release: to hand over.
        manifest: the release's.
        folder: new or empty.
        place: names, images and resources.
        release_file: of this release, for `kit serve`; taken as it is. None leaves out what needs it.

    Raises:
        UsageError: the folder is not empty, or a name of the release is none for a cluster.
        NotFoundError: an artifact that the environment names was not released, or is not in the archive.
        IntegrityError: bytes in the archive were changed.
    """
    folder = folder.absolute()  # `.` has no name
    require_free(folder)
    subject = read_subject(archive, release, manifest)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.mkdir()
        digest, left_out = _write(archive, subject, temporary, place, release_file)
        os.replace(temporary, folder)  # noqa: PTH105 - an empty folder may be there, one with files fails
    finally:
        remove_tree(temporary)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Handover(str(folder), f"{place.repository}@{digest}", tuple(files), left_out)


def require_free(folder: Path) -> None:
    """Refuse a folder that cannot be written.

    Raises:
        UsageError: it is there and not empty, or the one above it is not there.
    """
    is_there = os.path.lexists(folder)
    if is_there and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and is no empty folder: choose another name, or remove it")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {folder.absolute().parent} to put {folder.name} into")


def _write(
    archive: Archive, subject: Subject, folder: Path, place: Place, release_file: Path | None
) -> tuple[str, tuple[str, ...]]:
    image = _write_image(archive, subject, folder / IMAGE, release_file)
    kit = find_kit(subject)
    texts = dict(_describe_all(subject, place, image, kit))
    for name, data in texts.items():
        (folder / name).write_bytes(data)
    if subject.environment.gates.litert:
        write_edge(archive, subject, subject.environment.gates.litert, folder / "edge")
    left_out = tuple(_tell_left_out(subject, place, image, kit))
    guide = describe_handover(subject, place, image.digest, list(texts), left_out)
    (folder / README).write_text(guide, encoding="utf-8")
    return image.digest, left_out


def _write_image(archive: Archive, subject: Subject, folder: Path, release_file: Path | None) -> _Image:
    blobs = folder / BLOBS
    blobs.mkdir(parents=True)
    model = Layer(
        write_layer(blobs, list_model_files(archive, subject)), f"/models/{subject.release.number}: the SavedModel"
    )
    release = None
    if release_file:
        if not is_regular(release_file):
            raise NotFoundError(f"there is no release file {release_file}")
        file = describe_release_file(subject, release_file, sha256_file(release_file))
        release = Layer(write_layer(blobs, [file]), f"/{file.path}: the release file")
    layers = [layer for layer in (model, release) if layer]
    index = write_image(folder, layers, _label(subject), subject.release.time, subject.release.id)
    return _Image(index.digest, model, release)


def _label(subject: Subject) -> dict[str, str]:
    """Labels with the keys of the OCI image specification, and kit's own."""
    release, manifest = subject.release, subject.manifest
    return {
        "org.opencontainers.image.created": format_time(release.time),
        **({"org.opencontainers.image.revision": manifest.commit} if manifest.commit else {}),
        "org.opencontainers.image.title": f"model of release {release.id}",
        "org.opencontainers.image.version": release.id,
        "kit.configuration.sha256": manifest.configuration_sha256,
        "kit.release.sha256": manifest.sha256,
    }


def _describe_all(subject: Subject, place: Place, image: _Image, kit: KitSource) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file beside the image, the device's folder and the README."""
    yield "configmap.yaml", encode_yaml(describe_configuration(subject, place))
    yield "inferenceservice-tensorflow.yaml", encode_yaml(describe_tensorflow_service(subject, place, image.digest))
    if place.server_image:
        yield "inferenceservice-kit.yaml", encode_yaml(describe_kit_service(subject, place))
    if place.base_image:
        yield "Containerfile.modelcar", describe_modelcar(subject, place, image.model.blob).encode()
    if place.base_image and image.release and subject.lock and not kit.problem:
        yield "Containerfile", describe_server(subject, place, kit, image.release.blob).encode()
        yield "requirements.lock", subject.lock[1]
        if kit.is_own:
            yield "bundle.zip", subject.bundle.data


def _tell_left_out(subject: Subject, place: Place, image: _Image, kit: KitSource) -> Iterator[str]:
    if not place.server_image:
        yield "inferenceservice-kit.yaml: it names the server's image by digest; give --server-image NAME@sha256:…"
    if not place.base_image:
        yield "Containerfile: it is built on an image named by digest; give --base-image NAME@sha256:…"
    elif not image.release:
        yield "Containerfile: it holds the release file, and none was given"
    elif kit.problem:
        yield f"Containerfile: {kit.problem}"
    if not subject.environment.gates.litert:
        yield "edge/: the release has no LiteRT model; [gates.litert] asks for one"
