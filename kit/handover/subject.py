"""What is handed over: a release with its manifest, its frozen environment, and the files of its model, by digest."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.gate import Manifest, Release
from kit.handover.layers import LayerFile
from kit.handover.names import require_tag
from kit.release.installed import find_lock

_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


class Subject(msgspec.Struct, frozen=True):
    """A release, and what it pins.

    Attributes:
        release: its id can be a tag and a label.
        manifest: the one that the release names.
        environment: its frozen configuration.
        bundle: its sources.
        lock: path in the bundle and bytes of the released lock; None without one.
    """

    release: Release
    manifest: Manifest
    environment: Environment
    bundle: Bundle
    lock: tuple[str, bytes] | None


def read_subject(archive: Archive, release: Release, manifest: Manifest) -> Subject:
    """What is needed of a release; only read.

    Raises:
        UsageError: its id cannot be a tag.
        IntegrityError: the manifest is not the release's, or bytes in the archive were changed.
        NotFoundError: the bundle is not in the archive.
    """
    require_tag(release.id)
    if manifest.sha256 != release.manifest_sha256:
        raise IntegrityError(
            f"release {release.id}: expected the manifest {release.manifest_sha256[:12]}…, found {manifest.sha256[:12]}…"
        )
    environment = decode_environment(manifest.configuration, f"release {release.id}, configuration")
    bundle = Bundle(archive.objects.read(manifest.bundle_sha256), manifest.commit)
    return Subject(release, manifest, environment, bundle, find_lock(bundle, manifest))


def list_model_files(archive: Archive, subject: Subject) -> list[LayerFile]:
    """The SavedModel's files where TensorFlow Serving looks for them: `models/<number>/…`.

    KServe shows `/models` of an image to its runtime as `/mnt/models`, which is the runtime's `--model_base_path`: the
    number must lie directly in it.

    Raises:
        UsageError: `gates.model` names no SavedModel.
        NotFoundError: the release has no such artifact.
    """
    artifact = find_artifact(subject, subject.environment.gates.model, "gates.model")
    entries = archive.objects.read_tree(artifact).files if artifact.is_folder else ()
    if not any(entry.path in _SAVED_MODEL for entry in entries):
        raise UsageError(
            f"release {subject.release.id}: {artifact.name!r} is no SavedModel, which TensorFlow Serving needs: expected a "
            f"folder with {_SAVED_MODEL[0]}; name one in gates.model and cut a new release"
        )
    root = PurePosixPath("models", str(subject.release.number))
    return [
        LayerFile(f"{root}/{each.path}", archive.objects.path(each.sha256), each.sha256, each.size_bytes)
        for each in entries
    ]


def find_artifact(subject: Subject, name: str, key: str) -> Artifact:
    """The released artifact that a key of the environment names.

    Raises:
        NotFoundError: it was not released; says what was.
    """
    artifact = subject.manifest.artifact(name)
    if artifact is None:
        known = ", ".join(sorted(each.name for each in subject.manifest.artifacts)) or "none"
        raise NotFoundError(f"release {subject.release.id} has no artifact {name!r}, which {key} names; it has {known}")
    return artifact


def describe_release_file(subject: Subject, file: Path, sha256: str) -> LayerFile:
    """The release file as a file of an image: `release/<id>.kit`."""
    return LayerFile(f"release/{subject.release.id}.kit", file, sha256, file.stat().st_size)
