"""A whole archive: ledger, checkpoints, records, releases, objects, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.archive import MARKER, OPEN
from kit.signing import PublicKey, Standing
from kit.verify.attempts import judge_attempts
from kit.verify.decisions import judge_decisions
from kit.verify.entries import judge_entries
from kit.verify.executions import Books, examine
from kit.verify.findings import Code, Finding, Report, false, noted
from kit.verify.ledgered import read_ledgered, undecidable_unless_readable
from kit.verify.names import is_leftover
from kit.verify.notes import Noted
from kit.verify.objects import hash_objects, judge_objects
from kit.verify.records import Examined

_PARTS = (MARKER, "records", "objects", "ledger", "checkpoints")


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
    names = _list_records(archive)
    ledgered = read_ledgered(archive, keys, outside)
    books, chain = ledgered.books, ledgered.chain
    hashed = hash_objects(archive)
    found = {each: examine(archive, each, ledgered.origin, books, keys) for each in books.records()}
    findings = [*_judge_parts(archive), *_judge_unlogged(archive, names, books)]
    for examined in found.values():
        findings += [*examined.findings, *judge_objects(archive, examined.record, hashed)]
        findings += judge_attempts(archive, examined.record, books, has_gap=chain.has_gap)
    findings += judge_entries(archive, chain, found, hashed, keys)
    findings += judge_decisions(archive, ledgered.origin, chain, found, hashed, keys)
    findings += _judge_unsigned(list(found.values()))
    return ledgered.report(str(archive), hashed, list(found.values()), findings)


def _list_records(archive: Path) -> list[Path]:
    folder = archive / "records"
    return sorted(folder.iterdir()) if folder.is_dir() else []


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
