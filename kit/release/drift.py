"""What differs here from what was released: bytes in the archive, the environment's file, installed packages, Python."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import msgspec

from kit.archive import VERDICT, Archive
from kit.artifact import Artifact
from kit.bundle import Bundle
from kit.environment import Environment, decode_environment
from kit.errors import KitError
from kit.execute import Workbench
from kit.execute.sources import BUNDLE
from kit.files import digest_of, open_regular, sha256_file
from kit.gate import Manifest, Release
from kit.project import Project
from kit.release.difference import Difference, Kind, advise_on_damage, advise_to_cut, describe_changes
from kit.release.installed import judge_packages, judge_python, unzip_and_install
from kit.release.verdict import find_contradictions, short
from kit.tables import flatten_table


def find_drift(workbench: Workbench, release: Release, manifest: Manifest) -> tuple[Difference, ...]:
    """Everything that differs here from a release of the project's archive.

    Every byte that the release pins is hashed. What release.json itself pins is only known once it is verified, so that
    the manifest must be one that `Archive.read_manifest` gave.

    Args:
        workbench: the project's environment files, its archive; is told where Python differs in the patch level only.
        release: to be run.
        manifest: its release.json.
    """
    archive, project = workbench.archive, workbench.project
    found = [
        *_judge_verdict(archive, release, manifest),
        *_judge_configuration(archive, release, manifest),
        *_judge_artifacts(archive, release, manifest),
    ]
    bundle, damage = _read_bundle(archive, release, manifest)
    frozen = decode_environment(manifest.configuration, f"release {release.id}")
    found += [*damage, *_judge_environment(project, frozen, release)]
    if bundle:

        def install(lock: str) -> str:
            return _install_command(project, archive, manifest, release, lock)

        found += judge_packages(bundle, manifest, release, install)
    found += _judge_python(archive, manifest, release, workbench.notify)
    return tuple(found)


def _judge_verdict(archive: Archive, release: Release, manifest: Manifest) -> Iterator[Difference]:
    where = f"release {release.id}, {VERDICT}"
    statement = archive.read_envelope(release.record, VERDICT).read_statement(where)
    for sentence in find_contradictions(manifest, statement, release.record):
        yield Difference(
            Kind.VERDICT, f"the gate has not admitted these bytes: {sentence}", advise_on_damage(release.environment)
        )


def _judge_configuration(archive: Archive, release: Release, manifest: Manifest) -> Iterator[Difference]:
    sha256 = manifest.configuration_sha256
    if (found := _find_object(archive, sha256)) != sha256:
        fact = f"the frozen configuration in the archive: expected {short(sha256)}, found {short(found)}"
        yield Difference(Kind.CONFIGURATION, fact, advise_on_damage(release.environment))


def _judge_artifacts(archive: Archive, release: Release, manifest: Manifest) -> Iterator[Difference]:
    for artifact in manifest.artifacts:
        for path, sha256, found in _find_damage(archive, artifact):
            fact = f"artifact {path!r} in the archive: expected {short(sha256)}, found {found}"
            yield Difference(Kind.ARTIFACT, fact, advise_on_damage(release.environment))


def _find_damage(archive: Archive, artifact: Artifact) -> Iterator[tuple[str, str, str]]:
    """(path, digest that is expected, what is there) of each object of an artifact that is not sound."""
    objects = [(artifact.name, artifact.sha256)]
    if artifact.is_folder:
        if not (found := _find_object(archive, artifact.sha256)):  # a pipe would never end
            yield artifact.name, artifact.sha256, short(found)
            return
        try:
            tree = archive.objects.read_tree(artifact)
        except (KitError, OSError, msgspec.MsgspecError) as error:
            yield artifact.name, artifact.sha256, f"a list of its files that cannot be read: {error}"
            return
        objects = [(f"{artifact.name}/{entry.path}", entry.sha256) for entry in tree.files]
    for path, sha256 in objects:
        if (found := _find_object(archive, sha256)) != sha256:
            yield path, sha256, short(found)


def _find_object(archive: Archive, sha256: str) -> str:
    """The digest of what lies in an object's place; empty if nothing does, or what no object is: a link, a pipe, a folder.

    Raises:
        UndecidableError: you may not read it.
    """
    try:
        with open_regular(archive.objects.path(sha256)) as file:
            return digest_of(file)
    except OSError:
        return ""


def _read_bundle(archive: Archive, release: Release, manifest: Manifest) -> tuple[Bundle | None, list[Difference]]:
    if (found := _find_object(archive, manifest.bundle_sha256)) == manifest.bundle_sha256:
        return Bundle(archive.objects.read(manifest.bundle_sha256)), []
    fact = f"{BUNDLE} in the archive: expected {short(manifest.bundle_sha256)}, found {short(found)}"
    return None, [Difference(Kind.BUNDLE, fact, advise_on_damage(release.environment))]


def _judge_environment(project: Project, frozen: Environment, release: Release) -> Iterator[Difference]:
    file = f"environments/{frozen.name}.toml"
    advice = f"take the change back, or {advise_to_cut(release.environment)}"
    try:
        now = project.read_environment(frozen.name)
    except (KitError, OSError) as error:
        fact = f"{file} differs from what {release.id} froze: it cannot be read: {error}"
        yield Difference(Kind.ENVIRONMENT, fact, advice)
        return
    if now.sha256 != frozen.sha256:
        changes = describe_changes(flatten_table(frozen.configuration), flatten_table(now.configuration))
        yield Difference(Kind.ENVIRONMENT, f"{file} differs from what {release.id} froze, in: {changes}", advice)


def _install_command(project: Project, archive: Archive, manifest: Manifest, release: Release, lock: str) -> str:
    """For the lock of the working tree if it is the released one, else for the one in the archive's bundle."""
    here = project.root / lock
    if here.is_file() and sha256_file(here) == manifest.lock_sha256:
        return f"python -m pip install -r {shlex.quote(lock)}"
    path = archive.objects.path(manifest.bundle_sha256)
    if path.is_relative_to(project.root):
        path = path.relative_to(project.root)
    return unzip_and_install(path, lock, release)


def _judge_python(
    archive: Archive, manifest: Manifest, release: Release, notify: Callable[[str], None]
) -> Iterator[Difference]:
    try:
        trained = manifest.python or archive.read_record(manifest.training_record).machine.python
    except (KitError, OSError) as error:
        fact = f"which Python made the model of {release.id} cannot be told: {error}"
        yield Difference(Kind.PYTHON, fact, advise_to_cut(release.environment))
        return
    yield from judge_python(trained, release, notify)
