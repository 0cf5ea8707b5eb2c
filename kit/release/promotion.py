"""Promotion: an environment may take only what was released elsewhere before, and was not rolled back from there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from kit.archive import Archive
from kit.environment import Environment
from kit.errors import KitError
from kit.execute.signed import find_unsigned
from kit.execute.sources import BUNDLE
from kit.gate import Evidence, Finding, Manifest, Release
from kit.ledger import Kind, environment_of
from kit.record import Record
from kit.release.history import Interval, find_withdrawn, read_history
from kit.release.soundness import require_cut, wrote
from kit.signing import PublicKey


class _Earlier(msgspec.Struct, frozen=True):
    """A release of the same training elsewhere, and why it does not count; empty if it does."""

    release: Release
    problem: str


def judge_promotion(
    archive: Archive,
    environment: Environment,
    training: Record,
    keys: Sequence[PublicKey] = (),
    promoted_from: str = "",
    stands_for: str = "",
) -> Iterator[Evidence]:
    """Whether the same training and bundle were released where the policy demands it; nothing if nothing is demanded.

    Args:
        archive: its ledger tells what was released, and rolled back from.
        environment: its `policy.promoted_from` names the environments, one of which suffices.
        training: the record that is to be released.
        keys: whose signatures count where the policy demands signed work.
        promoted_from: id of the release that is promoted: its environment counts where the policy names none.
        stands_for: id of the training that this one did again, where a release of that one is judged again; empty otherwise.
    """
    source = promoted_from.rpartition("-")[0]
    environments = environment.policy.promoted_from or ((source,) if source else ())
    if not environments:
        return
    trainings = (training.id, stands_for)
    try:
        found = [
            each
            for name in environments
            for each in _list_earlier(archive, name, environment, trainings, training.code.bundle_sha256, keys)
        ]
    except (KitError, OSError) as error:
        yield Evidence("promotion", BUNDLE, Finding.REFUSES, f"the releases cannot be read: {error}")
        return
    found.sort(key=lambda each: each.release.id != promoted_from)  # the one that is promoted speaks for itself first
    good = next((each for each in found if not each.problem), None)
    if good is not None:
        detail = f"{training.id} and its bundle were released as {good.release.id}"
        yield Evidence("promotion", BUNDLE, Finding.HOLDS, detail)
        return
    problem = found[0].problem if found else _tell_missing(environments, environment, training)
    yield Evidence("promotion", BUNDLE, Finding.REFUSES, problem)


def list_promotions(archive: Archive, release_id: str) -> tuple[str, ...]:
    """Ids of the releases that repeat a release for other environments, oldest first; one that cannot be read is none."""
    found = []
    for entry in archive.tell(Kind.RELEASE):
        try:
            manifest = archive.read_manifest(archive.release_of(entry))
        except (KitError, OSError):
            continue
        if manifest.promoted_from == release_id:
            found.append(entry.release)
    return tuple(reversed(found))


def _list_earlier(
    archive: Archive,
    name: str,
    environment: Environment,
    trainings: Collection[str],
    bundle_sha256: str,
    keys: Sequence[PublicKey],
) -> Iterator[_Earlier]:
    """Releases of the same training and bundle in one environment, newest first."""
    withdrawn = find_withdrawn(read_history(archive, name, keys), signed=environment.policy.signed)
    for release, manifest in reversed(list(_list_cut(archive, name))):
        if manifest.training_record not in trainings or manifest.bundle_sha256 != bundle_sha256:
            continue
        problem = _tell_withdrawn(release, withdrawn.get(release.id))
        if environment.policy.signed and not problem:
            unsigned = find_unsigned(archive, archive.read_record(release.record), keys)
            problem = f"{release.id} does not count: {unsigned}" if unsigned else ""
        yield _Earlier(release, problem)


def _list_cut(archive: Archive, name: str) -> Iterator[tuple[Release, Manifest]]:
    """Releases of an environment, oldest first, without those that cannot be read or that a record did not cut: none counts."""
    seen: set[str] = set()
    for entry in reversed([each for each in archive.tell(Kind.RELEASE) if environment_of(each) == name]):
        if not seen.isdisjoint((entry.record, entry.release)):
            continue  # entered again
        seen |= {entry.record, entry.release}
        try:
            release = archive.release_of(entry)
            cut, manifest = require_cut(archive, release), archive.read_manifest(release)
        except (KitError, OSError):
            continue
        if wrote(cut, release):
            yield release, manifest


def _tell_withdrawn(release: Release, after: Interval | None) -> str:
    if after is None:
        return ""
    return (
        f"{release.id} was rolled back from (ledger entry {after.entry}, by {after.who}: {after.reason or after.problem}) and "
        f"is not live again; release another training in {release.environment}, or "
        f"`kit rollback {release.environment} --to {release.id} --reason …`"
    )


def _tell_missing(environments: Sequence[str], environment: Environment, training: Record) -> str:
    first = environments[0]
    return (
        f"{training.id} was not released in {' or '.join(environments)} before; run `kit release --env {first} --from "
        f"{training.id}`, then `kit promote {first}-N --to {environment.name}`"
    )
