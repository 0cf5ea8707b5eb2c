"""A release as one file: opened on any machine, every digest verified, before anything of it is executed or served.

A zip of stored files, the same bytes for the same release:

    kit-release.json                 format, project, archive that it comes from, the release as its ledger numbers it
    SHA256SUMS                       digests of all other files, as sha256sum reads them
    README.txt                       how to run and serve it
    artifacts/<name>[/…]             model and what comes with it
    bundle.zip                       the sources that run
    records/<id>/record.json, statement.dsse.json      of the training, and of the execution that cut the release
    release.json                     what the release pins
    requirements.lock                the lock that the bundle holds, if it has one
    verdict.dsse.json                of the gate

What vouches for what: the verdict names release.json by digest, release.json the bundle, the lock and all artifacts; the
statements name the records, that of the cut also the verdict. Signatures lie under verdict and statements. The number of the
release is what the exporter's ledger says; nothing in the file proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from kit.archive.objects import hash_artifact
from kit.errors import UnknownNameError, UsageError
from kit.execute.sources import BUNDLE
from kit.files import remove_tree
from kit.gate import Manifest, Release
from kit.record import Record
from kit.release.contents import ARTIFACTS, LOCK, SUMS, Contents, open_contents, require_digest, require_trusted, saying
from kit.release.members import Members
from kit.signing import PublicKey


class ReleasedFile(msgspec.Struct, frozen=True):
    """A release that was unpacked from a file and verified.

    Attributes:
        release: its number, who cut it and when.
        manifest: its release.json.
        folder: holds `artifacts/<name>` and `bundle.zip`.
        source: origin of the archive that it comes from.
        project: name of the project.
        path: of the file.
        training: the record that made the artifacts.
    """

    release: Release
    manifest: Manifest
    folder: Path
    source: str
    project: str
    path: Path
    training: Record

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return self.path.name

    @property
    def bundle(self) -> Path:
        """The sources that run."""
        return self.folder / BUNDLE

    @property
    def python(self) -> str:
        """Implementation and version of the Python that made the artifacts, as `CPython 3.11.2`."""
        return self.manifest.python or self.training.machine.python

    def artifact(self, name: str) -> Path:
        """Path of an artifact.

        Raises:
            UnknownNameError: the release has none of that name.
        """
        if self.manifest.artifact(name) is None:
            known = [each.name for each in self.manifest.artifacts]
            raise UnknownNameError("released artifact", name, known, self.release.id)
        return self.folder / ARTIFACTS / name


def open_release_file(path: Path, folder: Path, keys: Sequence[PublicKey] = ()) -> ReleasedFile:
    """Unpack a release file and verify all of it.

    Args:
        path: of the file.
        folder: where to; made, must not be there or be empty. Nothing is left in it if the file is refused.
        keys: trusted ones; with them, and wherever the frozen policy demands signed work, the verdict and both records must
            be signed by one of them.

    Raises:
        UsageError: there is no such file, or the folder is not empty.
        IntegrityError: it is no release file, or something in it is not what the release pins.
        NewerFormatError: a newer kit made it.
        PolicyError: it is not signed by a trusted key, and must be.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; a release file is unpacked into a folder of its own")
    with open_contents(path) as (members, contents):
        contents = require_trusted(members, contents, keys)
        try:
            with saying(path):
                _unpack(members, contents, folder)
        except BaseException:
            remove_tree(folder)
            raise
    marker = contents.marker
    return ReleasedFile(
        marker.release, contents.manifest, folder, marker.source, marker.project, path, contents.training
    )


def _unpack(members: Members, contents: Contents, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = contents.manifest
    for name in sorted(members.sizes.keys() - {SUMS}):
        is_kept = name == BUNDLE or name.startswith(f"{ARTIFACTS}/")
        target = folder / name if is_kept else folder / ".passed-over"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            found = members.copy(name, file)
        if not is_kept:
            target.unlink()
        require_digest(f"{name}, in {SUMS}", contents.digests[name], found)
    require_digest(BUNDLE, manifest.bundle_sha256, contents.digests[BUNDLE])
    require_digest(LOCK, manifest.lock_sha256 or "", contents.digests.get(LOCK, ""))
    for artifact in manifest.artifacts:
        found = hash_artifact(artifact.name, folder / ARTIFACTS / artifact.name) or ""
        require_digest(f"artifact {artifact.name!r}", artifact.sha256, found)
