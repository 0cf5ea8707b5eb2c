"""What is live in an environment, what was, from when to when, by whom and why: the ledger's releases and rollbacks, read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import assert_never

import msgspec

from kit.archive import VERDICT, Archive, decode_rollback
from kit.decision import Rollback
from kit.errors import IntegrityError, KitError, NotFoundError, PolicyError
from kit.gate import Finding, Manifest, Release
from kit.ledger import Entry, Kind, environment_of
from kit.signing import PublicKey, Standing, decode_envelope, judge_envelope


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which one release was live in an environment.

    Attributes:
        environment: where.
        release: id.
        entry: number of the ledger's entry that made it live.
        live_from: when that was.
        live_to: when another became live; None if it is live now.
        who: user and host that made it live.
        why: `released`, `promoted from staging-3`, or `rolled back from production-4: ` and the reason.
        promoted_from: id of the release that this one repeats; empty if it is none.
        rolled_back_from: id of the release that was live before, if a rollback made this one live; empty otherwise.
        reason: of that rollback.
        n_holds: how many pieces of evidence its gate's verdict has that hold.
        n_waived: and that were waived.
        n_noted: and that were noted.
        standing: how the signature of the verdict, or of the rollback, stands to the trusted keys.
        signer: key id that this signature claims; empty without one.
        problem: why verdict or rollback cannot be relied on, in a sentence; empty if they can be read.
    """

    environment: str
    release: str
    entry: int
    live_from: datetime
    live_to: datetime | None
    who: str
    why: str
    promoted_from: str = ""
    rolled_back_from: str = ""
    reason: str = ""
    n_holds: int = 0
    n_waived: int = 0
    n_noted: int = 0
    standing: Standing = Standing.UNSIGNED
    signer: str = ""
    problem: str = ""

    @property
    def verdict(self) -> str:
        """The gate's, in numbers."""
        waived = f", {self.n_waived} waived" if self.n_waived else ""
        return (
            "cannot be read"
            if self.problem and not self.n_holds
            else f"{self.n_holds} hold{waived}, {self.n_noted} noted"
        )


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
        PolicyError: signed work is demanded, and a rollback that nobody trusted signed made it live.
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
    rollback, standing, signer = None, Standing.UNSIGNED, ""
    if turns[0].kind is Kind.ROLLBACK:
        rollback, standing, signer = read_rollback(archive, turns[0], keys)
        _require_next(rollback, turns)
    live = archive.release_of(turns[0])
    if signed or demands_signatures(archive.read_manifest(live)) or _demanded_before(archive, turns[1:], keys):
        _require_cut_once(archive, turns[-1])
        if rollback is not None:
            _require_trusted(rollback, turns[0], standing, signer)
    return live


def demands_signatures(manifest: Manifest) -> bool:
    """Whether the frozen policy of a release demands signed work."""
    policy = manifest.configuration.get("policy")
    return isinstance(policy, Mapping) and bool(policy.get("signed"))


def find_turn(archive: Archive, environment: str) -> Entry | None:
    """The entry that made live what is live in an environment, unjudged; None if nothing ever was."""
    return next(_list_turns(archive, environment), None)


def read_rollback(archive: Archive, entry: Entry, keys: Sequence[PublicKey]) -> tuple[Rollback, Standing, str]:
    """A rollback, and how its signature stands to trusted keys: the standing and the key id that says so.

    Raises:
        NotFoundError: its statement is not in the archive.
        IntegrityError: the statement cannot be read, or is another than the entry tells of.
    """
    envelope = decode_envelope(archive.objects.read(entry.sha256), f"the rollback of ledger entry {entry.seq}")
    return decode_rollback(envelope, entry, archive.origin), *judge_envelope(envelope, keys)


def read_history(archive: Archive, environment: str, keys: Sequence[PublicKey] = ()) -> tuple[Interval, ...]:
    """What was live in an environment, newest first; what cannot be read says so, and hides nothing else.

    Args:
        archive: its ledger is read once.
        environment: its name; one that never had a release gives nothing.
        keys: trusted ones.

    Raises:
        IntegrityError: an entry of the ledger cannot be read.
    """
    turns = list(_list_turns(archive, environment))
    found: list[Interval] = []
    for index, turn in enumerate(turns):
        before = turns[index + 1] if index + 1 < len(turns) else None
        interval = _read_interval(archive, turn, before, keys)
        found.append(msgspec.structs.replace(interval, live_to=turns[index - 1].time if index else None))
    return tuple(found)


def find_withdrawn(history: Sequence[Interval]) -> dict[str, Interval]:
    """Releases that were rolled back from and are not live again, with the interval that followed each.

    Args:
        history: of one environment, newest first.
    """
    withdrawn: dict[str, Interval] = {}
    for interval in reversed(history):
        if interval.rolled_back_from:
            withdrawn[interval.rolled_back_from] = interval
        withdrawn.pop(interval.release, None)
    return withdrawn


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


def _list_turns(archive: Archive, environment: str) -> Iterator[Entry]:
    """The entries that made a release of an environment live, newest first."""
    turns = archive.tell(Kind.RELEASE, Kind.ROLLBACK)
    return (entry for entry in turns if environment_of(entry) == environment)


def _list_newest(archive: Archive, environment: str) -> Iterator[Entry]:
    """The rollbacks since the newest release, and that release, newest first."""
    for turn in _list_turns(archive, environment):
        yield turn
        if turn.kind is Kind.RELEASE:
            return


def _require_next(rollback: Rollback, turns: Sequence[Entry]) -> None:
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


def _require_cut_once(archive: Archive, cut: Entry) -> None:
    """Refuse an old release that was given a new number: that, too, would make it live again without a signature."""
    for entry in archive.tell(Kind.RELEASE, Kind.END):
        if entry.record == cut.record and entry.seq < cut.seq:
            if entry.kind is Kind.END:
                return
            raise IntegrityError(
                f"{cut.release} (ledger entry {cut.seq}) is {entry.release} entered again: record {cut.record} cut both. "
                f"`kit verify` says more"
            )


def _demanded_before(archive: Archive, turns: Sequence[Entry], keys: Sequence[PublicKey]) -> bool:
    """Whether what was live before demands signatures; where that cannot be read, if there is anyone who could sign."""
    try:
        return any(demands_signatures(archive.read_manifest(archive.release_of(turn))) for turn in turns)
    except (KitError, OSError):
        return bool(keys)


def _read_interval(archive: Archive, turn: Entry, before: Entry | None, keys: Sequence[PublicKey]) -> Interval:
    interval = Interval(
        environment=environment_of(turn),
        release=turn.release,
        entry=turn.seq,
        live_from=turn.time,
        live_to=None,
        who=turn.who,
        why="released",
    )
    if turn.kind is Kind.ROLLBACK:
        interval = _add_rollback(archive, interval, turn, before, keys)
    return _add_verdict(archive, interval, turn, keys)


def _add_rollback(
    archive: Archive, interval: Interval, turn: Entry, before: Entry | None, keys: Sequence[PublicKey]
) -> Interval:
    was = before.release if before else "nothing"
    facts = {"rolled_back_from": before.release if before else "", "why": f"rolled back from {was}"}
    try:
        rollback, standing, signer = read_rollback(archive, turn, keys)
        _require_next(rollback, [turn, *([before] if before else [])])
    except (KitError, OSError) as error:
        return msgspec.structs.replace(interval, **facts, problem=str(error))
    facts |= {"why": f"rolled back from {was}: {rollback.reason}", "reason": rollback.reason}
    return msgspec.structs.replace(interval, **facts, standing=standing, signer=signer)


def _add_verdict(archive: Archive, interval: Interval, turn: Entry, keys: Sequence[PublicKey]) -> Interval:
    try:
        release = archive.release_of(turn)
        manifest = archive.read_manifest(release)
        standing, signer = judge_envelope(archive.read_envelope(release.record, VERDICT), keys)
    except (KitError, OSError) as error:
        return msgspec.structs.replace(interval, problem="; ".join(filter(None, (interval.problem, str(error)))))
    findings = [each.finding for each in manifest.verdict.evidence]
    counted = msgspec.structs.replace(
        interval,
        n_holds=findings.count(Finding.HOLDS),
        n_waived=findings.count(Finding.WAIVED),
        n_noted=findings.count(Finding.NOTED),
    )
    if turn.kind is Kind.ROLLBACK:
        return counted
    why = f"promoted from {manifest.promoted_from}" if manifest.promoted_from else "released"
    return msgspec.structs.replace(
        counted, why=why, promoted_from=manifest.promoted_from, standing=standing, signer=signer
    )
