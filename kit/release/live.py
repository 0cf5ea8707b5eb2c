"""What is live in an environment: the ledger's newest release or rollback there, if those who may say so have said it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, assert_never

from kit.archive import VERDICT, Archive, decode_rollback
from kit.decision import Rollback
from kit.errors import IntegrityError, KitError, NotFoundError, PolicyError
from kit.execute.signed import find_unsigned
from kit.gate import Finding, Manifest, Release
from kit.ledger import Entry, Kind, environment_of
from kit.record import Record
from kit.release.soundness import require_cut, wrote
from kit.signing import PublicKey, Standing, decode_envelope, judge_envelope


def find_live(
    archive: Archive, environment: str, keys: Sequence[PublicKey] = (), *, signed: bool = False
) -> Release | None:
    """What is live in an environment, if those who may say so have said it; None if nothing is.

    Args:
        archive: its ledger decides: its newest release there, or the one that was rolled back to since.
        environment: its name.
        keys: those whose signatures count.
        signed: the environment's file demands signed work. The frozen policy of what is live, and of what was live before it
            was rolled back to, can demand it too.

    Raises:
        PolicyError: signed work is demanded, and nobody trusted signed the release, or the rollback that made it live.
        IntegrityError: release or rollback cannot be read, or the ledger's entries contradict each other.
    """
    turns = list(_list_newest(archive, environment))
    if not turns:
        return None
    try:
        return _judge_turns(archive, turns, keys, signed=signed)
    except NotFoundError as error:
        raise IntegrityError(
            f"{turns[0].release} is live in {environment!r}, but cannot be read: {error}; `kit verify` says more, and "
            f"`kit rollback {environment} --to ID --reason …` makes another release live"
        ) from error


def _judge_turns(archive: Archive, turns: Sequence[Entry], keys: Sequence[PublicKey], *, signed: bool) -> Release:
    turn, live = turns[0], archive.release_of(turns[0])
    cut, manifest = require_cut(archive, live), archive.read_manifest(live)
    signed = signed or demands_signatures(manifest) or _demanded_before(archive, turns[1:], keys)
    if turn.kind is Kind.ROLLBACK:
        rollback, standing, signer = read_rollback(archive, turn, keys)
        require_next(rollback, turns)
        if signed:
            _require_trusted(rollback, turn, standing, signer)
    else:
        _require_cut_once(archive, turn)
        _require_beside(archive, turn, manifest)
        _require_in_time(archive, turn)
    if signed:
        _require_signed(archive, live, cut, keys)
    return live


def demands_signatures(manifest: Manifest) -> bool:
    """Whether the frozen policy of a release demands signed work."""
    return bool(_table(manifest.configuration, "policy").get("signed"))


def find_turn(archive: Archive, environment: str) -> Entry | None:
    """The entry that made live what is live in an environment, unjudged; None if nothing ever was."""
    return next(list_turns(archive, environment), None)


def read_rollback(archive: Archive, entry: Entry, keys: Sequence[PublicKey]) -> tuple[Rollback, Standing, str]:
    """A rollback, and how its signature stands to trusted keys: the standing and the key id that says so.

    Raises:
        NotFoundError: its statement is not in the archive.
        IntegrityError: the statement cannot be read, or is another than the entry tells of.
    """
    envelope = decode_envelope(archive.objects.read(entry.sha256), f"the rollback of ledger entry {entry.seq}")
    return decode_rollback(envelope, entry, archive.origin), *judge_envelope(envelope, keys)


def describe_standing(standing: Standing, signer: str) -> str:
    """Who vouches for a decision, in a few words."""
    match standing:
        case Standing.TRUSTED:
            return f"signed with {signer}, a trusted key"
        case Standing.UNKNOWN_KEY:
            return f"signed with {signer}, which is not among the trusted keys"
        case Standing.BAD:
            return f"NOT VALID: its signature is not one of {signer}"
        case Standing.UNSIGNED:
            return "not signed"
    assert_never(standing)


def list_turns(archive: Archive, environment: str) -> Iterator[Entry]:
    """The entries that made a release of an environment live, newest first."""
    turns = archive.tell(Kind.RELEASE, Kind.ROLLBACK)
    return (entry for entry in turns if environment_of(entry) == environment)


def _list_newest(archive: Archive, environment: str) -> Iterator[Entry]:
    """The rollbacks since the newest release, and that release, newest first."""
    for turn in list_turns(archive, environment):
        yield turn
        if turn.kind is Kind.RELEASE:
            return


def require_next(rollback: Rollback, turns: Sequence[Entry]) -> None:
    """Refuse a decision that was made about another state of the ledger, such as an old one that was entered again."""
    before = turns[1] if len(turns) > 1 else None
    if before is None or (rollback.before, rollback.since_entry) != (before.release, before.seq):
        raise IntegrityError(
            f"the rollback of ledger entry {turns[0].seq} was decided when {rollback.before} was live by entry "
            f"{rollback.since_entry}, which was not so; `kit verify` says more. Say what shall be live with "
            f"`kit rollback {rollback.environment} --to ID --reason …`"
        )


def _require_trusted(rollback: Rollback, turn: Entry, standing: Standing, signer: str) -> None:
    if standing is not Standing.TRUSTED:
        raise PolicyError(
            f"{rollback.after} is live in {rollback.environment!r} by a rollback (ledger entry {turn.seq}, by {turn.who}) that "
            f"is {describe_standing(standing, signer)}, and signed work is demanded there (policy.signed). Someone with a "
            f"trusted key must say what shall be live: `kit rollback {rollback.environment} --to ID --reason …`"
        )


def _require_signed(archive: Archive, live: Release, cut: Record, keys: Sequence[PublicKey]) -> None:
    """Refuse a release of which nobody trusted signed the verdict and the record, or that is not what the record says."""
    standing, signer = judge_envelope(archive.read_envelope(live.record, VERDICT), keys)
    problem = "" if standing is Standing.TRUSTED else f"its verdict is {describe_standing(standing, signer)}"
    problem = problem or find_unsigned(archive, cut, keys)
    if problem or not wrote(cut, live):
        raise PolicyError(
            f"{live.id} is live in {live.environment!r}, where signed work is demanded (policy.signed), but "
            f"{problem or f'record {cut.id} wrote another release.json'}. Someone with a trusted key must release again, or say "
            f"what shall be live: `kit rollback {live.environment} --to ID --reason …`"
        )


def _require_beside(archive: Archive, turn: Entry, manifest: Manifest) -> None:
    """Refuse a release that was compared with another one than was live when it took its number, such as a late one."""
    if not compares_with_live(manifest):
        return
    before = next((each for each in list_turns(archive, environment_of(turn)) if each.seq < turn.seq), None)
    was = before.release if before else ""
    if manifest.verdict.live != was:
        raise IntegrityError(
            f"{turn.release} (ledger entry {turn.seq}) was compared with {manifest.verdict.live or 'nothing'}, but "
            f"{was or 'nothing'} was live when it was entered; `kit verify` says more"
        )


def find_overtaking(entries: Iterable[Entry], record: str, environment: str) -> Entry | None:
    """A release into an environment that was begun and numbered after an execution had ended; None if there is none.

    A release takes its number at once. Of two that are cut at the same time each may; one that was killed before it had a
    number may not be entered when another came after it.

    Args:
        entries: of the ledger before the release takes its number, oldest first.
        record: that cut the release.
        environment: whose release it is.
    """
    begun: set[str] = set()
    has_ended = False
    for entry in entries:
        is_release = entry.kind is Kind.RELEASE and environment_of(entry) == environment
        if is_release and entry.record in begun:
            return entry
        has_ended = has_ended or (entry.kind is Kind.END and entry.record == record)
        if has_ended and entry.kind is Kind.START:
            begun.add(entry.record)
    return None


def read_since(archive: Archive, record: str, environment: str) -> list[Entry]:
    """What the ledger tells of a record, of the releases into an environment since it ended, and of the records that cut these.

    Oldest first: all that `find_overtaking` looks at.
    """
    own = list(archive.tell_of(record))
    ended = min((entry.seq for entry in own if entry.kind is Kind.END), default=None)
    if ended is None:
        return own[::-1]
    releases = [entry for entry in archive.tell(Kind.RELEASE) if environment_of(entry) == environment]
    others = {entry.record for entry in releases if entry.seq > ended} - {record}
    told = [*own, *(archive.tell_of(*others) if others else ())]
    return sorted(told, key=lambda entry: entry.seq)


def _require_in_time(archive: Archive, turn: Entry) -> None:
    told = read_since(archive, turn.record, environment_of(turn))
    before = [entry for entry in told if entry.seq < turn.seq]
    if late := find_overtaking(before, turn.record, environment_of(turn)):
        raise IntegrityError(
            f"{turn.release} (ledger entry {turn.seq}) was entered late: entry {late.seq} had made {late.release} live after its "
            f"gate had decided; `kit verify` says more"
        )


def compares_with_live(manifest: Manifest) -> bool:
    """Whether a verdict holds only beside what was live when it was reached, which may have been nothing."""
    if any(each.kind == "drop" for each in manifest.verdict.evidence):
        return True
    slices = _table(manifest.configuration, "gates", "slices")
    limits = [each for column in slices for each in _table(slices[column], "metrics").values()]
    return any(isinstance(each, Mapping) and each.get("max_drop") is not None for each in limits)


def _table(values: Any, *names: str) -> Mapping[str, Any]:
    """A table in tables; an empty one if it is not there."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def list_checked(manifest: Manifest | None, kind: str) -> tuple[str, ...]:
    """Names of what a release's gate found to hold, or a person let pass, of one kind of evidence.

    What was let pass is asked for again: a waiver ends, and the check that it was for does not end with it.
    """
    evidence = manifest.verdict.evidence if manifest else ()
    counts = (Finding.HOLDS, Finding.WAIVED)
    return tuple(dict.fromkeys(each.subject for each in evidence if each.kind == kind and each.finding in counts))


def _require_cut_once(archive: Archive, cut: Entry) -> None:
    """Refuse an old release that was given a new number: that would make it live again without a rollback.

    All entries are looked at: whoever enters it again can enter another start or end of its record, too.
    """
    for entry in archive.tell(Kind.RELEASE):
        if entry.seq < cut.seq and (entry.record == cut.record or entry.release == cut.release):
            raise IntegrityError(
                f"{cut.release} (ledger entry {cut.seq}) is {entry.release} entered again: record {cut.record} cut both, or "
                f"the number was taken by entry {entry.seq}. `kit verify` says more"
            )


def _demanded_before(archive: Archive, turns: Sequence[Entry], keys: Sequence[PublicKey]) -> bool:
    """Whether what was live before demands signatures; where that cannot be read, if there is anyone who could sign."""
    try:
        return any(demands_signatures(archive.read_manifest(archive.release_of(turn))) for turn in turns)
    except (KitError, OSError):
        return bool(keys)
