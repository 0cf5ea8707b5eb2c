"""A whole archive, or one record of it: ledger, checkpoints, records, releases, objects, and nothing beside them."""

from __future__ import annotations

import base64
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from kit.archive import MARKER, OPEN, read_origin
from kit.errors import IntegrityError, NewerFormatError, NotFoundError, UndecidableError
from kit.ledger import Kind
from kit.merkle import tree_root
from kit.signing import PublicKey, Standing
from kit.verify.chain import Chain, read_chain
from kit.verify.entries import judge_entries, judge_release
from kit.verify.executions import Books, examine
from kit.verify.findings import Code, Finding, Report, false, noted, sort_findings, undecided
from kit.verify.names import is_leftover
from kit.verify.notes import Coverage, Noted, judge_checkpoints, read_notes
from kit.verify.objects import Hashed, hash_named, hash_objects, judge_objects, list_artifacts, list_needed
from kit.verify.records import Examined

P = ParamSpec("P")
T = TypeVar("T")

_PARTS = (MARKER, "records", "objects", "ledger", "checkpoints")


def undecidable_unless_readable(verify: Callable[P, T]) -> Callable[P, T]:
    """What may not be read says nothing about whether the claim is true."""

    @functools.wraps(verify)
    def decide(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verify(*args, **kwargs)
        except PermissionError as error:
            raise UndecidableError(
                f"{error.filename}: you may not read it, so nothing can be decided about it"
            ) from error

    return decide


@undecidable_unless_readable
def verify_archive(archive: Path, keys: Sequence[PublicKey] = (), outside: Sequence[Noted] = ()) -> Report:
    """Verify everything in an archive.

    Args:
        archive: its folder.
        keys: trusted public keys, from the verifier's side.
        outside: checkpoints that the verifier kept elsewhere.

    Raises:
        NotFoundError: the folder is no archive.
        UndecidableError: a part of it may not be read.
    """
    origin, findings = _read_origin(archive)
    names = _list_records(archive)
    chain, books, coverage = _read_ledger(archive, origin, keys, outside)
    hashed = hash_objects(archive)
    found = {record_id: examine(archive, record_id, origin, books, keys) for record_id in books.records()}
    findings += _judge_parts(archive)
    findings += _judge_unlogged(archive, names, books)
    for examined in found.values():
        findings += examined.findings
        findings += judge_objects(archive, examined.record, hashed)
    findings += judge_entries(archive, chain, found, hashed, keys)
    findings += _judge_unsigned(list(found.values()))
    return _report(str(archive), origin, chain, coverage, hashed, list(found.values()), findings)


@undecidable_unless_readable
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
    examined = examine(archive, record_id, origin, books, keys)
    needed = {sha256 for _, artifact, _ in list_artifacts(examined.record) for sha256 in list_needed(artifact, archive)}
    hashed = hash_named(archive, needed)
    findings += [*examined.findings, *judge_objects(archive, examined.record, hashed)]
    if examined.standing is Standing.UNSIGNED:
        what, meaning = "a signature by a trusted key", "only the ledger vouches for it, not a person"
        where = f"records/{record_id}"
        unsigned = (
            undecided(Code.UNSIGNED, where, what, "none", meaning)
            if keys
            else noted(Code.UNSIGNED, where, "no signature", meaning)
        )
        findings.append(unsigned)
    if record_id not in books.ends:
        meaning = "nothing of it was sealed, so nothing of it can be proved"
        findings.append(undecided(Code.LOST, f"records/{record_id}", "an end in the ledger", "none", meaning))
    entries = [entry for entry in chain.of_kind(Kind.RELEASE) if entry.record == record_id]
    for entry in entries:
        findings += judge_release(archive, entry, examined.record, keys)
    return _report(record_id, origin, chain, coverage, hashed, [examined], findings)


def _read_ledger(
    archive: Path, origin: str, keys: Sequence[PublicKey], outside: Sequence[Noted]
) -> tuple[Chain, Books, Coverage]:
    """The ledger against its checkpoints.

    Others may append meanwhile: what rests on entries (checkpoints, names of records) is read before the ledger, what
    entries announce is looked for after it.
    """
    inside, findings = read_notes(archive)
    chain = read_chain(archive)
    coverage = judge_checkpoints(archive, origin, inside, chain, keys, outside)
    coverage.findings += findings
    return chain, Books(chain), coverage


def _list_records(archive: Path) -> list[Path]:
    folder = archive / "records"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _read_origin(archive: Path) -> tuple[str, list[Finding]]:
    try:
        return read_origin(archive), []
    except NotFoundError:
        if not (archive / "ledger").is_dir():
            raise
        meaning = "which archive this is cannot be told"
        return "", [false(Code.MISSING, MARKER, "the archive's name and origin", "nothing", meaning)]
    except NewerFormatError as error:
        return "", [
            undecided(
                Code.NEWER_FORMAT, MARKER, "a format that this kit reads", str(error), "verify it with a newer kit"
            )
        ]
    except IntegrityError as error:
        meaning = "which archive this is cannot be told"
        return "", [false(Code.EDITED, MARKER, "the archive's name and origin", str(error), meaning)]


def _judge_unlogged(archive: Path, names: Sequence[Path], books: Books) -> Iterator[Finding]:
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
        elif path.name.endswith(OPEN) and (folder / path.name.removesuffix(OPEN)).exists() and path.exists():
            yield false(Code.UNLOGGED, where, "one folder of a record", "a second one", "no kit put it there")


def _judge_parts(archive: Path) -> Iterator[Finding]:
    for path in sorted(archive.iterdir()):
        if is_leftover(path.name):
            yield noted(Code.LEFTOVER, path.name, "a temporary file", "a command was killed; nothing reads it")
        elif path.name not in _PARTS or path.is_symlink() or path.is_file() is not (path.name == MARKER):
            yield false(Code.UNLOGGED, path.name, "an archive's own parts", "something else", "no kit put it there")


def _judge_unsigned(found: Sequence[Examined]) -> Iterator[Finding]:
    stated = [examined for examined in found if examined.standing]
    n_unsigned = sum(examined.standing is Standing.UNSIGNED for examined in stated)
    if n_unsigned:
        what = f"{n_unsigned} of {len(stated)} sealed records have no signature"
        yield noted(Code.UNSIGNED, "records", what, "only the ledger vouches for these, not a person")


def _report(
    subject: str,
    origin: str,
    chain: Chain,
    coverage: Coverage,
    hashed: Hashed,
    examined: list[Examined],
    findings: list[Finding],
) -> Report:
    signers = Counter(each.signer for each in examined if each.standing is Standing.TRUSTED)
    return Report(
        subject=subject,
        origin=origin,
        n_entries=len(chain.leaves),
        root=base64.b64encode(tree_root(chain.leaves)).decode(),
        n_records=len(examined),
        n_objects=hashed.n_objects,
        n_bytes=hashed.n_bytes,
        ledger_signers=tuple(sorted(coverage.signers)),
        signers=dict(sorted(signers.items())),
        findings=sort_findings([*chain.findings, *coverage.findings, *hashed.findings, *findings]),
    )
