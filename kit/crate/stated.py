"""What a record's statement says about its files, held against the files."""

from __future__ import annotations

from collections.abc import Mapping

from kit.archive import STATEMENT
from kit.errors import IntegrityError
from kit.record import Record
from kit.signing import Envelope
from kit.statement import OUTPUTS, PROVENANCE, subjects_of


def require_stated(record: Record, envelope: Envelope, digests: Mapping[str, str]) -> None:
    """Refuse a record whose statement is not exactly about it: every file, every output, nothing else.

    Args:
        record: as its record.json has it.
        envelope: of its statement.
        digests: of its files by their path in the record.

    Raises:
        IntegrityError: names the first file that was edited, added or removed.
    """
    statement = envelope.read_statement(f"record {record.id}, {STATEMENT}")
    if statement.get("predicateType") != PROVENANCE:
        raise IntegrityError(
            f"record {record.id}: its {STATEMENT} states no execution: {statement.get('predicateType')!r}"
        )
    stated = subjects_of(statement)
    found = {name: sha256 for name, sha256 in digests.items() if name != STATEMENT}
    found |= {f"{OUTPUTS}{artifact.name}": artifact.sha256 for artifact in record.outputs}
    for name in sorted(found.keys() | stated.keys()):
        if name not in stated or (name in digests and name.startswith(OUTPUTS)):  # there it would pass for an output
            raise IntegrityError(f"record {record.id}: {name} is there, but its statement does not name it")
        if name not in found:
            raise IntegrityError(f"record {record.id}: its statement names {name}, which is not there")
        if stated[name] != found[name]:
            digest = f"expected the digest {stated[name][:12]}…, found {found[name][:12]}…"
            raise IntegrityError(f"record {record.id}: {name} is not what its statement names: {digest}")
