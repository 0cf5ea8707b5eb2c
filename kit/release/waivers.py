"""Waivers as the ledger tells of them: which hold, what they let pass in a gate, and what rests on one that has expired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from kit.archive import Archive, decode_waiver
from kit.decision import WAIVABLE, Waiver
from kit.environment import Environment
from kit.errors import KitError
from kit.files import format_time, tell_until
from kit.gate import Evidence, Finding, Verdict
from kit.ledger import Entry, Kind
from kit.release.live import describe_standing
from kit.signing import PublicKey, Standing, decode_envelope, judge_envelope


class GivenWaiver(msgspec.Struct, frozen=True, kw_only=True):
    """A waiver that somebody gave or revoked.

    Attributes:
        entry: number of the ledger's entry that tells of it.
        who: user and host.
        time: when it was entered.
        waiver: what was decided; None if it cannot be read.
        standing: how its signature stands to the trusted keys.
        signer: key id that the signature claims; empty without one.
        problem: why it cannot be relied on, in a sentence; empty if it can be read.
    """

    entry: int
    who: str
    time: datetime
    waiver: Waiver | None
    standing: Standing = Standing.UNSIGNED
    signer: str = ""
    problem: str = ""


def read_waivers(archive: Archive, environment: str = "", keys: Sequence[PublicKey] = ()) -> tuple[GivenWaiver, ...]:
    """The waivers that were given and revoked, oldest first; one that cannot be read says so, whatever it was for.

    One that was decided in view of other entries than those before it was entered again, or late: it is passed over.

    Args:
        archive: its ledger is read once.
        environment: only this one's; empty for all.
        keys: trusted ones.

    Raises:
        IntegrityError: an entry of the ledger cannot be read.
    """
    found, before = list[GivenWaiver](), 0
    for entry in reversed(list(archive.tell(Kind.WAIVER))):
        given = _read_waiver(archive, entry, keys)
        if given.waiver is None or given.waiver.since_entry == before:
            found.append(given)
        before = entry.seq
    return tuple(each for each in found if each.waiver is None or environment in ("", each.waiver.environment))


def find_newest(archive: Archive) -> int:
    """Number of the ledger's newest entry of a waiver, whatever it says; 0 if there is none."""
    return next((entry.seq for entry in archive.tell(Kind.WAIVER)), 0)


def can_be_waived(environment: Environment, evidence: str) -> bool:
    """Whether an environment's gate lets a person waive a piece of evidence, `<kind>:<subject>`.

    Of metrics only those with limits: that a record is wrong about one, or that nothing was measured, is no matter of limits.
    """
    kind, _, subject = evidence.partition(":")
    limits = environment.gates.metrics
    match kind:
        case "metric":
            return subject in limits
        case "drop":
            return subject in limits and limits[subject].max_drop is not None
        case _:
            return kind in WAIVABLE


def find_decisive(waivers: Sequence[GivenWaiver], evidence: str, *, signed: bool = False) -> GivenWaiver | None:
    """The newest waiver of a piece of evidence, given or revoked; None if there is none.

    Args:
        waivers: of one environment, oldest first.
        evidence: `<kind>:<subject>`.
        signed: only those that a trusted key signed count.
    """
    for given in reversed(waivers):
        if given.waiver and given.waiver.evidence == evidence and (given.standing is Standing.TRUSTED or not signed):
            return given
    return None


def waive_evidence(
    evidence: Sequence[Evidence], waivers: Sequence[GivenWaiver], moment: datetime, *, signed: bool = False
) -> tuple[tuple[Evidence, ...], tuple[Waiver, ...]]:
    """Let pass what a waiver lets pass; gives the evidence and the waivers that were used.

    Args:
        evidence: what a gate found.
        waivers: of its environment, oldest first. One that cannot be read might have revoked any before it, so none of
            these holds.
        moment: of judging.
        signed: only waivers that a trusted key signed count.
    """
    judged = [_judge(each, waivers, moment, signed=signed) for each in evidence]
    used = {waiver.evidence: waiver for _, waiver in judged if waiver}
    return tuple(each for each, _ in judged), tuple(used.values())


def _judge(
    evidence: Evidence, waivers: Sequence[GivenWaiver], moment: datetime, *, signed: bool
) -> tuple[Evidence, Waiver | None]:
    """A piece of evidence as it counts, and the waiver that let it pass, if one did."""
    if evidence.finding is not Finding.REFUSES or evidence.kind not in WAIVABLE:
        return evidence, None
    name = f"{evidence.kind}:{evidence.subject}"
    given = find_decisive(waivers, name, signed=signed)
    problem = _find_fault(given, waivers, moment) if given else _tell_uncounted(find_decisive(waivers, name))
    if given and given.waiver and not given.waiver.revoked and not problem:
        detail = f"{evidence.detail}; waived {describe_waiver(given)}"
        return Evidence(evidence.kind, evidence.subject, Finding.WAIVED, detail), given.waiver
    return msgspec.structs.replace(evidence, detail="; ".join(filter(None, (evidence.detail, problem)))), None


def _find_fault(given: GivenWaiver, waivers: Sequence[GivenWaiver], moment: datetime) -> str:
    """Why a waiver that counts lets nothing pass; empty for a revocation, which needs no reason."""
    if given.waiver is None or given.waiver.revoked:
        return ""
    if not given.waiver.holds_at(moment):
        return f"its waiver (ledger entry {given.entry}) {_tell_time(given.waiver, moment)}"
    return _tell_unreadable(waivers, given)


def _tell_time(waiver: Waiver, moment: datetime) -> str:
    """Why a waiver that was not revoked does not hold at a moment."""
    if moment < waiver.expires:
        return f"was given at {format_time(waiver.time)}, and here it is {format_time(moment)} only: set the clock"
    return f"expired on {waiver.until}"


def _tell_uncounted(given: GivenWaiver | None) -> str:
    if given is None or given.waiver is None or given.waiver.revoked:
        return ""
    standing = describe_standing(given.standing, given.signer)
    return f"its waiver (ledger entry {given.entry}) does not count: it is {standing}"


def _tell_unreadable(waivers: Sequence[GivenWaiver], given: GivenWaiver) -> str:
    """Why a waiver does not count; empty if all later ones can be read, so that none can have revoked it unseen."""
    problems = [each.problem for each in waivers if each.waiver is None and each.entry > given.entry]
    return f"it does not count, because a later one cannot be read: {problems[0]}" if problems else ""


def describe_waiver(given: GivenWaiver) -> str:
    """`until 2026-04-01 by ana@laptop (ledger entry 12): the reason`."""
    if given.waiver is None:
        return f"ledger entry {given.entry} by {given.who}: {given.problem}"
    return f"until {given.waiver.until} by {given.waiver.who} (ledger entry {given.entry}): {given.waiver.reason}"


def find_expired(
    archive: Archive, verdict: Verdict, now: datetime, keys: Sequence[PublicKey] | None = None
) -> list[str]:
    """Why a release may not be executed or served any more although a gate admitted it; empty if it may.

    Args:
        archive: its ledger tells whether a waiver was renewed or revoked.
        verdict: of the release.
        now: the time.
        keys: where signed work is demanded, those whose signatures count; None where it is not.

    Returns:
        A sentence for each waiver that the verdict relies on and that does not hold now.
    """
    if not verdict.waivers:
        return []
    waivers = read_waivers(archive, verdict.environment, keys or ())
    sentences = (_tell_lapsed(waiver, waivers, now, signed=keys is not None) for waiver in verdict.waivers)
    return list(filter(None, sentences))


def _tell_lapsed(waiver: Waiver, waivers: Sequence[GivenWaiver], now: datetime, *, signed: bool) -> str:
    given = find_decisive(waivers, waiver.evidence, signed=signed)
    if given is None or given.waiver is None:
        return f"the waiver of {waiver.evidence} until {waiver.until} by {waiver.who} is not in the ledger, or does not count"
    if given.waiver.holds_at(now):
        tell_until(given.waiver.expires)
        problem = _tell_unreadable(waivers, given)
        return f"the waiver of {waiver.evidence} by {given.waiver.who}: {problem}" if problem else ""
    if given.waiver.revoked:
        when = format_time(given.waiver.time)[:10]
        return f"the waiver of {waiver.evidence} was revoked by {given.waiver.who} on {when}: {given.waiver.reason}"
    state = _tell_time(given.waiver, now)
    return f"the waiver of {waiver.evidence} by {given.waiver.who} {state}: {given.waiver.reason}"


def describe_state(waiver: Waiver, waivers: Sequence[GivenWaiver], now: datetime, *, signed: bool = False) -> str:
    """How a waiver that a verdict used stands now: `until 2026-04-01`, `EXPIRED on …`, `REVOKED …`, `renewed until …`.

    Args:
        waiver: of the verdict.
        waivers: of its environment, oldest first.
        now: the time.
        signed: only those that a trusted key signed count.
    """
    given = find_decisive(waivers, waiver.evidence, signed=signed)
    if given is None or given.waiver is None:
        return "NOT IN THE LEDGER, or it does not count" if signed else "NOT IN THE LEDGER"
    if given.waiver.revoked:
        return f"REVOKED on {format_time(given.waiver.time)[:10]} by {given.waiver.who}: {given.waiver.reason}"
    if not given.waiver.holds_at(now):
        return f"EXPIRED on {given.waiver.until}" if now >= given.waiver.expires else "NOT GIVEN YET by this clock"
    renewed = "renewed " if given.waiver != waiver else ""
    return f"{renewed}until {given.waiver.until}"


def tell_state(given: GivenWaiver, waivers: Sequence[GivenWaiver], now: datetime) -> str:
    """How a decision in a list of all stands now, in a few words; a newer one about the same evidence replaces it."""
    waiver = given.waiver
    if waiver is None:
        return given.problem
    if any(each.entry > given.entry and each.waiver and each.waiver.evidence == waiver.evidence for each in waivers):
        return "replaced by a newer one"
    return "revocation" if waiver.revoked else describe_state(waiver, waivers, now)


def list_standing(waivers: Sequence[GivenWaiver], now: datetime, *, signed: bool = False) -> Iterator[GivenWaiver]:
    """Those that hold now: of each piece of evidence the newest, if it is none that was revoked or has expired."""
    for name in dict.fromkeys(each.waiver.evidence for each in waivers if each.waiver):
        given = find_decisive(waivers, name, signed=signed)
        if given and given.waiver and given.waiver.holds_at(now):
            yield given


def _read_waiver(archive: Archive, entry: Entry, keys: Sequence[PublicKey]) -> GivenWaiver:
    given = GivenWaiver(entry=entry.seq, who=entry.who, time=entry.time, waiver=None)
    try:
        envelope = decode_envelope(archive.objects.read(entry.sha256), f"the waiver of ledger entry {entry.seq}")
        waiver = decode_waiver(envelope, entry, archive.origin)
    except (KitError, OSError) as error:
        return msgspec.structs.replace(given, problem=str(error))
    standing, signer = judge_envelope(envelope, keys)
    return msgspec.structs.replace(given, waiver=waiver, standing=standing, signer=signer)
