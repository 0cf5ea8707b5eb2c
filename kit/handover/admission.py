"""Whether a release may be handed over: a cluster's TensorFlow Serving verifies nothing, so here is the last gate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kit.archive import VERDICT, Archive
from kit.errors import PolicyError
from kit.execute.signed import find_unsigned
from kit.gate import Manifest, Release
from kit.release import find_expired
from kit.release.live import demands_signatures, describe_standing
from kit.release.soundness import require_sound
from kit.signing import PublicKey, Standing, judge_envelope


def require_servable(
    archive: Archive, release: Release, keys: Sequence[PublicKey], now: datetime, *, signed: bool = False
) -> Manifest:
    """Refuse a release that `kit serve` would not serve, before it leaves; gives its manifest.

    Args:
        archive: only read; every byte that the release rests on is.
        release: as the ledger has it.
        keys: those whose signatures count, where signed work is demanded.
        now: the time, for waivers.
        signed: the environment's file demands signed work. The frozen policy can demand it, too.

    Raises:
        IntegrityError: it is not what its gate admitted.
        PolicyError: it is not signed by a trusted key and must be, or a waiver that it relies on does not hold any more.
    """
    manifest = require_sound(archive, release)
    signed = signed or demands_signatures(manifest)
    problems = _list_unsigned(archive, release, manifest, keys) if signed else []
    problems += find_expired(archive, manifest.verdict, now, keys if signed else None)
    if problems:
        raise PolicyError(f"release {release.id} may not be handed over: {'; '.join(problems)}")
    return manifest


def _list_unsigned(archive: Archive, release: Release, manifest: Manifest, keys: Sequence[PublicKey]) -> list[str]:
    """What of a release no trusted key signed: its verdict, the record that cut it, its training."""
    standing, signer = judge_envelope(archive.read_envelope(release.record, VERDICT), keys)
    problems = [] if standing is Standing.TRUSTED else [f"its verdict is {describe_standing(standing, signer)}"]
    records = (archive.read_record(each) for each in (release.record, manifest.training_record))
    return problems + [problem for record in records if (problem := find_unsigned(archive, record, keys))]
