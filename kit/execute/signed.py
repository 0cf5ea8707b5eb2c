"""Signed work only: what an environment with `policy.signed` accepts, and why it refuses the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from kit.archive import STATEMENT, Archive
from kit.environment import Environment
from kit.errors import KitError, NotFoundError, PolicyError
from kit.files import sha256_bytes
from kit.record import Record
from kit.signing import KEY_VARIABLE, PublicKey, Standing, judge_envelope
from kit.statement import subjects_of


def require_signed(
    archive: Archive, environment: Environment, records: Iterable[str], keys: Sequence[PublicKey]
) -> None:
    """Refuse unsigned work where the environment demands signatures.

    Args:
        archive: holds the records, and signs with its key.
        environment: only one with `policy.signed` demands anything.
        records: ids of the records that go in; empty ones are passed over.
        keys: those whose signatures count.

    Raises:
        PolicyError: there is no key to sign with, or a record is not signed by a trusted key.
    """
    if not environment.policy.signed:
        return
    where = f"environments/{environment.name}.toml demands signed work (policy.signed)"
    if archive.key is None:
        raise PolicyError(
            f"{where}, and there is no key to sign with: make one with `kit key new`, or set {KEY_VARIABLE}"
        )
    if archive.key.public not in keys:
        raise PolicyError(
            f"{where}, and your key {archive.key.public.id} is not among the trusted keys: have its line, as `kit key show` "
            f"prints it, put into trusted_keys in [tool.kit]"
        )
    for record_id in dict.fromkeys(filter(None, records)):
        if problem := find_unsigned(archive, archive.read_record(record_id), keys):
            raise PolicyError(f"{where}, but {problem}")


def find_unsigned(archive: Archive, record: Record, keys: Sequence[PublicKey]) -> str:
    """Why a record does not count as signed by a trusted key; empty if it does.

    Args:
        archive: holds its statement.
        record: as it was read; what is in the folder now does not matter.
        keys: trusted ones.

    Raises:
        NotFoundError: the record or its statement is not there.
        IntegrityError: its statement cannot be read.
    """
    envelope = archive.read_envelope(record.id)
    standing, key = judge_envelope(envelope, keys)
    if standing is not Standing.TRUSTED:
        return f"record {record.id} is {_UNTRUSTED[standing].format(key=key)}"
    stated = subjects_of(envelope.read_statement(f"record {record.id}, {STATEMENT}"))
    if sha256_bytes(record.encode()) != stated.get("record.json"):
        return f"record {record.id} was changed after it was signed"
    return ""


def describe_signature(archive: Archive, record_id: str, keys: Sequence[PublicKey] = ()) -> str:
    """Who vouches for a record, in a sentence that also says what it means if nobody does.

    Args:
        archive: holds it.
        record_id: in full.
        keys: trusted ones; without any the sentence only repeats whose signature it claims to be.
    """
    try:
        envelope = archive.read_envelope(record_id)
    except NotFoundError:
        return "not sealed: what it holds may have been changed by anyone who can write to the archive"
    except (KitError, OSError) as error:
        return f"cannot be read: {error}"
    standing, key = judge_envelope(envelope, keys)
    return f"{_describe_standing(archive, record_id, standing, key, keys)}{_describe_origin(archive, record_id)}"


def _describe_origin(archive: Archive, record_id: str) -> str:
    try:
        imported = archive.is_imported(archive.read_record(record_id))
    except (KitError, OSError):
        return ""
    return "; imported: it was executed for another archive" if imported else ""


def _describe_standing(
    archive: Archive, record_id: str, standing: Standing, key: str, keys: Sequence[PublicKey]
) -> str:
    match standing:
        case Standing.UNSIGNED:
            return "not signed: anyone who can write to the archive could have made it"
        case Standing.TRUSTED:
            problem = find_unsigned(archive, archive.read_record(record_id), keys)
            is_own = archive.key is not None and archive.key.public.id == key
            return problem or f"signed with {key}, {'your own key' if is_own else 'a trusted key'}"
        case Standing.BAD:
            return f"NOT VALID: the signature is not one of {key}"
        case Standing.UNKNOWN_KEY:
            return f"signed with {key}, if that key is whose it says; `kit verify --keys` decides"
    assert_never(standing)


_UNTRUSTED = {
    Standing.UNSIGNED: "not signed",
    Standing.UNKNOWN_KEY: "signed with {key}, which is not among the trusted keys; see trusted_keys in [tool.kit]",
    Standing.BAD: "not signed: its signature is not one of {key}",
}
