"""What every verification begins with, the ledger against its checkpoints, and ends with, the report."""

from __future__ import annotations

import base64
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from kit.archive import MARKER, read_origin
from kit.errors import IntegrityError, NewerFormatError, NotFoundError, UndecidableError
from kit.merkle import tree_root
from kit.signing import PublicKey, Standing
from kit.verify.chain import Chain, read_chain
from kit.verify.executions import Books
from kit.verify.findings import Code, Finding, Report, false, sort_findings, undecided
from kit.verify.notes import Noted, judge_checkpoints, read_notes
from kit.verify.objects import Hashed
from kit.verify.records import Examined

P = ParamSpec("P")
T = TypeVar("T")


class Ledgered(msgspec.Struct, frozen=True):
    """A ledger that was read and held against every checkpoint.

    Attributes:
        origin: names it; empty if archive.json cannot be read.
        chain: its entries.
        books: what they say of each record.
        signers: key ids of trusted signatures under its checkpoints.
        findings: what is wrong so far.
    """

    origin: str
    chain: Chain
    books: Books
    signers: tuple[str, ...]
    findings: tuple[Finding, ...]

    def report(self, subject: str, hashed: Hashed, examined: Sequence[Examined], findings: Iterable[Finding]) -> Report:
        """Put together what was found.

        Args:
            subject: what was verified.
            hashed: objects.
            examined: records.
            findings: beside those of the ledger and of the objects.
        """
        signers = Counter(each.signer for each in examined if each.standing is Standing.TRUSTED)
        return Report(
            subject=subject,
            origin=self.origin,
            n_entries=len(self.chain.leaves),
            root=base64.b64encode(tree_root(self.chain.leaves)).decode(),
            n_records=len(examined),
            n_objects=hashed.n_objects,
            n_bytes=hashed.n_bytes,
            ledger_signers=self.signers,
            signers=dict(sorted(signers.items())),
            findings=sort_findings([*self.findings, *hashed.findings, *findings]),
        )


def read_ledgered(archive: Path, keys: Sequence[PublicKey], outside: Sequence[Noted]) -> Ledgered:
    """Read a ledger and its checkpoints.

    Others may append meanwhile: what rests on entries, such as checkpoints, is read before the ledger, what entries
    announce is looked for after it.

    Raises:
        NotFoundError: the folder is no archive.
    """
    origin, findings = _read_origin(archive)
    inside, problems = read_notes(archive)
    chain = read_chain(archive)
    coverage = judge_checkpoints(archive, origin, inside, chain, keys, outside)
    found = (*findings, *chain.findings, *coverage.findings, *problems)
    return Ledgered(origin, chain, Books(chain), tuple(sorted(coverage.signers)), found)


def _read_origin(archive: Path) -> tuple[str, list[Finding]]:
    unknown = "which archive this is cannot be told"
    try:
        return read_origin(archive), []
    except NotFoundError:
        if not (archive / "ledger").is_dir():
            raise
        return "", [false(Code.MISSING, MARKER, "the archive's name and origin", "nothing", unknown)]
    except NewerFormatError as error:
        what, meaning = "a format that this kit reads", "verify it with a newer kit"
        return "", [undecided(Code.NEWER_FORMAT, MARKER, what, str(error), meaning)]
    except IntegrityError as error:
        return "", [false(Code.EDITED, MARKER, "the archive's name and origin", str(error), unknown)]


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
