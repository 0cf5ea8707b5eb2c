"""Giving a waiver and taking it back: in a person's name, with a reason, until a day, as an entry of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, timedelta
from pathlib import Path

from kit.archive import Archive
from kit.decision import MAX_DAYS, UNWAIVABLE, WAIVABLE, Waiver
from kit.environment import Environment, LiteRTLimits
from kit.errors import KitError, PolicyError, UsageError, suggest
from kit.execute import Workbench
from kit.execute.signed import require_signed
from kit.execute.sources import BUNDLE
from kit.files import canonical_json
from kit.graph import BUILD, RELEASE, RUN
from kit.ledger import Kind
from kit.project import NOTEBOOKS
from kit.provenance import describe_machine
from kit.release.evaluated import NOT_COMPARED
from kit.release.live import find_turn, list_checked
from kit.release.waivers import GivenWaiver, find_decisive, find_newest, list_standing, read_waivers
from kit.statement import describe_waiver


def give_waiver(workbench: Workbench, environment_name: str, check: str, reason: str, until: date) -> GivenWaiver:
    """Let one piece of evidence pass in the gate of an environment although it refuses, until a day.

    Args:
        workbench: project, archive and clock.
        environment_name: whose gate.
        check: `<kind>:<subject>` as the gate prints it, or the name of an artifact that has a check.
        reason: why; never empty.
        until: the last day, in UTC, on which it holds.

    Raises:
        UsageError: no such environment or evidence, a kind that cannot be waived, no reason, or a day that cannot be.
        PolicyError: the environment demands signed work, and there is no trusted key; or another waiver came in between.
    """
    environment = workbench.project.read_environment(environment_name)
    evidence = name_evidence(workbench, environment, check)
    today = workbench.clock().astimezone(UTC).date()
    if not today <= until <= today + timedelta(days=MAX_DAYS):
        raise UsageError(
            f"--until {until}: expected a day from today, {today} in UTC, to {today + timedelta(days=MAX_DAYS)}: a waiver holds "
            f"for {MAX_DAYS} days at most"
        )
    return _enter(workbench, environment, evidence, reason, until, revoked=False)


def revoke_waiver(workbench: Workbench, environment_name: str, check: str, reason: str) -> GivenWaiver:
    """Take back the waiver that holds for a piece of evidence; see `give_waiver`.

    Raises:
        UsageError: there is none that holds.
    """
    environment = workbench.project.read_environment(environment_name)
    waivers = read_waivers(workbench.archive, environment.name, workbench.trusted_keys)
    standing = {
        given.waiver.evidence
        for given in list_standing(waivers, workbench.clock(), signed=environment.policy.signed)
        if given.waiver
    }
    # one that holds can be taken back whatever the gate of today asks for
    named = next((name for name in (check, f"check:{check}", f"data:{check}") if name in standing), "")
    evidence = named or name_evidence(workbench, environment, check)
    given = find_decisive(waivers, evidence, signed=environment.policy.signed)
    if given is None or given.waiver is None or not given.waiver.holds_at(workbench.clock()):
        raise UsageError(
            f"no waiver of {evidence} holds in {environment.name!r}; `kit history {environment.name}` lists those given"
        )
    return _enter(workbench, environment, evidence, reason, given.waiver.until, revoked=True)


def name_evidence(workbench: Workbench, environment: Environment, check: str) -> str:
    """`<kind>:<subject>` of what a person names.

    Raises:
        UsageError: an environment's gate has no such evidence, or it cannot be waived.
    """
    kind, colon, subject = check.partition(":")
    if not colon:
        kind, subject = _find_kind(workbench, environment, check), check
    if kind in UNWAIVABLE:
        raise UsageError(f"evidence {check!r} cannot be waived: it says that what would be released is sound")
    if kind not in WAIVABLE:
        raise UsageError(f"evidence {check!r}: kind {kind!r}{suggest(kind, WAIVABLE)}")
    known = _list_subjects(workbench, environment, kind)
    if kind == "slice" and (found := _find_slice(environment, subject)):
        known, named = found
    else:
        named = subject
    if named not in known:
        where = f"the gate of {environment.name!r} has no {kind} of"
        raise UsageError(f"{where} {subject!r}: {named!r}{suggest(named, known)}")
    return f"{kind}:{subject}"


def _find_slice(environment: Environment, subject: str) -> tuple[list[str], str] | None:
    """The metrics that are limited in slices of a subject's column, and the metric that it names: `carrier=AA auc`."""
    for column, limits in environment.gates.slices.items():
        if subject.startswith((f"{column}=", f"{column} ")):
            named = next((name for name in limits.metrics if subject.endswith(f" {name}")), subject.rpartition(" ")[2])
            return sorted(limits.metrics), named
    return None


def _find_kind(workbench: Workbench, environment: Environment, name: str) -> str:
    """The kind of evidence that a bare name can only mean: a check, or bound data that nothing else checks.

    Raises:
        UsageError: a metric's name, of which a gate has several kinds.
    """
    kinds = [kind for kind in ("metric", "drop") if name in _list_subjects(workbench, environment, kind)]
    if kinds:
        raise UsageError(
            f"{name!r} may mean more than one thing: write {' or '.join(f'{kind}:{name}' for kind in kinds)}"
        )
    is_check = name in _list_subjects(workbench, environment, "check")
    return "data" if not is_check and name in _list_subjects(workbench, environment, "data") else "check"


def _list_subjects(workbench: Workbench, environment: Environment, kind: str) -> Sequence[str]:
    """What a gate of the environment can say of a kind; of slices the columns, because only the data tell their values."""
    gates = environment.gates
    match kind:
        case "check":
            with_suite = _list_with_suite(workbench, [BUILD, RELEASE, RUN])
            return sorted({*gates.checks, *with_suite, *_list_checked(workbench.archive, environment, kind)})
        case "data":
            bound = (name for name in _list_with_suite(workbench, []) if name in environment.data)
            return sorted({*bound, *_list_checked(workbench.archive, environment, kind)})
        case "slice":
            return sorted(gates.slices)
        case "litert":
            return [gates.litert.model] if gates.litert else [LiteRTLimits().model]
        case "metric":
            return sorted(gates.metrics)
        case "drop":
            names = sorted(name for name, limits in gates.metrics.items() if limits.max_drop is not None)
            return [*names, *(f"{name} {NOT_COMPARED}" for name in names)]
        case "promotion":
            return [BUNDLE]
        case _:
            return []


def _list_with_suite(workbench: Workbench, without: Sequence[str]) -> Iterator[str]:
    """What stages other than some read and write, and that has a suite in the working tree."""
    suites = {path.stem for path in (workbench.project.root / NOTEBOOKS / "expectations").glob("*.json")}
    for stage in workbench.project.read_graph().stages:
        if stage.name not in without:
            yield from (name for name in (*stage.inputs, *stage.outputs) if Path(name).stem in suites)


def _list_checked(archive: Archive, environment: Environment, kind: str) -> tuple[str, ...]:
    """What was checked for the live release, so that a gate asks for it also where the suite is gone."""
    try:
        turn = find_turn(archive, environment.name)
        manifest = archive.read_manifest(archive.release_of(turn)) if turn else None
    except (KitError, OSError):
        return ()
    return list_checked(manifest, kind)


def _enter(
    workbench: Workbench, environment: Environment, evidence: str, reason: str, until: date, *, revoked: bool
) -> GivenWaiver:
    if not reason.strip():
        raise UsageError("a waiver needs a reason that others can read later: --reason TEXT")
    archive, keys = workbench.archive, workbench.trusted_keys
    require_signed(archive, environment, [], keys)
    machine, now, since = describe_machine(), workbench.clock(), find_newest(archive)
    waiver = Waiver(
        environment=environment.name,
        evidence=evidence,
        reason=reason.strip(),
        until=until,
        who=f"{machine.user}@{machine.host}",
        time=now.replace(microsecond=now.microsecond // 1000 * 1000),  # as the ledger keeps it
        revoked=revoked,
        since_entry=since,
    )

    def require_none_since() -> None:
        if find_newest(archive) != since:
            raise PolicyError(
                f"another waiver was given while this one was prepared, so nothing was changed; look at "
                f"`kit history {environment.name}`, and decide again"
            )

    configuration_sha256 = archive.objects.put_bytes(canonical_json(environment.configuration))
    statement = describe_waiver(waiver, configuration_sha256, archive.origin)
    entry = archive.enter_decision(Kind.WAIVER, statement, waiver.who, waiver.time, admit=require_none_since)
    return next(each for each in read_waivers(archive, environment.name, keys) if each.entry == entry.seq)
