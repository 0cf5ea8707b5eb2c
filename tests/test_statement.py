"""What is stated: everything that an execution left, by digest, and nothing that its record does not hold."""

from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from probes import GOOD

from kit.archive import STATEMENT, VERDICT
from kit.execute import Order
from kit.files import sha256_bytes
from kit.gate import Evidence, Finding, Verdict
from kit.pipeline import execute_all, execute_stage
from kit.statement import describe_execution, describe_tests, describe_verdict, look_up, origin_of, subjects_of
from kit.testing import DATA, FakeEngine, make_key, make_project, make_workbench, write_outputs

DIGEST = "a" * 64
GATED = DATA + '[gates]\nmetrics.auc = { min = 0.6 }\n[release]\nfrom = "dev"\n'


def test_execution_is_stated_as_slsa_provenance() -> None:
    record = make_record(reproduces="20260228T093000Z-train-aaaaaa", determinism={"seed": 7})
    statement = describe_execution(record, {"record.json": "1" * 64, "log.txt": "2" * 64}, "kit/x/1")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert subjects_of(statement) == {"record.json": "1" * 64, "log.txt": "2" * 64, "outputs/model.keras": DIGEST}
    definition, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert definition["buildType"] == "urn:kit-ml:stage:v1"
    assert definition["externalParameters"] == {
        "stage": "train",
        "environment": "dev",
        "parameters": {"epochs": 3},
        "release": None,
        "reproduces": "20260228T093000Z-train-aaaaaa",
    }
    assert definition["internalParameters"] == {"archive": "kit/x/1", "determinism": {"seed": 7}, "threads": {}}
    names = [each["name"] for each in definition["resolvedDependencies"]]
    assert names == ["bundle.zip", "notebooks/train.ipynb", "environments/dev.toml", "inputs/größe.parquet"]
    assert run["metadata"]["invocationId"] == record.id
    assert [each["name"] for each in run["byproducts"]] == ["log.txt"]


def verdict(*evidence: Evidence) -> Verdict:
    return Verdict("staging", DIGEST, {"model": "1" * 64, "bundle.zip": "2" * 64}, evidence)


def test_verdict_is_bound_to_what_was_judged_and_to_the_release() -> None:
    statement = describe_verdict(verdict(Evidence("metric", "auc", Finding.HOLDS, "0.7")), "r", "3" * 64)
    assert subjects_of(statement) == {"model": "1" * 64, "bundle.zip": "2" * 64, "release.json": "3" * 64}
    assert statement["predicate"]["result"] == "PASSED"
    assert statement["predicate"]["passedTests"] == ["metric auc"]


def test_refusal_and_a_verdict_on_nothing_are_failures() -> None:
    refused = describe_verdict(verdict(Evidence("metric", "auc", Finding.REFUSES, "0.5")), "r", None)
    empty = describe_verdict(verdict(), "r", None)
    assert (refused["predicate"]["result"], refused["predicate"]["failedTests"]) == ("FAILED", ["metric auc"])
    assert (empty["predicate"]["result"], empty["predicate"]["failedTests"]) == ("FAILED", ["nothing was checked"])


def test_tests_that_tested_nothing_have_failed() -> None:
    assert describe_tests([], passed=[], details={})["predicate"]["result"] == "FAILED"
    assert describe_tests([], passed=["a"], warned=["b"], details={})["predicate"]["result"] == "WARNED"


@pytest.mark.parametrize(
    "statement", [{}, {"predicate": []}, {"predicate": {"buildDefinition": {"internalParameters": 1}}}]
)
def test_statement_of_another_form_names_no_archive(statement: dict[str, Any]) -> None:
    assert origin_of(statement) == ""
    assert look_up(statement, "predicate", "x", "y") is None


def test_malformed_subjects_prove_nothing() -> None:
    odd: list[Any] = [
        None,
        {},
        {"name": "a"},
        {"name": "b", "digest": {"sha256": 1}},
        {"name": 1, "digest": {"sha256": "x"}},
    ]
    assert subjects_of({"subject": odd}) == subjects_of({}) == {}


def test_every_file_of_a_record_is_stated_and_signed(tmp_path: Path) -> None:
    key = make_key()
    workbench = make_workbench(make_project(tmp_path), key=key)
    record = execute_stage(workbench, Order("prepare", "dev")).record
    folder = workbench.archive.record_folder(record.id)
    envelope = workbench.archive.read_envelope(record.id)
    files = {path.name: sha256_bytes(path.read_bytes()) for path in folder.iterdir() if path.name != STATEMENT}
    outputs = {f"outputs/{artifact.name}": artifact.sha256 for artifact in record.outputs}
    assert subjects_of(envelope.read_statement("x")) == files | outputs
    assert [name for name, _ in envelope.signatures] == [key.public.id]


def test_release_and_refusal_both_leave_the_gates_verdict(tmp_path: Path) -> None:
    quality = {"auc": 0.7}
    engine = FakeEngine(train=lambda context: {**write_outputs(context), **quality})
    workbench = make_workbench(make_project(tmp_path, environments={"dev": GATED}), engine)
    admitted = next(step.record for step in execute_all(workbench, "dev", GOOD) if step.release)
    quality["auc"] = 0.1
    execute_stage(workbench, Order("train", "dev"))
    refused = execute_stage(workbench, Order("release", "dev"), probes=GOOD).record
    results = []
    for record in (admitted, refused):
        statement = workbench.archive.read_envelope(record.id, VERDICT).read_statement("x")
        results.append((statement["predicate"]["result"], "release.json" in subjects_of(statement)))
    assert results == [("PASSED", True), ("FAILED", False)]
