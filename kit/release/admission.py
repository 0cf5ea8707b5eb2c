"""The last look before a release takes its number: does what its gate saw of other releases still hold?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kit.archive import Archive
from kit.environment import Environment
from kit.errors import GateRefusedError
from kit.files import Clock
from kit.gate import Finding, Manifest
from kit.record import Record
from kit.release.live import compares_with_live, find_overtaking, find_turn, read_since
from kit.release.promotion import judge_promotion
from kit.release.waivers import find_expired
from kit.signing import PublicKey


def require_still_admitted(
    archive: Archive,
    environment: Environment,
    manifest: Manifest,
    training: Record,
    keys: Sequence[PublicKey],
    clock: Clock,
    cut: str = "",
) -> None:
    """Refuse a release that was admitted beside what is live no more, or on what was taken back meanwhile.

    Asked by the ledger before it gives the number: of two releases that were compared with the same live one, one is
    numbered; those that were compared with nothing get two numbers.

    Args:
        archive: as it is now.
        environment: whose gate it was.
        manifest: that the release notebook wrote.
        training: that is released.
        keys: whose signatures count where the policy demands signed work.
        clock: tells whether waivers still hold.
        cut: id of the record that is to be numbered; empty while it is not sealed.

    Raises:
        GateRefusedError: with a reason for each thing that changed.
    """
    verdict = manifest.verdict
    reasons = list(_judge_live(archive, manifest))
    late = find_overtaking(read_since(archive, cut, environment.name), cut, environment.name) if cut else None
    if late and not reasons:
        reasons.append(f"{late.release} went live (ledger entry {late.seq}) before {cut} had its number; release again")
    if not any(waiver.evidence.startswith("promotion:") for waiver in verdict.waivers):
        found = judge_promotion(archive, environment, training, keys, manifest.promoted_from)
        reasons += [each.detail for each in found if each.finding is Finding.REFUSES]
    reasons += find_expired(archive, verdict, clock(), keys if environment.policy.signed else None)
    if reasons:
        raise GateRefusedError(environment.name, reasons)


def _judge_live(archive: Archive, manifest: Manifest) -> Iterator[str]:
    verdict = manifest.verdict
    turn = find_turn(archive, verdict.environment)
    live = turn.release if turn else ""
    if live != verdict.live and compares_with_live(manifest):
        yield (
            f"what is live changed while it was judged: it was compared with {verdict.live or 'nothing'}, now "
            f"{live or 'nothing'} is live; release again, and it is compared with that"
        )
