"""What was live in an environment, from when to when, by whom and why: the ledger's releases and rollbacks, told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kit.archive import VERDICT, Archive
from kit.errors import KitError
from kit.gate import Finding
from kit.ledger import Entry, Kind, environment_of
from kit.release.live import list_turns, read_rollback, require_next
from kit.release.soundness import require_cut
from kit.signing import PublicKey, Standing, judge_envelope


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


def read_history(archive: Archive, environment: str, keys: Sequence[PublicKey] = ()) -> tuple[Interval, ...]:
    """What was live in an environment, newest first; what cannot be read says so, and hides nothing else.

    Args:
        archive: its ledger is read once.
        environment: its name; one that never had a release gives nothing.
        keys: trusted ones.

    Raises:
        IntegrityError: an entry of the ledger cannot be read.
    """
    turns = list(list_turns(archive, environment))
    found: list[Interval] = []
    for index, turn in enumerate(turns):
        before = turns[index + 1] if index + 1 < len(turns) else None
        interval = _read_interval(archive, turn, before, keys)
        found.append(msgspec.structs.replace(interval, live_to=turns[index - 1].time if index else None))
    return tuple(found)


def find_withdrawn(history: Sequence[Interval], *, signed: bool = False) -> dict[str, Interval]:
    """Releases that were rolled back from and are not live again, with the interval that followed each.

    Args:
        history: of one environment, newest first.
        signed: only a rollback that a trusted key signed makes one live again; any takes one back.
    """
    withdrawn: dict[str, Interval] = {}
    for interval in reversed(history):
        if not interval.rolled_back_from:
            continue
        if _number_of(interval.release) < _number_of(interval.rolled_back_from):  # forward again takes nothing back
            withdrawn[interval.rolled_back_from] = interval
        if not interval.problem and (interval.standing is Standing.TRUSTED or not signed):
            withdrawn.pop(interval.release, None)
    return withdrawn


def _number_of(release_id: str) -> int:
    number = release_id.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


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
        require_next(rollback, [turn, *([before] if before else [])])
    except (KitError, OSError) as error:
        return msgspec.structs.replace(interval, **facts, problem=str(error))
    facts |= {"why": f"rolled back from {was}: {rollback.reason}", "reason": rollback.reason}
    return msgspec.structs.replace(interval, **facts, standing=standing, signer=signer)


def _add_verdict(archive: Archive, interval: Interval, turn: Entry, keys: Sequence[PublicKey]) -> Interval:
    try:
        release = archive.release_of(turn)
        require_cut(archive, release)
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
