"""A whole archive, or one record of it: ledger, checkpoints, records, releases, objects, and nothing beside them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kit.archive import MARKER, OPEN, STARTED, Objects, read_origin
from kit.artifact import Artifact
from kit.errors import IntegrityError
from kit.files import sha256_bytes
from kit.ledger import Entry, Kind
from kit.merkle import tree_root
from kit.provenance import is_alive
from kit.record import Record, decode_record
from kit.signing import PublicKey
from kit.verify.chain import Chain, read_chain
from kit.verify.findings import Code, Finding, Report, false, noted, short, sort_findings, undecided
from kit.verify.names import is_leftover
from kit.verify.notes import Coverage, Noted, judge_checkpoints, read_notes
from kit.verify.objects import Hashed, hash_named, hash_objects, list_needed
from kit.verify.records import Examined, examine_record
from kit.verify.releases import judge_release

_PARTS = (MARKER, "records", "objects", "ledger", "checkpoints")


class _Books:
    """What the ledger says of each record."""

    def __init__(self, chain: Chain) -> None:
        self.starts = {entry.record: entry for entry in chain.of_kind(Kind.START)}
        self.ends: dict[str, Entry] = {}
        for entry in chain.of_kind(Kind.IMPORT, Kind.END):
            self.ends.setdefault(entry.record, entry)

    def records(self) -> list[str]:
        """Every record that it tells of."""
        return sorted({*self.starts, *self.ends})


def verify_archive(archive: Path, keys: Sequence[PublicKey] = (), outside: Sequence[Noted] = ()) -> Report:
    """Verify everything in an archive.

    Args:
        archive: its folder.
        keys: trusted public keys, from the verifier's side.
        outside: checkpoints that the verifier kept elsewhere.

    Raises:
        NotFoundError: the folder is no archive.
    """
    origin, findings = _read_origin(archive)
    names = _list_records(archive)
    chain, books, coverage = _read_ledger(archive, origin, keys, outside)
    hashed = hash_objects(archive)
    found = {record_id: _examine(archive, record_id, books, keys) for record_id in books.records()}
    findings += _judge_parts(archive)
    findings += _judge_unlogged(archive, names, books)
    for examined in found.values():
        findings += examined.findings
        findings += _judge_objects(archive, examined.record, hashed)
    findings += _judge_entries(archive, chain, found, hashed)
    return _report(str(archive), origin, chain, coverage, hashed, list(found.values()), findings)


def verify_record(
    archive: Path, record_id: str, keys: Sequence[PublicKey] = (), outside: Sequence[Noted] = ()
) -> Report:
    """Verify one record: the ledger, its files, and every object that it names.

    Args:
        archive: its folder.
        record_id: in full.
        keys: trusted public keys.
        outside: checkpoints that the verifier kept elsewhere.
    """
    origin, findings = _read_origin(archive)
    chain, books, coverage = _read_ledger(archive, origin, keys, outside)
    if record_id not in books.records():
        what = "no entry of the ledger names it"
        findings.append(
            false(Code.UNLOGGED, f"records/{record_id}", "a record in the ledger", what, "no kit made it here")
        )
        return _report(record_id, origin, chain, coverage, hash_named(archive, ()), [], findings)
    examined = _examine(archive, record_id, books, keys)
    needed = {sha256 for _, artifact, _ in _needs(examined.record) for sha256 in list_needed(artifact, archive)}
    hashed = hash_named(archive, needed)
    findings += [*examined.findings, *_judge_objects(archive, examined.record, hashed)]
    if record_id not in books.ends:
        meaning = "nothing of it was sealed, so nothing of it can be proved"
        findings.append(undecided(Code.LOST, f"records/{record_id}", "an end in the ledger", "none", meaning))
    entries = [entry for entry in chain.of_kind(Kind.RELEASE) if entry.record == record_id]
    for entry in entries:
        findings += judge_release(archive, _folder(archive, record_id), entry, examined.record)
    return _report(record_id, origin, chain, coverage, hashed, [examined], findings)


def _read_ledger(
    archive: Path, origin: str, keys: Sequence[PublicKey], outside: Sequence[Noted]
) -> tuple[Chain, _Books, Coverage]:
    """The ledger against its checkpoints.

    Others may append meanwhile: what rests on entries (checkpoints, names of records) is read before the ledger, what
    entries announce is looked for after it.
    """
    inside, findings = read_notes(archive)
    chain = read_chain(archive)
    coverage = judge_checkpoints(archive, origin, inside, chain, keys, outside)
    coverage.findings += findings
    return chain, _Books(chain), coverage


def _list_records(archive: Path) -> list[Path]:
    folder = archive / "records"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _read_origin(archive: Path) -> tuple[str, list[Finding]]:
    try:
        return read_origin(archive), []
    except IntegrityError as error:
        if error.exit_code == 3:
            raise
        meaning = "which archive this is cannot be told"
        return "", [false(Code.EDITED, MARKER, "the archive's name and origin", str(error), meaning)]


def _folder(archive: Path, record_id: str) -> Path:
    closed = archive / "records" / record_id
    return closed if closed.is_dir() else closed.with_name(f"{record_id}{OPEN}")


def _examine(archive: Path, record_id: str, books: _Books, keys: Sequence[PublicKey]) -> Examined:
    folder, end, start = _folder(archive, record_id), books.ends.get(record_id), books.starts.get(record_id)
    where = f"records/{record_id}"
    if end is None:
        return Examined(None, "", list(_judge_open(folder, where, start)) if start else [])
    if not folder.is_dir():
        killed = ", or its import was killed: import it again" if end.kind is Kind.IMPORT else ""
        meaning = f"a record was removed{killed}"
        return Examined(
            None, "", [false(Code.MISSING, where, f"the record that entry {end.seq} sealed", "nothing", meaning)]
        )
    examined = examine_record(folder, record_id, start if end.kind is Kind.END else None, end, keys)
    if folder.name.endswith(OPEN):
        meaning = "kit was killed after sealing it; the next command names it"
        examined.findings.append(
            noted(Code.LEFTOVER, f"{where}{OPEN}", "a sealed record without its final name", meaning)
        )
    return examined


def _judge_open(folder: Path, where: str, start: Entry) -> Iterator[Finding]:
    """An execution that was announced and has no end in the ledger."""
    path = f"{where}{OPEN}"
    if not folder.name.endswith(OPEN):
        return  # a sealed folder without an end: said as unlogged
    if not folder.is_dir():
        meaning = "it was announced, then killed before anything was written, or what it left was removed"
        yield noted(Code.LOST, path, f"nothing of what entry {start.seq} announced", meaning)
        return
    try:
        data = (folder / STARTED).read_bytes()
    except OSError:
        meaning = "what was to be executed is not known any more"
        yield false(Code.MISSING, f"{path}/{STARTED}", short(start.sha256), "nothing", meaning)
        return
    if sha256_bytes(data) != start.sha256:
        expected = f"{short(start.sha256)} (entry {start.seq})"
        yield false(
            Code.EDITED, f"{path}/{STARTED}", expected, short(sha256_bytes(data)), "it is not what was announced"
        )
        return
    try:
        record = decode_record(data, f"{path}/{STARTED}")
    except IntegrityError as error:
        yield undecided(Code.NEWER_FORMAT, f"{path}/{STARTED}", "a record", str(error), "verify it with its kit")
        return
    runs = is_alive(record.process, record.machine.host)
    found = f"an execution that entry {start.seq} announced and that {'may still run' if runs else 'never ended'}"
    yield noted(Code.LOST, path, found, "what it left is not sealed: it may have been changed")


def _judge_unlogged(archive: Path, names: Sequence[Path], books: _Books) -> Iterator[Finding]:
    folder = archive / "records"
    for path in names:
        where = f"records/{path.name}"
        if is_leftover(path.name):
            yield noted(Code.LEFTOVER, where, "a temporary folder", "a command was killed; nothing reads it")
        elif path.is_symlink() or path.is_file():
            yield false(Code.UNLOGGED, where, "records only", "something else", "no kit put it there")
        elif path.name.removesuffix(OPEN) not in (books.starts if path.name.endswith(OPEN) else books.ends):
            what = "no start" if path.name.endswith(OPEN) else "no end"
            meaning = "it was put there without kit, or its entry was removed"
            yield false(Code.UNLOGGED, where, "a record in the ledger", f"{what} of it there", meaning)
        elif path.name.endswith(OPEN) and path.exists() and (folder / path.name.removesuffix(OPEN)).exists():
            yield false(Code.UNLOGGED, where, "one folder of a record", "a second one", "no kit put it there")


def _judge_parts(archive: Path) -> Iterator[Finding]:
    for path in sorted(archive.iterdir()):
        if is_leftover(path.name):
            yield noted(Code.LEFTOVER, path.name, "a temporary file", "a command was killed; nothing reads it")
        elif path.name not in _PARTS or path.is_symlink() or path.is_file() is not (path.name == MARKER):
            yield false(Code.UNLOGGED, path.name, "an archive's own parts", "something else", "no kit put it there")


def _needs(record: Record | None) -> Iterator[tuple[str, Artifact, bool]]:
    """(what it is, artifact, True if it is an input) for everything whose bytes a record names."""
    if record is None:
        return
    code = record.code
    yield "bundle", Artifact("bundle.zip", code.bundle_sha256, 0, "application/zip"), False
    yield "configuration", Artifact("configuration", record.configuration_sha256, 0, "application/json"), False
    yield from (("output", artifact, False) for artifact in record.outputs)
    yield from (("input", each.artifact, True) for each in record.inputs)


def _judge_objects(archive: Path, record: Record | None, hashed: Hashed) -> Iterator[Finding]:
    there = hashed.sound | hashed.damaged
    for what, artifact, is_input in _needs(record):
        gone = [sha256 for sha256 in list_needed(artifact, archive) if sha256 not in there]
        if not gone or record is None:
            continue
        path = Objects(Path("objects")).path(gone[0]).as_posix()
        subject = f"{what} {artifact.name!r} of {record.id}"
        if is_input:
            meaning = "what the execution read cannot be looked at here; fetch it from where it is kept"
            yield undecided(Code.INPUT_NOT_AVAILABLE, path, subject, "nothing", meaning)
        else:
            yield false(Code.MISSING, path, subject, "nothing", "what the record says it holds was removed")


def _judge_entries(archive: Path, chain: Chain, found: Mapping[str, Examined], hashed: Hashed) -> Iterator[Finding]:
    for entry in chain.of_kind(Kind.RELEASE, Kind.REPRODUCTION):
        examined = found.get(entry.record)
        if examined is None:
            meaning = "no such execution was ever announced"
            yield false(Code.UNLOGGED, f"ledger/{entry.seq:09d}.json", f"a record {entry.record}", "none", meaning)
        elif entry.kind is Kind.RELEASE:
            yield from judge_release(archive, _folder(archive, entry.record), entry, examined.record)
        elif entry.sha256 not in hashed.sound | hashed.damaged:
            path = Objects(Path("objects")).path(entry.sha256).as_posix()
            yield false(Code.MISSING, path, f"the comparison of entry {entry.seq}", "nothing", "a proof was removed")


def _report(
    subject: str,
    origin: str,
    chain: Chain,
    coverage: Coverage,
    hashed: Hashed,
    examined: list[Examined],
    findings: list[Finding],
) -> Report:
    signers = coverage.signers | {each.signer for each in examined if each.signer}
    return Report(
        subject=subject,
        origin=origin,
        n_entries=len(chain.leaves),
        root=base64.b64encode(tree_root(chain.leaves)).decode(),
        n_records=len(examined),
        n_objects=hashed.n_objects,
        n_bytes=hashed.n_bytes,
        signers=tuple(sorted(signers)),
        findings=sort_findings([*chain.findings, *coverage.findings, *hashed.findings, *findings]),
    )
