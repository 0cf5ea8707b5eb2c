"""Whether a release may be handed over: a cluster's TensorFlow Serving verifies nothing, so here is the last gate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kit.archive import Archive
from kit.environment import decode_environment
from kit.errors import PolicyError
from kit.execute.signed import find_unsigned
from kit.gate import Manifest, Release
from kit.release import find_expired
from kit.release.soundness import require_sound
from kit.signing import PublicKey


def require_servable(archive: Archive, release: Release, keys: Sequence[PublicKey], now: datetime) -> Manifest:
    """Refuse a release that `kit serve` would not serve, before it leaves; gives its manifest.

    Args:
        archive: only read; every byte that the release rests on is.
        release: as the ledger has it.
        keys: those whose signatures count, where the frozen policy demands signed work.
        now: the time, for waivers.

    Raises:
        IntegrityError: it is not what its gate admitted.
        PolicyError: it is not signed by a trusted key and must be, or a waiver that it relies on does not hold any more.
    """
    manifest = require_sound(archive, release)
    environment = decode_environment(manifest.configuration, f"release {release.id}, configuration")
    problems = []
    if environment.policy.signed:
        records = (archive.read_record(each) for each in (release.record, manifest.training_record))
        problems += [problem for record in records if (problem := find_unsigned(archive, record, keys))]
    problems += find_expired(archive, manifest.verdict, now, keys if environment.policy.signed else None)
    if problems:
        raise PolicyError(f"release {release.id} may not be handed over: {'; '.join(problems)}")
    return manifest
