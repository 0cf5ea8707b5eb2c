"""Records of an export that are to be taken in: read as a stranger's, so that nothing in them can lead anywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from kit.archive import STATEMENT
from kit.artifact import Artifact, Tree
from kit.crate.contents import list_reads, read_notebook
from kit.crate.limits import Limits
from kit.crate.stated import require_stated
from kit.errors import IntegrityError
from kit.files import sha256_file
from kit.names import find_unportable, is_plain, is_portable
from kit.record import Record, Status, decode_record
from kit.signing import PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import origin_of

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[^\W\d][\w-]*-[0-9a-f]{6}")


class Candidate(msgspec.Struct, frozen=True):
    """One record that may come in.

    Attributes:
        record: as its record.json has it.
        folder: where its files lie for now.
        digests: of its files by their path in it.
        standing: how its signature stands to the trusted keys.
        key: id of the key that signed it; empty if none did.
        origin: of the archive that its statement says it was executed for; empty if it says none.
    """

    record: Record
    folder: Path
    digests: dict[str, str]
    standing: Standing
    key: str
    origin: str


def read_candidates(
    folder: Path, objects: Mapping[str, Path], keys: Sequence[PublicKey], limits: Limits
) -> list[Candidate]:
    """The records of an export, verified.

    Args:
        folder: holds a folder for each.
        objects: where the objects that came with them lie, by digest; each verified.
        keys: trusted ones.
        limits: of what is read at once.

    Raises:
        IntegrityError: one is not what its statement says, names what did not come with it, or has a name that leads elsewhere;
            or an object came that no record names.
    """
    candidates = [_read_candidate(each, keys, limits) for each in sorted(folder.iterdir())]
    if not candidates:
        raise IntegrityError("it holds no record")
    named: set[str] = set()
    for candidate in candidates:
        named.update(_list_objects(candidate.record, objects, limits))
    if extra := sorted(objects.keys() - named):
        raise IntegrityError(f"it holds an artifact that none of its records names: {extra[0][:12]}…")
    return candidates


def _read_candidate(folder: Path, keys: Sequence[PublicKey], limits: Limits) -> Candidate:
    where = f"record {folder.name}"
    if not _ID.fullmatch(folder.name) or not folder.is_dir():
        raise IntegrityError(f"{folder.name!r} cannot be the id of a record")
    digests = {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
    for name in ("record.json", STATEMENT):
        if name not in digests:
            raise IntegrityError(f"{where} has no {name}")
    record = decode_record(_read(folder / "record.json", limits), where)
    if record.id != folder.name:
        raise IntegrityError(f"{where}: its record.json is that of {record.id}")
    _require_harmless(record)
    envelope = decode_envelope(_read(folder / STATEMENT, limits), f"{where}, {STATEMENT}")
    require_stated(record, envelope, digests)
    standing, key = judge_envelope(envelope, keys)
    if standing is Standing.BAD:
        raise IntegrityError(f"{where}: its signature is not one of {key}: it was changed after it was signed")
    return Candidate(record, folder, digests, standing, key, origin_of(envelope.read_statement(where)))


def _read(path: Path, limits: Limits) -> bytes:
    if path.stat().st_size > limits.list_bytes:
        raise IntegrityError(f"{path.parent.name}/{path.name} is too large for what it is")
    return path.read_bytes()


def _require_harmless(record: Record) -> None:
    """Names in a record become paths when it is shown, verified or done again; none may lead out of where it belongs."""
    if record.status in (Status.STARTED, Status.LOST):
        raise IntegrityError(f"record {record.id} was never closed ({record.status})")
    artifacts = [*record.outputs, *(each.artifact for each in record.inputs)]
    references = [record.release, record.reproduces, record.code.build, *(each.record for each in record.inputs)]
    plain = [record.stage, record.environment, *(artifact.name for artifact in artifacts), *filter(None, references)]
    for name in plain:
        if not is_plain(name):
            raise IntegrityError(f"record {record.id}: the name {name!r} may lead elsewhere")
    if not is_portable(record.code.notebook):
        raise IntegrityError(f"record {record.id}: its notebook {record.code.notebook!r} may lie elsewhere")


def _list_objects(record: Record, objects: Mapping[str, Path], limits: Limits) -> Iterator[str]:
    """Digests of everything that a record names; all of it is there."""

    def read(sha256: str) -> bytes:
        return _read(_require_there(record, "release.json", sha256, objects), limits)

    yield from _of_artifact(record, Artifact("bundle.zip", record.code.bundle_sha256, 0, ""), objects, limits)
    read_notebook(record, objects[record.code.bundle_sha256], limits)
    yield from _of_artifact(record, Artifact("configuration", record.configuration_sha256, 0, ""), objects, limits)
    for artifact in (*record.outputs, *list_reads(record, read)):
        yield from _of_artifact(record, artifact, objects, limits)


def _of_artifact(record: Record, artifact: Artifact, objects: Mapping[str, Path], limits: Limits) -> Iterator[str]:
    path = _require_there(record, artifact.name, artifact.sha256, objects)
    yield artifact.sha256
    if artifact.is_folder:
        for entry in _read_tree(record, artifact, _read(path, limits)).files:
            _require_there(record, f"{artifact.name}/{entry.path}", entry.sha256, objects)
            yield entry.sha256


def _read_tree(record: Record, artifact: Artifact, data: bytes) -> Tree:
    where = f"record {record.id}, {artifact.name}"
    try:
        tree = msgspec.json.decode(data, type=Tree)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{where}: its list of files cannot be read: {error}") from error
    if problem := find_unportable(entry.path for entry in tree.files):
        raise IntegrityError(f"{where}: {problem}")
    return tree


def _require_there(record: Record, name: str, sha256: str, objects: Mapping[str, Path]) -> Path:
    if sha256 not in objects:
        raise IntegrityError(f"record {record.id} names {name} ({sha256[:12]}…), which did not come with it")
    return objects[sha256]
