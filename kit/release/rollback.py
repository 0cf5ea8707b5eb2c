"""Rolling back: an earlier release of an environment becomes the live one again, as a new entry of the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kit.archive import Archive
from kit.decision import Rollback
from kit.environment import Environment
from kit.errors import IntegrityError, NotFoundError, PolicyError, UnknownSubjectError, UsageError
from kit.execute import Workbench
from kit.execute.signed import require_signed
from kit.gate import Manifest, Release
from kit.ledger import Entry, Kind
from kit.provenance import describe_machine
from kit.release.history import Interval, find_withdrawn, read_history
from kit.release.live import demands_signatures, find_live, find_turn
from kit.release.soundness import require_sound
from kit.release.waivers import find_expired
from kit.signing import PublicKey
from kit.statement import describe_rollback


class Rolled(msgspec.Struct, frozen=True):
    """A rollback that was entered.

    Attributes:
        entry: number of the ledger's entry.
        rollback: the decision.
    """

    entry: int
    rollback: Rollback


def roll_back(workbench: Workbench, environment_name: str, reason: str, to: str = "") -> Rolled:
    """Make an earlier release of an environment the live one, after every byte of it was verified.

    Args:
        workbench: project, archive and clock.
        environment_name: where.
        reason: why; never empty.
        to: id of the release. Without it the one that was live most recently before and that nobody has rolled back from
            since it was last made live.

    Raises:
        UsageError: no reason, or that release cannot be rolled back to.
        NotFoundError: nothing is live there, or no such release.
        IntegrityError: the release is not what its gate admitted.
        PolicyError: signed work is demanded and there is no trusted key; a waiver that the release relies on has expired;
            or another release went live meanwhile.
    """
    environment = workbench.project.read_environment(environment_name)
    if not reason.strip():
        raise UsageError("a rollback needs a reason that others can read later: --reason TEXT")
    archive, keys = workbench.archive, workbench.trusted_keys
    require_signed(archive, environment, [], keys)
    turn = find_turn(archive, environment.name)
    if turn is None:
        raise NotFoundError(f"nothing is live in {environment.name!r}: there is nothing to roll back from")
    target = _choose_target(archive, environment, turn, keys, to)
    manifest = require_sound(archive, target)
    strict = msgspec.structs.replace(
        environment.policy, signed=environment.policy.signed or demands_signatures(manifest)
    )
    environment = msgspec.structs.replace(environment, policy=strict)
    require_signed(archive, environment, [target.record, manifest.training_record], keys)
    _require_unexpired(workbench, environment, target, manifest)
    return _enter(workbench, environment, turn, target, reason.strip())


def _choose_target(
    archive: Archive, environment: Environment, turn: Entry, keys: Sequence[PublicKey], to: str
) -> Release:
    try:
        find_live(archive, environment.name, keys, signed=environment.policy.signed)
    except (PolicyError, IntegrityError):
        if not to:  # whatever is live is not to be relied on, so neither is what was live before it
            raise
    else:
        if to == turn.release:
            raise UsageError(f"{to} is live in {environment.name!r} already")
    signed = environment.policy.signed
    target = to or _find_earlier(read_history(archive, environment.name, keys), signed=signed)
    release = archive.find_release(target)
    if release is None:
        raise UnknownSubjectError(
            f"release {target!r} does not exist; `kit releases --env {environment.name}` lists them"
        )
    if release.environment != environment.name:
        raise UsageError(
            f"release {target} belongs to {release.environment!r}, and only a release of {environment.name!r} passed its gate; "
            f"`kit promote {target} --to {environment.name}` takes it through"
        )
    return release


def _find_earlier(history: Sequence[Interval], *, signed: bool) -> str:
    """Id of the release to go back to, so that rolling back again walks further back and never to and fro."""
    now, withdrawn = history[0], find_withdrawn(history, signed=signed)
    earlier = (each.release for each in history[1:] if each.release != now.release and each.release not in withdrawn)
    found = next(earlier, "")
    if not found:
        raise UsageError(
            f"no release of {now.environment!r} is left to roll back to from {now.release}: none was live before that was "
            f"not rolled back from; name one with --to, `kit history {now.environment}` lists them"
        )
    return found


def _require_unexpired(workbench: Workbench, environment: Environment, target: Release, manifest: Manifest) -> None:
    keys = workbench.trusted_keys if environment.policy.signed else None
    expired = find_expired(workbench.archive, manifest.verdict, workbench.clock(), keys)
    if expired:
        raise PolicyError(
            f"{target.id} cannot become live: {'; '.join(expired)}. Renew it with `kit waive CHECK --env {environment.name} "
            f"--reason … --until …`, or choose another release with --to"
        )


def _enter(workbench: Workbench, environment: Environment, turn: Entry, target: Release, reason: str) -> Rolled:
    machine, now = describe_machine(), workbench.clock()
    rollback = Rollback(
        environment=environment.name,
        before=turn.release,
        since_entry=turn.seq,
        after=target.id,
        reason=reason,
        who=f"{machine.user}@{machine.host}",
        time=now.replace(microsecond=now.microsecond // 1000 * 1000),  # as the ledger keeps it
    )

    def require_same_turn() -> None:
        found = find_turn(workbench.archive, environment.name)
        if found != turn:
            raise PolicyError(
                f"{found.release if found else 'nothing'} went live in {environment.name!r} while the rollback from "
                f"{turn.release} was prepared: nothing was changed. Look at `kit history {environment.name}`, and decide again"
            )

    entry = workbench.archive.enter_decision(
        Kind.ROLLBACK,
        describe_rollback(rollback, target.manifest_sha256, workbench.archive.origin),
        rollback.who,
        rollback.time,
        record=target.record,
        release=target.id,
        admit=require_same_turn,
    )
    return Rolled(entry.seq, rollback)
