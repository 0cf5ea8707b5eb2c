"""Doing one execution again: from its record alone, in a clean workspace, then compared, stated and entered in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kit.archive import Archive
from kit.compare import Agreement, Cause, Comparison, find_causes, read_packages
from kit.errors import IntegrityError, KitError, NotFoundError
from kit.execute import Workbench, execute_plan
from kit.execute.signed import find_unsigned
from kit.ledger import Kind
from kit.lineage import Code, Level
from kit.provenance import describe_software
from kit.record import Record, Status
from kit.release import PROBES, Probes
from kit.reproduce.findings import Finding, Reproduction, level_of
from kit.reproduce.judge import judge_records
from kit.reproduce.names import Names
from kit.reproduce.plan import plan_again
from kit.signing import PublicKey, judge_envelope
from kit.statement import OUTPUTS, Statement, describe_resource, describe_tests

REQUIREMENTS = "requirements.txt"
_INPUT_CHANGED = "InputChanged"  # kind of failure, see kit.execute.judge


def reproduce_record(
    workbench: Workbench, record: Record, again: Mapping[str, Record] | None = None, probes: Probes = PROBES
) -> Reproduction:
    """Do an execution again here, with what is installed now, and compare.

    Args:
        workbench: project, archive and collaborators.
        record: a succeeded one.
        again: reproductions whose outputs are read instead of those of the records that they did again, by their id.
        probes: for a release: load and query models, check data.

    Raises:
        UsageError: the record did not succeed.
        KeyboardInterrupt: the execution was interrupted; its record is sealed.
    """
    again = again or {}
    found = Reproduction(record=record.id, stage=record.stage, notes=_note_kit(record))
    try:
        plan = plan_again(workbench, record, again, probes)
    except (NotFoundError, IntegrityError) as error:
        code = Code.INPUT_NOT_AVAILABLE if isinstance(error, NotFoundError) else Code.INPUT_CHANGED
        return msgspec.structs.replace(found, findings=(Finding(code, "", str(error)),))
    workbench.notify(f"{record.stage}: doing {record.id} again")
    done = execute_plan(workbench, plan)
    if done.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    found = msgspec.structs.replace(found, again=done.id, causes=_find_causes(workbench.archive, record, done))
    found = _judge(workbench.archive, record, done, again, found)
    independently, sentence = judge_independence(workbench.archive, record, done, workbench.trusted_keys)
    found = msgspec.structs.replace(found, independently=independently and found.is_executed, independence=sentence)
    return _enter(workbench, record, done, found)


def _judge(
    archive: Archive, record: Record, done: Record, again: Mapping[str, Record], found: Reproduction
) -> Reproduction:
    if not done.succeeded:
        return msgspec.structs.replace(found, findings=(_describe_failure(done),))
    names = Names()
    for record_id, reproduction in again.items():
        names.add_record(archive.read_record(record_id), reproduction)
    judged = judge_records(archive, record, done, names)
    return msgspec.structs.replace(
        found,
        level=level_of(judged.outputs),
        outputs=judged.outputs,
        metrics=judged.metrics,
        cells=judged.cells,
        findings=judged.findings,
        notes=(*found.notes, *judged.notes, *_note_attempts(record, judged.outputs)),
    )


def _note_attempts(record: Record, outputs: Sequence[Comparison]) -> tuple[str, ...]:
    """Where outputs differ: that the original did not start from nothing, as this one did."""
    if not record.attempts or all(each.agreement is Agreement.IDENTICAL for each in outputs):
        return ()
    names = ", ".join(record.attempts)
    return (f"{record.id} went on with the scratch folder of {names}; it was done again from nothing",)


def _describe_failure(done: Record) -> Finding:
    failure = done.failure
    if failure is None:
        return Finding(Code.RUN_FAILED, "", f"{done.id} is {done.status}")
    code = Code.INPUT_CHANGED if failure.kind == _INPUT_CHANGED else Code.RUN_FAILED
    cell = next((cell.id for cell in done.cells if cell.index == failure.cell), "")
    place = f"cell {failure.cell + 1} of executed.ipynb: " if failure.cell is not None else ""
    return Finding(code, cell, f"{place}{failure.kind}: {failure.message} ({done.id} is {done.status})")


def _note_kit(record: Record) -> tuple[str, ...]:
    """Whether another kit than the recorded one does it again: kit itself is always the one that is installed."""
    now, then = describe_software(None), record.software
    if (now.kit_version, now.kit_sources_sha256) == (then.kit_version, then.kit_sources_sha256):
        return ()
    names = [
        each.kit_version + (f" (sources {each.kit_sources_sha256[:12]}…)" if each.kit_sources_sha256 else "")
        for each in (now, then)
    ]
    return (f"done again by kit {names[0]}, recorded by kit {names[1]}",)


def _find_causes(archive: Archive, before: Record, after: Record) -> tuple[Cause, ...]:
    packages = []
    for record in (before, after):
        try:
            packages.append(read_packages((archive.record_folder(record.id) / REQUIREMENTS).read_bytes()))
        except (KitError, OSError):
            packages = [{}, {}]  # without both lists no difference between them can be told
            break
    return find_causes(before, after, *packages)


def judge_independence(
    archive: Archive, before: Record, after: Record, keys: tuple[PublicKey, ...]
) -> tuple[bool, str]:
    """Whether another key on another machine did an execution again, and why in a sentence.

    Args:
        archive: holds both statements.
        before: the record that was done again.
        after: the one that did it again.
        keys: trusted ones; a signature of any other key proves nothing.
    """
    signers = []
    for record in (before, after):
        try:
            unsigned = find_unsigned(archive, record, keys)
            _, signer = judge_envelope(archive.read_envelope(record.id), keys)
        except (KitError, OSError) as error:
            return False, f"not independently: the statement of {record.id} cannot be read: {error}"
        if unsigned:
            return False, f"not independently: {unsigned}"
        signers.append(signer)
    if signers[0] == signers[1]:
        return False, f"not independently: both are signed with {signers[0]}"
    if before.machine.host == after.machine.host:
        return False, f"not independently: both were executed on {after.machine.host}"
    if before.process.boot == after.process.boot != "":
        hosts = f"{before.machine.host} and {after.machine.host}"
        return False, f"not independently: {hosts} are one machine, with the same boot id {after.process.boot}"
    return (
        True,
        f"independently: by {signers[1]} on {after.machine.host}, recorded by {signers[0]} on {before.machine.host}",
    )


def _enter(workbench: Workbench, record: Record, done: Record, found: Reproduction) -> Reproduction:
    """State a comparison, keep the statement among the objects, and enter it in the ledger."""
    archive = workbench.archive
    envelope = archive.state(describe_reproduction(record, done, found))
    sha256 = archive.objects.put_bytes(envelope.encode())
    archive.enter(Kind.REPRODUCTION, done, sha256, workbench.clock())
    return msgspec.structs.replace(found, statement_sha256=sha256)


def describe_reproduction(record: Record, done: Record, found: Reproduction) -> Statement:
    """What is stated of a comparison: a test result about the recorded outputs; without any, about the record's bundle."""
    subjects = [describe_resource(f"{OUTPUTS}{artifact.name}", artifact.sha256) for artifact in record.outputs]
    names = {holds: [each.subject for each in found.comparisons if each.holds is holds] for holds in (True, False)}
    failed = names[False] or [str(finding.code) for finding in found.findings]
    return describe_tests(
        subjects or [describe_resource("bundle.zip", record.code.bundle_sha256)],
        passed=names[True] if found.level is not Level.NOT_EXECUTED else [],
        failed=failed,
        configuration=[
            describe_resource("bundle.zip", record.code.bundle_sha256)
        ],  # its pyproject.toml has the comparators
        details={"again": done.id, "comparison": msgspec.to_builtins(found)},
    )
