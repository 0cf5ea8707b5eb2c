"""What is signed: in-toto statements about an execution, a gate's verdict, a comparison, a person's decision.

An execution is stated as SLSA Provenance v1 with a build type of our own, documented in docs/formats.md; a verdict as an
in-toto test result; a decision under predicate types of our own. Subjects are named by digest; a statement of an
execution says nothing that its record does not hold.

Source: in-toto Attestation Framework v1 (Statement, ResourceDescriptor), predicates provenance/v1 and test-result/v0.1.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from kit.artifact import Artifact, media_type_of
from kit.decision import Rollback, Waiver
from kit.errors import IntegrityError
from kit.files import format_time
from kit.gate import Finding, Verdict
from kit.record import Record

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE = "urn:kit-ml:stage:v1"
ROLLBACK = "urn:kit-ml:rollback:v1"
WAIVER = "urn:kit-ml:waiver:v1"
OUTPUTS = "outputs/"
_ORIGIN = ("predicate", "buildDefinition", "internalParameters", "archive")

Statement = dict[str, Any]
_Decision = TypeVar("_Decision", Rollback, Waiver)


def describe_execution(record: Record, files: Mapping[str, str], origin: str) -> Statement:
    """Provenance of everything that an execution left.

    Args:
        record: closed.
        files: digests of all files of the record by their path in it.
        origin: names the archive that it was executed for, so that no other can pass it off as its own.
    """
    subjects = [describe_resource(name, sha256) for name, sha256 in sorted(files.items())]
    subjects += [_artifact(artifact, f"{OUTPUTS}{artifact.name}") for artifact in record.outputs]
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "stage": record.stage,
            "environment": record.environment,
            "parameters": {each.name: each.value for each in record.parameters},
            "release": record.release,
            "reproduces": record.reproduces,
            **(
                {"drift": list(record.drift)} if record.drift else {}
            ),  # it came later: older statements keep their bytes
        },
        "internalParameters": {
            "archive": origin,
            "determinism": record.determinism,
            "threads": record.machine.thread_settings,
        },
        "resolvedDependencies": list(_dependencies(record)),
    }
    run = {
        "builder": {"id": _builder(record), "version": {"kit": record.software.kit_version}},
        "metadata": {
            "invocationId": record.id,
            "startedOn": format_time(record.started),
            "finishedOn": format_time(record.ended or record.started),
        },
        "byproducts": [describe_resource(name, files[name]) for name in ("executed.ipynb", "log.txt") if name in files],
    }
    return _statement(subjects, PROVENANCE, {"buildDefinition": definition, "runDetails": run})


def describe_verdict(verdict: Verdict, record_id: str, manifest_sha256: str | None) -> Statement:
    """A gate's verdict, bound to the bytes that it was reached on; with a manifest's digest also to the release.

    Args:
        verdict: of the gate.
        record_id: of the execution that carried it out.
        manifest_sha256: digest of release.json; None if it was refused.
    """
    subjects = [describe_resource(name, sha256) for name, sha256 in sorted(verdict.subjects.items())]
    if manifest_sha256:
        subjects.append(describe_resource("release.json", manifest_sha256))
    names = {
        finding: [f"{each.kind} {each.subject}" for each in verdict.evidence if each.finding is finding]
        for finding in Finding
    }
    configuration = describe_resource(f"environments/{verdict.environment}.toml", verdict.configuration_sha256)
    waivers = msgspec.to_builtins(verdict.waivers, builtin_types=(datetime,))
    details = {"record": record_id, "evidence": msgspec.to_builtins(verdict.evidence)}
    return describe_tests(
        subjects,
        passed=names[Finding.HOLDS],
        warned=[*names[Finding.WAIVED], *names[Finding.NOTED]],
        failed=names[Finding.REFUSES] if verdict.passed else names[Finding.REFUSES] or list(verdict.reasons),
        configuration=[configuration],
        details=details | ({"waivers": waivers} if waivers else {}),
    )


def describe_rollback(rollback: Rollback, manifest_sha256: str, origin: str) -> Statement:
    """A rollback, about the release that becomes live.

    Args:
        rollback: the decision.
        manifest_sha256: digest of release.json of that release.
        origin: names the archive that it was decided for.
    """
    return _describe_decision(ROLLBACK, rollback, describe_resource("release.json", manifest_sha256), origin)


def describe_waiver(waiver: Waiver, configuration_sha256: str, origin: str) -> Statement:
    """A waiver, about the configuration in view of which it was given; it holds also under a later one.

    Args:
        waiver: the decision.
        configuration_sha256: of the environment, as its gate would have judged then.
        origin: names the archive that it was decided for.
    """
    subject = describe_resource(f"environments/{waiver.environment}.toml", configuration_sha256)
    return _describe_decision(WAIVER, waiver, subject, origin)


def _describe_decision(predicate_type: str, decision: Rollback | Waiver, subject: Statement, origin: str) -> Statement:
    plain = msgspec.to_builtins(decision, builtin_types=(datetime,))
    return _statement([subject], predicate_type, {"archive": origin, "decision": plain})


def read_rollback(statement: Mapping[str, Any], where: str) -> tuple[Rollback, str]:
    """The rollback that a statement is about, and the archive that it was decided for.

    Raises:
        IntegrityError: it is about something else.
    """
    return _read_decision(statement, ROLLBACK, Rollback, where)


def read_waiver(statement: Mapping[str, Any], where: str) -> tuple[Waiver, str]:
    """The waiver that a statement is about, and the archive that it was decided for; see `read_rollback`."""
    return _read_decision(statement, WAIVER, Waiver, where)


def _read_decision(
    statement: Mapping[str, Any], predicate_type: str, decision: type[_Decision], where: str
) -> tuple[_Decision, str]:
    found, origin = statement.get("predicateType"), look_up(statement, "predicate", "archive")
    if found != predicate_type or not isinstance(origin, str):
        raise IntegrityError(f"{where}: expected a statement {predicate_type} for an archive, found {found}")
    try:
        return msgspec.convert(look_up(statement, "predicate", "decision"), decision), origin
    except msgspec.ValidationError as error:
        raise IntegrityError(f"{where}: not a readable {decision.__name__.lower()}: {error}") from error


def describe_tests(
    subjects: Sequence[Mapping[str, Any]],
    *,
    passed: Sequence[str],
    warned: Sequence[str] = (),
    failed: Sequence[str] = (),
    configuration: Sequence[Mapping[str, Any]] = (),
    details: Mapping[str, Any],
) -> Statement:
    """A test result about some subjects. Nothing passed and nothing failed is a failure: it was not tested.

    Args:
        subjects: resource descriptors, see `describe_resource`.
        passed: names of tests.
        warned: names of tests.
        failed: names of tests.
        configuration: resource descriptors of what the tests were configured with.
        details: further facts, kept under the predicate's key `kit`.
    """
    result = "FAILED" if failed or not passed else "WARNED" if warned else "PASSED"
    predicate = {
        "result": result,
        "configuration": list(configuration),
        "passedTests": list(passed),
        "warnedTests": list(warned),
        "failedTests": list(failed),
        "kit": dict(details),
    }
    return _statement(list(subjects), TEST_RESULT, predicate)


def subjects_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """Digests by name of what a statement is about; a malformed subject is left out, so that nothing rests on it."""
    found = {}
    subjects = statement.get("subject")
    for subject in subjects if isinstance(subjects, list) else ():
        digest = subject.get("digest") if isinstance(subject, dict) else None
        if isinstance(digest, dict) and isinstance(digest.get("sha256"), str) and isinstance(subject.get("name"), str):
            found[subject["name"]] = digest["sha256"]
    return found


def look_up(statement: Any, *place: str) -> Any:
    """What a statement holds at a place; None where its form is another."""
    for key in place:
        statement = statement.get(key) if isinstance(statement, dict) else None
    return statement


def origin_of(statement: Mapping[str, Any]) -> str:
    """The archive that an execution was stated for; empty if the statement says none."""
    origin = look_up(statement, *_ORIGIN)
    return origin if isinstance(origin, str) else ""


def _statement(subjects: Iterable[Mapping[str, Any]], predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [dict(each) for each in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def _dependencies(record: Record) -> Iterable[dict[str, Any]]:
    code, software = record.code, record.software
    yield {
        **describe_resource("bundle.zip", code.bundle_sha256),
        "annotations": {"dirty": code.dirty, "build": code.build},
    }
    yield describe_resource(code.notebook, code.notebook_sha256)
    if code.commit:
        yield {"name": "commit", "digest": {"gitCommit": code.commit}}
    yield describe_resource(f"environments/{record.environment}.toml", record.configuration_sha256)
    if software.lock_sha256:
        yield describe_resource("lock", software.lock_sha256)
    if software.kit_sources_sha256:
        yield describe_resource("kit", software.kit_sources_sha256)
    for each in record.inputs:
        origin = {"record": each.record} if each.record else {"source": each.source}
        yield {**_artifact(each.artifact, f"inputs/{each.artifact.name}"), "annotations": origin}


def _artifact(artifact: Artifact, name: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": artifact.sha256}, "mediaType": artifact.media_type}


def describe_resource(name: str, sha256: str) -> dict[str, Any]:
    """A resource descriptor: a name and a digest."""
    return {"name": name, "digest": {"sha256": sha256}, "mediaType": media_type_of(name)}


def _builder(record: Record) -> str:
    return f"urn:kit-ml:builder:{urllib.parse.quote(record.machine.host, safe='')}"
