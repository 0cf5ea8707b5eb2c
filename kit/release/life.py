"""The life of one release: when it was live and why it ended, what it was promoted to, and the waivers that it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kit.archive import Archive
from kit.decision import Waiver
from kit.gate import Manifest, Release
from kit.release.history import Interval, read_history
from kit.release.live import demands_signatures
from kit.release.promotion import list_promotions
from kit.release.waivers import GivenWaiver, describe_state, read_waivers
from kit.signing import PublicKey


class UsedWaiver(msgspec.Struct, frozen=True):
    """A waiver that let something pass in a release's gate, and how it stands now, see `describe_state`."""

    waiver: Waiver
    state: str


class ReleaseLife(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a release.

    Attributes:
        live: True if it is what the ledger makes live in its environment.
        intervals: in which it was live, newest first.
        rollbacks: the intervals that followed when it was rolled back from, newest first.
        promoted_from: id of the release that it repeats; empty if it is none.
        promoted_as: ids of the releases that repeat it elsewhere, oldest first.
        waivers: that its gate's verdict relies on.
    """

    live: bool
    intervals: tuple[Interval, ...]
    rollbacks: tuple[Interval, ...]
    promoted_from: str
    promoted_as: tuple[str, ...]
    waivers: tuple[UsedWaiver, ...]


def read_release_life(
    archive: Archive, release: Release, manifest: Manifest, now: datetime, keys: Sequence[PublicKey] = ()
) -> ReleaseLife:
    """What the ledger tells of a release after it was cut.

    Args:
        archive: its ledger is read.
        release: which.
        manifest: its own.
        now: the time, for its waivers.
        keys: trusted ones.

    Raises:
        IntegrityError: an entry of the ledger, or a release that may repeat it, cannot be read.
    """
    history = read_history(archive, release.environment, keys)
    return ReleaseLife(
        live=bool(history) and history[0].release == release.id,
        intervals=tuple(each for each in history if each.release == release.id),
        rollbacks=tuple(each for each in history if each.rolled_back_from == release.id),
        promoted_from=manifest.promoted_from,
        promoted_as=list_promotions(archive, release.id),
        waivers=list_used(archive, manifest, now, keys),
    )


def list_used(
    archive: Archive,
    manifest: Manifest,
    now: datetime,
    keys: Sequence[PublicKey] = (),
    given: Sequence[GivenWaiver] | None = None,
) -> tuple[UsedWaiver, ...]:
    """The waivers that a release relies on, and how they stand.

    Args:
        archive: its ledger is read only if there are any, and `given` is not.
        manifest: of the release.
        now: the time.
        keys: trusted ones; where signed work is demanded only waivers under their signatures count.
        given: the waivers of all environments, see `read_waivers`; who asks for many releases reads them once.
    """
    used = manifest.verdict.waivers
    if used and given is None:
        given = read_waivers(archive, manifest.environment, keys)
    signed = demands_signatures(manifest)
    own = [each for each in given or () if each.waiver is None or each.waiver.environment == manifest.environment]
    return tuple(UsedWaiver(waiver, describe_state(waiver, own, now, signed=signed)) for waiver in used)
