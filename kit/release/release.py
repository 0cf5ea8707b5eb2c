"""Cutting a release through its environment's gate."""

from __future__ import annotations

from collections import Counter

from kit.environment import Environment
from kit.errors import PolicyError, UnknownSubjectError, UsageError
from kit.execute import Order, Plan, Workbench, execute_plan
from kit.execute.sources import bundle_of
from kit.gate import Finding, Manifest, Release, Verdict
from kit.record import Record
from kit.release.admission import require_still_admitted
from kit.release.bound_data import bind_now
from kit.release.candidate import choose_candidate, choose_training, finish_release, tell_closed
from kit.release.evidence import judge_candidate
from kit.release.probes import PROBES, Probes
from kit.release.soundness import require_sound
from kit.workspace import GateContext


def plan_release(workbench: Workbench, order: Order, probes: Probes = PROBES) -> Plan:
    """Decide on the newest training of the environment that `[release] from` names, and plan the release notebook.

    The gate's verdict is reached here, before the notebook starts; the notebook can show it, not change it.

    Args:
        workbench: project, archive and collaborators.
        order: any of its inputs may name another training; one record at most.
        probes: load and query models, check data.

    Raises:
        NotFoundError: there is no training, or it has no such output.
        PolicyError: the environment takes no releases, or none but promoted ones.
    """
    environment = workbench.project.read_environment(order.environment)
    if environment.release is None:
        raise PolicyError(tell_closed(environment))
    training = choose_training(workbench, environment, order)
    return _plan_candidate(workbench, order, environment, training, probes)


def plan_promotion(workbench: Workbench, order: Order, release_id: str, probes: Probes = PROBES) -> Plan:
    """Plan the release notebook for another environment, on bundle and training of a release, after every byte was verified.

    Args:
        workbench: project, archive and collaborators.
        order: its environment is where to, with the configuration that the working tree has of it.
        release_id: the release that is promoted.
        probes: load and query models, check data.

    Raises:
        NotFoundError: there is no such release.
        UsageError: it is one of that environment already, or the order names another training.
        IntegrityError: the release is not what its gate admitted.
        PolicyError: the environment takes no releases.
    """
    environment = workbench.project.read_environment(order.environment)
    release = workbench.archive.find_release(release_id)
    if release is None:
        raise UnknownSubjectError(f"release {release_id!r} does not exist; `kit releases` lists them")
    if release.environment == environment.name:
        raise UsageError(
            f"{release.id} is a release of {environment.name!r} already; `kit rollback {environment.name} --to {release.id} "
            f"--reason …` makes it live again"
        )
    if order.inputs:
        raise UsageError(f"a promotion takes the training of {release.id}; it has no other inputs")
    if environment.release is None and not environment.policy.promoted_from:
        raise PolicyError(tell_closed(environment))
    manifest = require_sound(workbench.archive, release)
    training = workbench.archive.read_record(manifest.training_record)
    return _plan_candidate(workbench, order, environment, training, probes, promoted_from=release.id)


def _count_findings(verdict: Verdict) -> str:
    """`30 hold, 1 waived, 5 noted`."""
    found = Counter(each.finding for each in verdict.evidence)
    words = ((Finding.HOLDS, "hold"), (Finding.REFUSES, "refuse"), (Finding.WAIVED, "waived"), (Finding.NOTED, "noted"))
    return ", ".join(f"{found[finding]} {word}" for finding, word in words if found[finding])


def _plan_candidate(
    workbench: Workbench,
    order: Order,
    environment: Environment,
    training: Record,
    probes: Probes,
    promoted_from: str = "",
) -> Plan:
    """Judge a training and plan the release notebook of its bundle."""
    archive = workbench.archive
    candidate = choose_candidate(workbench, order, environment, training, bundle_of(archive, training))
    workbench.notify(f"gate of {environment.name}: judging {promoted_from or training.id}")
    verdict = judge_candidate(
        archive,
        environment,
        training,
        candidate.bundle,
        bind_now(archive, environment, workbench.project.root),
        probes,
        workbench.trusted_keys,
        promoted_from=promoted_from,
        moment=workbench.clock(),
    )
    workbench.notify(f"gate of {environment.name}: {_count_findings(verdict)}")
    manifest = _make_manifest(environment, training, verdict, promoted_from)
    return finish_release(workbench, order, candidate, GateContext(verdict, manifest if verdict.passed else None))


def _make_manifest(environment: Environment, training: Record, verdict: Verdict, promoted_from: str) -> Manifest:
    return Manifest(
        environment=environment.name,
        bundle_sha256=training.code.bundle_sha256,
        commit=training.code.commit,
        training_record=training.id,
        artifacts=training.outputs,
        lock_sha256=training.software.lock_sha256,
        configuration=environment.configuration,
        configuration_sha256=environment.sha256,
        metrics=training.metrics,
        verdict=verdict,
        promoted_from=promoted_from,
        python=training.machine.python,
    )


def cut_release(workbench: Workbench, plan: Plan) -> tuple[Record, Release | None]:
    """Execute a planned release notebook and, if the gate admits it and the notebook cut it, number the release.

    Returns:
        The record, and the release; None if there is none, for the reasons that the record has.

    Raises:
        GateRefusedError: what the gate saw of other releases changed meanwhile; the record stays, without a number.
    """
    record = execute_plan(workbench, plan)
    if not record.succeeded or plan.gate is None or plan.gate.manifest is None:
        return record, None
    archive, environment, manifest = workbench.archive, plan.environment, plan.gate.manifest
    training = archive.read_record(manifest.training_record)

    def admit() -> None:
        require_still_admitted(
            archive, environment, manifest, training, workbench.trusted_keys, workbench.clock, record.id
        )

    return record, archive.add_release(environment.name, record, workbench.clock(), admit)
