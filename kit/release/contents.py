"""What a release file says of itself, read and verified before anything of it is unpacked; see `kit.release.file`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from kit.archive import RELEASE_FILE, STATEMENT, VERDICT
from kit.artifact import Artifact
from kit.bundle import MAX_UNPACKED_BYTES
from kit.environment import Environment, decode_environment
from kit.errors import EnvironmentFileError, IntegrityError, NewerFormatError, PolicyError, UsageError
from kit.execute.sources import BUNDLE
from kit.files import canonical_json, sha256_bytes
from kit.gate import FORMAT as MANIFEST_FORMAT
from kit.gate import Manifest, Release, decode_manifest
from kit.graph import RELEASE
from kit.record import Record, decode_record
from kit.release.members import Members, open_members
from kit.release.verdict import find_contradictions, short
from kit.signing import Envelope, PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import subjects_of

FORMAT = 1
SUFFIX = ".kit"
MARKER, SUMS, README, LOCK = "kit-release.json", "SHA256SUMS", "README.txt", "requirements.lock"
ARTIFACTS = "artifacts"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_ENVIRONMENT = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,99}")


class Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release file begins with.

    Attributes:
        project: name, for people.
        source: origin of the archive that the release comes from.
        release: as that archive's ledger tells of it.
    """

    project: str
    source: str
    release: Release
    format: int = FORMAT

    def encode(self) -> bytes:
        """Canonical JSON."""
        plain = msgspec.to_builtins(self)
        return canonical_json({**plain, "release": msgspec.json.decode(self.release.encode())})


class Contents(msgspec.Struct, frozen=True):
    """What a release file says of itself, verified; the bytes of bundle and artifacts are not looked at yet.

    Attributes:
        marker: project, source and release.
        manifest: its release.json.
        cut: the record that cut it.
        training: the record that made the artifacts.
        signers: id of the trusted key that signed each of verdict, cut and training; empty if no keys were given.
        digests: of all files but SHA256SUMS, by name.
    """

    marker: Marker
    manifest: Manifest
    cut: Record
    training: Record
    signers: tuple[str, ...]
    digests: dict[str, str]


@contextlib.contextmanager
def open_contents(path: Path) -> Iterator[tuple[Members, Contents]]:
    """Open a release file and verify what it says of itself; nothing is unpacked, no signature is judged.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no release file, or its parts contradict each other.
        NewerFormatError: a newer kit made it.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; make one with `kit release export ID -o {path.stem}{SUFFIX}`")
    with contextlib.ExitStack() as stack:
        with saying(path):
            members = stack.enter_context(open_members(path))
            contents = _read_contents(members)
        yield members, contents


@contextlib.contextmanager
def saying(path: Path) -> Iterator[None]:
    """Around what reads a release file: the error names the file, and what to do."""
    try:
        yield
    except NewerFormatError as error:
        raise NewerFormatError(f"{path.name}: {error}") from error
    except IntegrityError as error:
        raise IntegrityError(f"{path.name} is refused: {error}; fetch or export it again") from error


def _read_contents(members: Members) -> Contents:
    marker = _read_marker(members)
    digests = _read_sums(members)
    release = marker.release
    manifest = _read_manifest(members, release)
    verdict, cut_statement, training_statement = _read_envelopes(members, release, manifest)
    statement = verdict.read_statement(VERDICT)
    for sentence in find_contradictions(manifest, statement, release.record):
        raise IntegrityError(f"the gate has not admitted it: {sentence}")
    cut = _read_record(members, release.record, cut_statement)
    training = _read_record(members, manifest.training_record, training_statement)
    _require_release(release, manifest, cut)
    require_digest(
        f"{VERDICT} of record {cut.id}", _stated(cut_statement, VERDICT), sha256_bytes(members.read(VERDICT))
    )
    _require_training(manifest, training)
    _require_names(members, release, manifest)
    return Contents(marker, manifest, cut, training, (), digests)


def _read_marker(members: Members) -> Marker:
    if MARKER not in members.sizes:
        raise IntegrityError(f"it is no release file: it has no {MARKER}")
    try:
        declared = msgspec.json.decode(members.read(MARKER))
        found = declared.get("format") if isinstance(declared, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise NewerFormatError(
                f"format {found} of release files is newer than this kit reads ({FORMAT}); update kit"
            )
        marker = msgspec.convert(declared, Marker)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{MARKER} cannot be read: {error}") from error
    release = marker.release
    if marker.format != FORMAT or not _ENVIRONMENT.fullmatch(release.environment) or release.number < 1:
        raise IntegrityError(f"{MARKER}: expected format {FORMAT} and a numbered release of an environment")
    _require_same(f"{MARKER}, id", f"{release.environment}-{release.number}", release.id)
    return marker


def _read_sums(members: Members) -> dict[str, str]:
    try:
        lines = members.read(SUMS).decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{SUMS} is no UTF-8: {error}") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    digests = {match[2]: match[1] for match in matches if match}
    if len(digests) < len(lines) or digests.keys() != members.sizes.keys() - {SUMS}:
        raise IntegrityError(f"{SUMS}: expected one digest of each other file and no more")
    return digests


def _read_manifest(members: Members, release: Release) -> Manifest:
    data = members.read(RELEASE_FILE)
    require_digest(RELEASE_FILE, release.manifest_sha256, sha256_bytes(data))
    try:
        declared = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{RELEASE_FILE} cannot be read: {error}") from error
    found = declared.get("format") if isinstance(declared, dict) else None
    if isinstance(found, int) and found > MANIFEST_FORMAT:
        raise NewerFormatError(
            f"{RELEASE_FILE}: format {found} is newer than this kit reads ({MANIFEST_FORMAT}); update kit"
        )
    manifest = decode_manifest(data, RELEASE_FILE)
    require_digest(f"{RELEASE_FILE} in canonical form", manifest.sha256, release.manifest_sha256)
    return manifest


def _read_envelopes(members: Members, release: Release, manifest: Manifest) -> tuple[Envelope, Envelope, Envelope]:
    names = (VERDICT, *(record_file(each, STATEMENT) for each in (release.record, manifest.training_record)))
    verdict, cut, training = (decode_envelope(members.read(name), name) for name in names)
    return verdict, cut, training


def record_file(record_id: str, name: str) -> str:
    """Name in a release file of a record's file."""
    return f"records/{record_id}/{name}"


def _read_record(members: Members, record_id: str, envelope: Envelope) -> Record:
    name = record_file(record_id, "record.json")
    data = members.read(name)
    require_digest(name, _stated(envelope, "record.json"), sha256_bytes(data))
    record = decode_record(data, name)
    _require_same(f"{name}, id", record_id, record.id)
    return record


def _stated(envelope: Envelope, name: str) -> str:
    return subjects_of(envelope.read_statement(STATEMENT)).get(name, "")


def _require_release(release: Release, manifest: Manifest, cut: Record) -> None:
    environment = _read_frozen(manifest).name
    for name, found in (("release.json", manifest.environment), ("the frozen configuration", environment)):
        _require_same(f"environment of {name}", release.environment, found)
    expected = f"a succeeded {RELEASE} of {release.environment}"
    _require_same(f"record {cut.id}", expected, f"a {cut.status} {cut.stage} of {cut.environment}")
    output = cut.output(RELEASE_FILE)
    require_digest(f"{RELEASE_FILE} of record {cut.id}", release.manifest_sha256, output.sha256 if output else "")


def _require_training(manifest: Manifest, training: Record) -> None:
    _require_same(f"record {training.id}", "succeeded", training.status)
    require_digest(f"bundle of record {training.id}", manifest.bundle_sha256, training.code.bundle_sha256)
    for artifact in manifest.artifacts:
        if artifact not in training.outputs:
            raise IntegrityError(f"artifact {artifact.name!r}: expected an output of {training.id}, found none like it")


def _require_names(members: Members, release: Release, manifest: Manifest) -> None:
    """Refuse members that no release file has, and sizes that are not those of the release, before anything is written."""
    known = {MARKER, SUMS, README, RELEASE_FILE, VERDICT, BUNDLE, *([LOCK] if manifest.lock_sha256 else [])}
    known |= {
        record_file(each, name)
        for each in (release.record, manifest.training_record)
        for name in ("record.json", STATEMENT)
    }
    for artifact in manifest.artifacts:
        names = _list_members(members, artifact)
        found = sum(members.sizes[name] for name in names)
        _require_same(f"bytes of artifact {artifact.name!r}", artifact.size_bytes, found if names else "nothing")
        known.update(names)
    for name in sorted(known ^ members.sizes.keys()):
        raise IntegrityError(f"{name!r} {'is missing' if name in known else 'belongs to no release file'}")
    if members.sizes[BUNDLE] > MAX_UNPACKED_BYTES:
        raise IntegrityError(f"{BUNDLE} is larger than {MAX_UNPACKED_BYTES} bytes")


def _list_members(members: Members, artifact: Artifact) -> list[str]:
    """Names of the files of an artifact."""
    path = f"{ARTIFACTS}/{artifact.name}"
    return [name for name in members.sizes if name.startswith(f"{path}/") or (name == path and not artifact.is_folder)]


def require_digest(what: str, expected: str, found: str) -> None:
    """Refuse bytes of another digest.

    Raises:
        IntegrityError: with the beginning of both.
    """
    if expected != found:
        raise IntegrityError(f"{what}: expected {short(expected)}, found {short(found)}")


def _read_frozen(manifest: Manifest) -> Environment:
    try:
        return decode_environment(manifest.configuration, f"{RELEASE_FILE}, configuration")
    except EnvironmentFileError as error:
        raise IntegrityError(f"the frozen configuration cannot be read: {error}") from error


def _require_same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise IntegrityError(f"{what}: expected {expected}, found {found}")


def require_trusted(members: Members, contents: Contents, keys: Sequence[PublicKey]) -> Contents:
    """Judge the signatures, if there are keys or the frozen policy demands it; gives the contents with the signers.

    Raises:
        PolicyError: the verdict or one of the two records is not signed by a trusted key.
    """
    release, manifest = contents.marker.release, contents.manifest
    is_demanded = _read_frozen(manifest).policy.signed
    if not keys and not is_demanded:
        return contents
    if not keys:
        raise PolicyError(
            f"release {release.id} was frozen with policy.signed: give --keys FILE with the public keys that you trust, as "
            f"`kit key show` prints them"
        )
    names = ("the verdict", f"record {contents.cut.id}", f"record {contents.training.id}")
    signers = []
    for name, envelope in zip(names, _read_envelopes(members, release, manifest), strict=True):
        standing, key = judge_envelope(envelope, keys)
        if standing is not Standing.TRUSTED:
            found = f"{standing}" + (f" ({key})" if key else "")
            raise PolicyError(f"release {release.id}: expected {name} signed by one of the keys given, found {found}")
        signers.append(key)
    return msgspec.structs.replace(contents, signers=tuple(signers))
