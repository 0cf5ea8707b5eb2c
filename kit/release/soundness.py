"""Is a release still what its gate admitted? Every digest that it rests on, taken again."""

from __future__ import annotations

from collections.abc import Iterator

from kit.archive import RELEASE_FILE, VERDICT, Archive
from kit.artifact import Artifact, media_type_of
from kit.errors import IntegrityError, NotFoundError
from kit.execute.sources import BUNDLE
from kit.files import digest_of, open_regular
from kit.gate import Manifest, Release
from kit.graph import RELEASE
from kit.record import Record
from kit.release.verdict import find_contradictions


def require_sound(archive: Archive, release: Release) -> Manifest:
    """Verify a release before it becomes live or is promoted: what the ledger tells of it, and all of its bytes.

    Args:
        archive: its folder is read; no model is loaded.
        release: as the ledger has it, so its verdict has the digest that the ledger names.

    Returns:
        Its manifest.

    Raises:
        IntegrityError: a byte of verdict, release.json, configuration, bundle or an artifact is another or gone; says which.
    """
    cut = require_cut(archive, release)
    try:
        manifest = archive.read_manifest(release)
    except NotFoundError as error:
        raise IntegrityError(f"release {release.id}: {error}") from error
    if not wrote(cut, release) or manifest.environment != release.environment:
        raise IntegrityError(f"release {release.id}: record {cut.id} did not cut it for {release.environment!r}")
    where = f"release {release.id}, {VERDICT}"
    statement = archive.read_envelope(release.record, VERDICT).read_statement(where)
    if contradictions := list(find_contradictions(manifest, statement, release.record)):
        raise IntegrityError(f"{where}: the gate has not admitted these bytes: {'; '.join(contradictions)}")
    for name, sha256 in _list_objects(archive, release, manifest):
        _require_object(archive, release, name, sha256)
    return manifest


def require_cut(archive: Archive, release: Release) -> Record:
    """The record that cut a release, if it is one that could: a gate's of that environment, executed for this archive.

    Raises:
        IntegrityError: it cannot be read, or is another environment's, another archive's, or one that only did another again.
    """
    try:
        cut = archive.read_record(release.record)
        is_imported = archive.is_imported(cut)
    except NotFoundError as error:
        raise IntegrityError(f"release {release.id}: {error}") from error
    problem = ""
    if (cut.stage, cut.environment, cut.succeeded) != (RELEASE, release.environment, True):
        problem = f"record {cut.id} did not cut it for {release.environment!r}"
    elif cut.reproduces:
        problem = f"record {cut.id} only did {cut.reproduces} again, which is proof and no release"
    elif is_imported:
        problem = f"record {cut.id} was executed for another archive, whose gate is not this one's"
    if problem:
        raise IntegrityError(f"release {release.id}: {problem}; `kit verify` says more")
    return cut


def wrote(cut: Record, release: Release) -> bool:
    """Whether the release.json of a release is what the record that cut it wrote."""
    output = cut.output(RELEASE_FILE)
    return output is not None and output.sha256 == release.manifest_sha256


def _list_objects(archive: Archive, release: Release, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(what it is, digest) of every object that a release is made of."""
    yield "configuration", manifest.configuration_sha256
    bundle = Artifact(BUNDLE, manifest.bundle_sha256, 0, media_type_of(BUNDLE))
    for artifact in (bundle, *manifest.artifacts):
        yield artifact.name, artifact.sha256
        if artifact.is_folder:
            _require_object(
                archive, release, artifact.name, artifact.sha256
            )  # its list of files, before it is believed
            tree = archive.objects.read_tree(artifact)
            yield from ((f"{artifact.name}/{each.path}", each.sha256) for each in tree.files)


def _require_object(archive: Archive, release: Release, name: str, sha256: str) -> None:
    where = f"release {release.id}: {name}: object {sha256[:12]}…"
    try:
        with open_regular(archive.objects.path(sha256)) as file:
            found = digest_of(file)
    except OSError as error:
        raise IntegrityError(f"{where} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise IntegrityError(f"{where} was changed in the archive: found {found[:12]}…")
