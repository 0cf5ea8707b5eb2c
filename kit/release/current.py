"""Would a release, or a run of it, that is made now be another than the one that is there? In doubt it would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kit.archive import RELEASE_FILE
from kit.artifact import Artifact, media_type_of
from kit.environment import Environment
from kit.errors import KitError
from kit.execute import Order, Plan, Workbench
from kit.execute.measure import measure_source
from kit.execute.reuse import find_broken, find_fault
from kit.execute.signed import find_unsigned
from kit.execute.sources import BUNDLE
from kit.files import format_time
from kit.gate import BOUND, Manifest, Release
from kit.ledger import Kind
from kit.record import Record
from kit.release.bound_data import list_bound
from kit.release.candidate import preview_release
from kit.release.difference import describe_changes
from kit.release.live import find_live, find_turn, list_checked
from kit.release.running import preview_run
from kit.release.soundness import require_cut, wrote
from kit.release.waivers import find_expired
from kit.signing import PublicKey
from kit.tables import flatten_table


@dataclass(frozen=True)
class Standing:
    """How what is there stands to what would be made now.

    Attributes:
        record: that cut what is live, or that ran it last; None if there is none.
        release: that is live; None if nothing is.
        manifest: its own.
        plan: what would be executed, without a gate; None if that cannot be told.
        reasons: why what is there is not up to date, a sentence each, beside what the keys of record and plan tell.
    """

    record: Record | None
    release: Release | None
    manifest: Manifest | None
    plan: Plan
    reasons: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """True if what is there is what would be made."""
        return self.record is not None and self.record.key == self.plan.key and not self.reasons


def judge_release(workbench: Workbench, order: Order) -> Standing:
    """Whether what is live is what would be released now; nothing is executed, and no model is loaded.

    Raises:
        PolicyError: the environment takes no releases.
        NotFoundError: there is no training to release.
    """
    plan = preview_release(workbench, order)
    try:
        release = _find_live(workbench, plan)
        if release is None:
            return Standing(None, None, None, plan, ("nothing was released",))
        cut, manifest = require_cut(workbench.archive, release), workbench.archive.read_manifest(release)
        return Standing(cut, release, manifest, plan, tuple(_list_changes(workbench, plan, release, cut, manifest)))
    except (KitError, OSError) as error:
        return Standing(None, None, None, plan, (str(error),))


def _find_live(workbench: Workbench, plan: Plan) -> Release | None:
    environment = plan.environment
    return find_live(workbench.archive, environment.name, workbench.trusted_keys, signed=environment.policy.signed)


def _list_changes(workbench: Workbench, plan: Plan, release: Release, cut: Record, manifest: Manifest) -> Iterator[str]:
    training = workbench.archive.read_record(plan.parts.subject["id"] if plan.parts else "")
    if manifest.training_record != training.id:
        yield f"{release.id}{_tell_rollback(workbench, release)} was cut from {manifest.training_record}, now it is {training.id}"
    yield from _list_settings(manifest, plan.environment, release.id)
    facts = (
        ("bundle", manifest.bundle_sha256, training.code.bundle_sha256),
        ("lock", manifest.lock_sha256 or "none", training.software.lock_sha256 or "none"),
    )
    yield from (f"{name}: {old[:12]} → {new[:12]}" for name, old, new in facts if old != new)
    if manifest.artifacts != training.outputs or not wrote(cut, release):
        yield f"{release.id} does not hold what {training.id} wrote"
    yield from _list_bound_changes(workbench, plan, manifest)
    yield from find_expired(workbench.archive, manifest.verdict, workbench.clock(), _demanded_keys(workbench, plan))
    yield from _list_faults(workbench, plan, cut, manifest)
    if plan.environment.policy.signed and (
        problem := find_unsigned(workbench.archive, training, workbench.trusted_keys)
    ):
        yield problem


def _list_settings(manifest: Manifest, environment: Environment, release: str) -> Iterator[str]:
    """How an environment's file differs from what a release froze of it."""
    if environment.sha256 != manifest.configuration_sha256:
        changes = describe_changes(flatten_table(manifest.configuration), flatten_table(environment.configuration))
        yield f"environments/{environment.name}.toml differs from what {release} froze, in: {changes}"


def _tell_rollback(workbench: Workbench, release: Release) -> str:
    turn = find_turn(workbench.archive, release.environment)
    is_rollback = turn is not None and turn.kind is Kind.ROLLBACK
    return f", live again by a rollback of {format_time(turn.time)[:10]}," if turn and is_rollback else ""


def _demanded_keys(workbench: Workbench, plan: Plan) -> tuple[PublicKey, ...] | None:
    return workbench.trusted_keys if plan.environment.policy.signed else None


def _list_bound_changes(workbench: Workbench, plan: Plan, manifest: Manifest) -> Iterator[str]:
    """Bound data that the gate would judge now and did not, or in other bytes."""
    environment, root = plan.environment, workbench.project.root
    names = list_bound(environment, plan.bundle, list_checked(manifest, "data"))
    judged = {
        name.removeprefix(BOUND): each for name, each in manifest.verdict.subjects.items() if name.startswith(BOUND)
    }
    for name in dict.fromkeys([*names, *judged]):
        if name not in names or name not in judged:
            yield f"bound data {name!r} {'is judged no more' if name in judged else 'was not judged'}"
            continue
        now = measure_source(name, environment.data[name], root, workbench.digests, environment.name).sha256
        if now != judged[name]:
            yield f"bound data {name!r}: {judged[name][:12]} → {now[:12]}"


def _list_faults(workbench: Workbench, plan: Plan, record: Record, manifest: Manifest) -> Iterator[str]:
    """What is no longer as it was sealed: the record, and all that the release is made of."""
    archive = workbench.archive
    if fault := find_fault(workbench, record, plan.environment):
        yield f"{record.id}: {fault}"
    bundle = Artifact(BUNDLE, manifest.bundle_sha256, 0, media_type_of(BUNDLE))
    configuration = Artifact("configuration", manifest.configuration_sha256, 0, media_type_of("configuration"))
    artifacts, folder = (*manifest.artifacts, bundle, configuration), archive.record_folder(manifest.training_record)
    if broken := find_broken(archive, artifacts, workbench.digests, folder):
        yield broken


def judge_run(workbench: Workbench, order: Order) -> Standing:
    """Whether the newest run is one of what is live, of the same data and parameters; nothing is executed.

    Raises:
        NotFoundError: nothing is live there.
        IntegrityError: what is live cannot be read.
    """
    plan = preview_run(workbench, order)
    assert plan.release is not None  # a run has one
    archive = workbench.archive
    release = archive.find_release(plan.release.id)
    record = archive.newest_of(plan.stage.name, plan.environment.name)
    if record is None:
        return Standing(None, release, plan.release.manifest, plan, ("it was never run",))
    try:
        reasons = tuple(_list_run_changes(workbench, plan, record, plan.release.manifest))
    except (KitError, OSError) as error:
        reasons = (str(error),)
    return Standing(record, release, plan.release.manifest, plan, reasons)


def _list_run_changes(workbench: Workbench, plan: Plan, record: Record, manifest: Manifest) -> Iterator[str]:
    live = plan.release.id if plan.release else ""
    if record.release != live:
        yield f"release: {record.release} → {live}"
    read = next((each.artifact for each in record.inputs if each.artifact.name == RELEASE_FILE), None)
    if record.release == live and read and read.sha256 != manifest.sha256:
        yield f"{record.id} read another {RELEASE_FILE} than that of {live}"
    now = workbench.project.read_environment(plan.environment.name)
    yield from _list_settings(manifest, now, live)
    yield from find_expired(workbench.archive, manifest.verdict, workbench.clock(), _demanded_keys(workbench, plan))
    yield from _list_faults(workbench, plan, record, manifest)
