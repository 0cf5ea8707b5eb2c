"""A gate's verdict: what the archive tells of a candidate, and what was measured. Whatever is missing or unreadable refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kit.archive import Archive
from kit.bundle import Bundle
from kit.check import CheckResult
from kit.environment import Environment
from kit.errors import KitError
from kit.execute.signed import find_unsigned
from kit.execute.sources import BUNDLE
from kit.files import canonical_json, sha256_bytes, utc_now
from kit.gate import Evidence, Finding, Manifest, Verdict
from kit.graph import BUILD, Graph
from kit.ledger import Kind
from kit.lineage import read_lineage
from kit.record import Record
from kit.release.bound_data import Bind
from kit.release.live import find_live, find_turn, list_checked
from kit.release.measured import Live, judge_measured
from kit.release.probes import Probes
from kit.release.promotion import judge_promotion
from kit.release.sealed import find_change, read_seals
from kit.release.waivers import GivenWaiver, can_be_waived, read_waivers, waive_evidence
from kit.signing import PublicKey

LIVE = "live/release.json"  # subject of a verdict: what the candidate was compared with
MAX_CHANGES = 10  # of limits and policy that are listed


def judge_candidate(
    archive: Archive,
    environment: Environment,
    training: Record,
    bundle: Bundle,
    bind: Bind,
    probes: Probes,
    keys: Sequence[PublicKey] = (),
    *,
    promoted_from: str = "",
    moment: datetime | None = None,
    stands_for: str = "",
) -> Verdict:
    """Decide on a release: a training record's model with the bundle that trained it, for one environment.

    Args:
        archive: holds all that is looked at.
        environment: its limits and policy decide.
        training: the record that made the model.
        bundle: the sources that trained it.
        bind: gives the data that the environment binds.
        probes: load and query models, check data.
        keys: whose signatures count where the policy demands signed work.
        promoted_from: id of the release that is promoted; empty if none is.
        moment: at which waivers must hold; None for now.
        stands_for: id of the training that this one did again, where a release of that one is judged again; empty otherwise.
    """
    live = _find_live(archive, environment, keys)
    subjects = {artifact.name: artifact.sha256 for artifact in training.outputs} | {BUNDLE: training.code.bundle_sha256}
    if live.release:
        subjects[LIVE] = live.release.manifest_sha256
    recorded = collect_evidence(archive, environment, training, bundle, keys, promoted_from, stands_for, live.manifest)
    measured = judge_measured(archive, environment, training, bundle, bind, probes, live)
    found = (*recorded, *_compare_limits(environment, live), *measured.evidence)
    subjects |= measured.subjects
    refused = any(each.finding is Finding.REFUSES for each in found)
    given = (
        [each for each in read_waivers(archive, environment.name, keys) if _may_count(each, environment)]
        if refused
        else []
    )
    evidence, waivers = waive_evidence(found, given, moment or utc_now(), signed=environment.policy.signed)
    live_id = live.release.id if live.release else ""
    return Verdict(environment.name, environment.sha256, subjects, evidence, live_id, waivers)


def collect_evidence(
    archive: Archive,
    environment: Environment,
    training: Record,
    bundle: Bundle,
    keys: Sequence[PublicKey] = (),
    promoted_from: str = "",
    stands_for: str = "",
    live: Manifest | None = None,
) -> Iterator[Evidence]:
    """What the archive alone tells: code, promotion, lineage, signatures, checks. No lineage ends it.

    Args:
        archive: holds all that is looked at.
        environment: its limits and policy decide.
        training: the record that made the model.
        bundle: the sources that trained it.
        keys: whose signatures count where the policy demands signed work.
        promoted_from: id of the release that is promoted; empty if none is.
        stands_for: see `judge_candidate`.
        live: of what is live; what was checked for it must be checked again.
    """
    yield from _judge_code(archive, environment, training, keys)
    yield from judge_promotion(archive, environment, training, keys, promoted_from, stands_for)
    try:
        lineage = read_lineage(archive, training)
        seals = read_seals(archive, {record.id for record in lineage})
    except (KitError, OSError) as error:
        yield Evidence("record", training.id, Finding.REFUSES, f"its lineage cannot be read: {error}")
        return
    yield from _judge_source(training, environment)
    yield from (_judge_record(each, environment, find_change(archive, each, seals)) for each in lineage)
    if environment.policy.signed:
        yield from (_judge_signature(archive, record, bundle.read_graph(), keys) for record in lineage)
    yield from _judge_checks(environment, lineage, bundle, list_checked(live, "check"))


def _compare_limits(environment: Environment, live: Live) -> Iterator[Evidence]:
    """Limits and policy that are others than those which the live release passed: noted, so that all readers see it."""
    if live.release is None or live.manifest is None:
        return
    before, now = (
        _list_leaves({name: each.get(name) for name in ("gates", "policy")})
        for each in (live.manifest.configuration, environment.configuration)
    )
    changes = [
        f"{name}: {before.get(name, 'null')} -> {now.get(name, 'null')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "null") != now.get(name, "null")
    ]
    if changes:
        more = f"; and {len(changes) - MAX_CHANGES} more" if len(changes) > MAX_CHANGES else ""
        detail = f"differs from what {live.release.id} was held to, in {'; '.join(changes[:MAX_CHANGES])}{more}"
        yield Evidence("code", f"environments/{environment.name}.toml", Finding.NOTED, detail)


def _list_leaves(value: Any, prefix: str = "") -> dict[str, str]:
    """The values of nested tables as JSON, by dotted name; an empty table has none."""
    if not isinstance(value, Mapping):
        return {prefix: canonical_json(value).decode()}
    leaves = (_list_leaves(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {name: text for each in leaves for name, text in each.items()}


def _may_count(given: GivenWaiver, environment: Environment) -> bool:
    """Also one that cannot be read, which might have revoked another."""
    return given.waiver is None or can_be_waived(environment, given.waiver.evidence)


def _judge_source(training: Record, environment: Environment) -> Iterator[Evidence]:
    """Where `[release] from` names an environment, a training of another is no candidate, also if a person named it."""
    if environment.release and training.environment != environment.training:
        detail = f"was executed in {training.environment!r}; [release] from of {environment.name!r} is {environment.training!r}"
        yield Evidence("record", training.id, Finding.REFUSES, detail)


def _judge_code(
    archive: Archive, environment: Environment, training: Record, keys: Sequence[PublicKey]
) -> Iterator[Evidence]:
    sha256 = training.code.bundle_sha256

    def is_its_build(record: Record) -> bool:
        output = record.output(BUNDLE)
        made_it = record.stage == BUILD and record.succeeded and output is not None and output.sha256 == sha256
        if not made_it or (environment.policy.signed and _find_unsigned(archive, record, keys)):
            return False
        return not find_change(archive, record, read_seals(archive, {record.id}))

    build = archive.newest(is_its_build, BUILD)
    if build is None:
        detail = f"no succeeded build made {sha256[:12]}…, which trained {training.id}; run kit build, then train again"
        yield Evidence("code", BUNDLE, Finding.REFUSES, detail)
    else:
        yield Evidence("code", BUNDLE, Finding.HOLDS, f"{sha256[:12]}… was built and checked by {build.id}")
    if environment.policy.code == "build":
        clean = not training.code.dirty and (training.code.build is not None)
        detail = (
            f"commit {training.code.commit}" if clean else f"{training.id} was not executed from a clean build's bundle"
        )
        yield Evidence("code", "commit", Finding.HOLDS if clean else Finding.REFUSES, detail)


def _judge_record(record: Record, environment: Environment, change: str) -> Evidence:
    """One record of the lineage; `change`: why it is not what was sealed."""
    problem = change or ("" if record.succeeded else f"is {record.status}")
    unbuilt = record.code.build is None and record.stage != BUILD  # a build is not made of another build
    if environment.policy.code == "build" and (record.code.dirty or unbuilt):
        problem = problem or "was not executed from a clean build's bundle"
    changed = [each.artifact.name for each in record.inputs if each.sha256_after != each.artifact.sha256]
    if changed:
        problem = problem or f"input {', '.join(changed)} changed while it ran"
    detail = problem or "succeeded, inputs unchanged"
    return Evidence("record", record.id, Finding.REFUSES if problem else Finding.HOLDS, detail)


def _judge_signature(archive: Archive, record: Record, graph: Graph, keys: Sequence[PublicKey]) -> Evidence:
    problem = _find_unsigned(archive, record, keys)
    for each in record.inputs:
        if not each.record and graph.producer_of(each.artifact.name):
            what = f"{each.artifact.name!r} came from {each.source!r} instead of a record"
            problem = problem or f"{what}, so nobody has signed it"
    detail = problem or "signed by a trusted key"
    return Evidence("signature", record.id, Finding.REFUSES if problem else Finding.HOLDS, detail)


def _find_unsigned(archive: Archive, record: Record, keys: Sequence[PublicKey]) -> str:
    try:
        return find_unsigned(archive, record, keys)
    except (KitError, OSError) as error:
        return f"its statement cannot be read: {error}"


def _judge_checks(
    environment: Environment, lineage: list[Record], bundle: Bundle, before: Sequence[str]
) -> Iterator[Evidence]:
    """Every artifact of the lineage that has a suite or had one for what is live (`before`), in all bytes that it had there."""
    checks = {(check.artifact, check.artifact_sha256): check for record in reversed(lineage) for check in record.checks}
    digests: dict[str, dict[str, None]] = {}
    for record in reversed(lineage):
        for artifact in (*record.outputs, *(each.artifact for each in record.inputs)):
            digests.setdefault(artifact.name, {})[artifact.sha256] = None
    suites = {Path(name).stem: name for name in bundle.names() if name.startswith("notebooks/expectations/")}
    with_suite = [name for name in digests if Path(name).stem in suites]
    for name in sorted({*environment.gates.checks, *with_suite, *(digests.keys() & set(before))}):
        stem = Path(name).stem
        suite = sha256_bytes(bundle.read(suites[stem])) if stem in suites else ""
        yield from (_judge_check(name, sha256, checks, suite) for sha256 in digests.get(name, {None: None}))
    for name in sorted(set(before) - digests.keys() - set(environment.gates.checks)):
        detail = "was checked for what is live, and nothing of that name is in this model's lineage"
        yield Evidence("check", name, Finding.NOTED, detail)


def _judge_check(
    name: str, sha256: str | None, checks: dict[tuple[str, str], CheckResult], suite_sha256: str
) -> Evidence:
    if not suite_sha256:
        return Evidence("check", name, Finding.REFUSES, "required, but notebooks/expectations/ has no suite for it")
    if sha256 is None:
        return Evidence("check", name, Finding.REFUSES, "required, but nothing of that name is in this model's lineage")
    check = checks.get((name, sha256))
    if check is None:
        other = any(artifact == name for artifact, _ in checks)
        detail = "was checked on other bytes than these" if other else "was not checked by the stage that had it"
        return Evidence("check", name, Finding.REFUSES, f"{detail} ({sha256[:12]}…)")
    if check.suite_sha256 != suite_sha256:
        detail = f"was checked with another version of its suite than the bundle has ({check.suite_sha256[:12]}…)"
        return Evidence("check", name, Finding.REFUSES, f"{detail}; execute the stage again")
    if check.problems:
        return Evidence("check", name, Finding.REFUSES, "; ".join(check.problems))
    n_warnings = len(check.warnings)
    known = f", {n_warnings} known faults noted" if n_warnings else ""
    detail = f"{len(check.expectations)} expectations met on {check.n_rows:,} rows of {sha256[:12]}…{known}"
    return Evidence("check", name, Finding.HOLDS, detail)


def _find_live(archive: Archive, environment: Environment, keys: Sequence[PublicKey]) -> Live:
    """What is live in the environment, unless it cannot be relied on."""
    by_rollback = True
    try:
        turn = find_turn(archive, environment.name)
        by_rollback = turn is not None and turn.kind is Kind.ROLLBACK
        release = find_live(archive, environment.name, keys, signed=environment.policy.signed)
        manifest = archive.read_manifest(release) if release else None
        unsigned = _find_unsigned(archive, archive.read_record(release.record), keys) if release else ""
    except (KitError, OSError) as error:
        return Live(problem=f"cannot be read: {error}", by_rollback=by_rollback)
    if unsigned and environment.policy.signed:
        return Live(problem=f"cannot be compared with: {unsigned}", by_rollback=by_rollback)
    return Live(release, manifest)
