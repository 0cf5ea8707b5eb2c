"""What a gate looks at: everything missing, unreadable, failed or of other bytes refuses the release, with its reason."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.archive import Archive, open_archive
from kit.artifact import Artifact
from kit.bundle import Bundle, make_bundle
from kit.check import CheckResult, ExpectationResult, Severity
from kit.check import Finding as CheckFinding
from kit.environment import Environment, EvaluationSource, Gates, MetricLimits, Policy
from kit.gate import Finding, Manifest, Verdict
from kit.model.evaluate import Evaluation, Measured, Scored
from kit.record import Code, Record, Status
from kit.release import ProbeOutcome, Probes, judge_candidate
from kit.testing import make_check, make_project, make_record, read_from, seal_record, seal_release

SUITE = "suite"  # make_check's suite; the gate compares its digest and never parses it


def good_probe(model: Path, golden: Path) -> ProbeOutcome:
    assert (model / "graph.pb").read_bytes() == b"graph"
    assert golden.read_bytes() == b"[1]"
    return ProbeOutcome(True, "loaded, 1 golden prediction reproduced")


class Case:
    """An archive with build, preparation and training that a gate admits; `judge` with parts exchanged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive: Archive = open_archive(folder / "archive", "test")
        project = make_project(folder / "project", files={"notebooks/expectations/table.json": SUITE})
        self.bundle: Bundle = make_bundle(project, tracked_only=False)
        sha256 = self.archive.objects.put_bytes(self.bundle.data)
        self.code = Code(sha256, "notebooks/x.ipynb", "0" * 64, "c0ffee", dirty=False, build="b")
        self.environment = Environment(
            name="staging",
            gates=Gates(checks=("table.csv",), metrics={"auc": MetricLimits(min=0.6, max=0.8, max_drop=0.01)}),
            policy=Policy(code="build"),
        )
        self.table = self.put("table.csv", b"x\n1\n")
        self.evaluation = Evaluation("not expected")

    def find(self, candidate: float, live: float) -> None:
        """Let the gate score both models again, with these AUCs."""
        source = EvaluationSource("table.csv", "x", "p")
        gates = msgspec.structs.replace(self.environment.gates, evaluation=source)
        self.environment = msgspec.structs.replace(self.environment, gates=gates)
        sides = (Scored("", Measured(9, {"auc": auc})) for auc in (candidate, live))
        self.evaluation = Evaluation("", 9, {}, *sides)

    def bind(self, name: str) -> Artifact:
        raise AssertionError(f"{name} has a suite and is bound")

    def put(self, name: str, data: bytes) -> Artifact:
        return Artifact(name, self.archive.objects.put_bytes(data), len(data), "text/csv")

    def model(self) -> tuple[Artifact, ...]:
        (self.folder / "model").mkdir(exist_ok=True)
        (self.folder / "model/graph.pb").write_bytes(b"graph")
        return (
            self.archive.objects.put_artifact("saved_model", self.folder / "model"),
            self.put("golden.json", b"[1]"),
        )

    def judge(
        self,
        probe: Any = good_probe,
        build: dict[str, Any] | None = None,
        prepare: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        built: bool = True,
    ) -> Verdict:
        bundle = Artifact("bundle.zip", self.code.bundle_sha256, len(self.bundle.data), "application/zip")
        if built:
            own = msgspec.structs.replace(self.code, build=None)
            self.seal("build", code=own, outputs=(bundle,), **(build or {}))
        check = make_check("table.csv", self.table.sha256)
        prepared = self.seal("prepare", **{"outputs": (self.table,), "checks": (check,), **(prepare or {})})
        self.prepared = prepared
        facts = {"inputs": (read_from(prepared, self.table),), "outputs": self.model(), "metrics": {"auc": 0.7}}
        self.trained = self.seal("train", **{**facts, **(train or {})})
        self.spoil()
        probes = Probes(probe, evaluate=lambda order: self.evaluation)
        return judge_candidate(self.archive, self.environment, self.trained, self.bundle, self.bind, probes)

    def spoil(self) -> None:
        """What happens between training and gate; nothing."""

    def seal(self, stage: str, **facts: Any) -> Record:
        return seal_record(self.archive, make_record(**{"stage": stage, "code": self.code, **facts}))

    def record_file(self, record: Record) -> Path:
        return self.archive.record_folder(record.id) / "record.json"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def refusal(verdict: Verdict) -> str:
    """The one reason for which a release is refused."""
    assert not verdict.passed
    (reason,) = verdict.reasons
    return reason


def test_good_candidate_is_admitted_with_evidence_of_every_kind(case: Case) -> None:
    verdict = case.judge()
    assert verdict.reasons == ()
    assert {each.kind for each in verdict.evidence} == {"code", "record", "check", "metric", "drop", "model"}
    noted = [each.detail for each in verdict.evidence if each.finding is Finding.NOTED]
    assert noted == ["no live release to compare with"]
    assert verdict.subjects["bundle.zip"] == case.code.bundle_sha256
    assert verdict.subjects["saved_model"] == case.trained.outputs[0].sha256
    assert verdict.configuration_sha256 == case.environment.sha256


def expectation(finding: CheckFinding, **changes: Any) -> ExpectationResult:
    facts: dict[str, Any] = {"type": "expect_column_values_to_not_be_null", "arguments": {"column": "x"}}
    return ExpectationResult(**{**facts, "severity": Severity.CRITICAL, "why": "w", "finding": finding, **changes})


# What kit.expectations leaves for each way that a check can fail to be one (tests/test_expectations.py makes the same).
BAD_CHECKS: dict[str, tuple[dict[str, Any], str]] = {
    "empty suite": (
        {"expectations": (), "errors": ("table.json: the suite is empty and would pass everything",)},
        "the suite is empty",
    ),
    "nothing evaluated": ({"expectations": ()}, "no expectation was evaluated"),
    "empty data": (
        {"n_rows": 0, "expectations": (), "errors": ("table.csv: the artifact has no rows; nothing was checked",)},
        "has no rows",
    ),
    "no rows": ({"n_rows": 0}, "there were no rows to check"),
    "misspelt type": (
        {"expectations": (), "errors": ("table.json, expectation 1: type 'expect_colum' does not exist",)},
        "type 'expect_colum' does not exist",
    ),
    "missing column": ({"expectations": (expectation(CheckFinding.ERROR, error="no column 'x'"),)}, "no column 'x'"),
    "exception": (
        {"expectations": (expectation(CheckFinding.ERROR, error="TypeError while it was evaluated"),)},
        "TypeError while it was evaluated",
    ),
    "failed": ({"expectations": (expectation(CheckFinding.FAILED, n_unexpected=3),)}, "3 rows are not as expected"),
}


@pytest.mark.parametrize("name", BAD_CHECKS)
def test_bad_check_refuses(case: Case, name: str) -> None:
    changes, sentence = BAD_CHECKS[name]
    reason = refusal(case.judge(prepare={"checks": (make_check("table.csv", case.table.sha256, **changes),)}))
    assert reason.startswith("check table.csv: ")
    assert sentence in reason


def test_check_on_other_bytes_refuses(case: Case) -> None:
    check = make_check("table.csv", "f" * 64)
    assert "was checked on other bytes than these" in refusal(case.judge(prepare={"checks": (check,)}))


def test_check_with_another_suite_than_the_bundles_refuses(case: Case) -> None:
    check = make_check("table.csv", case.table.sha256, suite_sha256="e" * 64)
    assert "another version of its suite" in refusal(case.judge(prepare={"checks": (check,)}))


def test_absent_check_refuses_also_where_only_the_suite_asks_for_it(case: Case) -> None:
    case.environment = msgspec.structs.replace(case.environment, gates=Gates(metrics=case.environment.gates.metrics))
    assert "table.csv: was not checked by the stage that had it" in refusal(case.judge(prepare={"checks": ()}))


def test_required_check_without_suite_or_without_artifact_refuses(case: Case) -> None:
    gates = msgspec.structs.replace(case.environment.gates, checks=("other.csv", "table.parquet"))
    case.environment = msgspec.structs.replace(case.environment, gates=gates)
    first, second = case.judge().reasons
    assert "has no suite" in first
    assert "nothing of that name is in this model's lineage" in second


def test_failed_warning_is_counted_and_does_not_refuse(case: Case) -> None:
    known = expectation(CheckFinding.FAILED, n_unexpected=1, severity=Severity.WARNING)
    check: CheckResult = make_check("table.csv", case.table.sha256)
    check = msgspec.structs.replace(check, expectations=(*check.expectations, known))
    verdict = case.judge(prepare={"checks": (check,)})
    assert verdict.passed
    assert any("1 known fault" in each.detail for each in verdict.evidence)


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({}, "metric auc: missing"),
        ({"auc": "NaN"}, "metric auc: is no finite number: NaN"),
        ({"auc": 0.59}, "metric auc: below the limit: 0.59, at least 0.6"),
        ({"auc": 0.93}, "metric auc: above the limit: 0.93, at most 0.8"),
    ],
)
def test_bad_metric_refuses(case: Case, metrics: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(case.judge(train={"metrics": metrics}))


def live(case: Case, auc: float) -> None:
    manifest = Manifest(
        environment="staging",
        bundle_sha256=case.code.bundle_sha256,
        commit=None,
        training_record="r",
        artifacts=case.model(),
        lock_sha256=None,
        configuration=case.environment.configuration,
        configuration_sha256=case.environment.sha256,
        metrics={"auc": auc},
        verdict=Verdict("staging", case.environment.sha256, {}, ()),
    )
    case.archive.objects.put_bytes(manifest.encode())
    seal_release(case.archive, manifest)


def test_metric_that_dropped_below_the_live_release_on_the_same_rows_refuses(case: Case) -> None:
    live(case, 0.5)  # as it was recorded, which does not count
    case.find(0.7, 0.72)
    outputs = (*case.model(), case.table)
    assert "dropped too far: 0.7, staging-1 has 0.72, may drop by 0.01" in refusal(
        case.judge(train={"outputs": outputs})
    )
    case.find(0.7, 0.705)
    assert case.judge(train={"outputs": outputs}).passed


def test_live_release_that_cannot_be_scored_on_the_same_rows_refuses(case: Case) -> None:
    live(case, 0.7)
    assert refusal(case.judge()).startswith(
        "drop auc not compared: cannot be compared with staging-1 on the same data: give [gates.eval"
    )


def test_metric_that_the_gate_does_not_find_again_refuses(case: Case) -> None:
    case.find(0.65, 0.65)
    reason = refusal(case.judge(train={"outputs": (*case.model(), case.table)}))
    assert reason.startswith("metric auc measured again: the record says 0.7, the gate finds 0.65")


def test_unreadable_live_release_refuses(case: Case) -> None:
    live(case, 0.7)
    case.archive.objects.path(case.archive.list_releases()[0].manifest_sha256).unlink()
    release, drop = case.judge().reasons
    assert release.startswith("metric live release: cannot be read")
    assert drop.startswith("drop auc not compared: cannot be compared with the live release")


def test_model_that_does_not_load_refuses(case: Case) -> None:
    verdict = case.judge(lambda model, golden: ProbeOutcome(False, "does not load: no graph"))
    assert refusal(verdict) == "model saved_model: does not load: no graph"


def test_golden_predictions_that_differ_refuse(case: Case) -> None:
    verdict = case.judge(lambda model, golden: ProbeOutcome(False, "3 of 100 golden predictions differ"))
    assert "golden predictions differ" in refusal(verdict)


@pytest.mark.parametrize("missing", ["saved_model", "golden.json"])
def test_missing_model_or_golden_predictions_refuse(case: Case, missing: str) -> None:
    outputs = tuple(each for each in case.model() if each.name != missing)
    assert f"model {missing}: missing" in refusal(case.judge(train={"outputs": outputs}))


def test_changed_model_object_refuses(case: Case) -> None:
    def corrupt() -> None:
        model, _ = case.trained.outputs
        file = case.archive.objects.path(case.archive.objects.read_tree(model).files[0].sha256)
        file.chmod(0o644)
        file.write_bytes(b"graqh")

    case.spoil = corrupt  # type: ignore[method-assign]
    assert "was changed in the archive" in refusal(case.judge())


def test_bundle_that_was_never_built_refuses(case: Case) -> None:
    assert "code bundle.zip: no succeeded build made" in refusal(case.judge(built=False))
    case.seal("build", outputs=(), status=Status.FAILED)
    assert "code bundle.zip: no succeeded build made" in refusal(case.judge(built=False))


def test_dirty_training_refuses_where_only_builds_count(case: Case) -> None:
    dirty = msgspec.structs.replace(case.code, dirty=True)
    reasons = case.judge(train={"code": dirty}).reasons
    assert len(reasons) == 2
    assert all("not executed from a clean build's bundle" in reason for reason in reasons)
    case.environment = msgspec.structs.replace(case.environment, policy=Policy())
    assert case.judge(train={"code": dirty}).passed


def test_dirty_preparation_refuses_too(case: Case) -> None:
    dirty = msgspec.structs.replace(case.code, dirty=True)
    assert refusal(case.judge(prepare={"code": dirty})).startswith("record 20260301T093000Z-prepare-")


def test_build_in_the_lineage_is_clean_without_a_build_of_its_own(case: Case) -> None:
    bundle = Artifact("bundle.zip", case.code.bundle_sha256, len(case.bundle.data), "application/zip")
    build = case.seal("build", code=msgspec.structs.replace(case.code, build=None), outputs=(bundle,))
    assert case.judge(prepare={"inputs": (read_from(build, bundle),)}).passed


def test_failed_record_in_the_lineage_refuses(case: Case) -> None:
    assert "is failed" in refusal(case.judge(prepare={"status": Status.FAILED}))


def test_input_that_changed_while_a_stage_ran_refuses(case: Case) -> None:
    source = msgspec.structs.replace(read_from(make_record(), case.table), record="", sha256_after="e" * 64)
    assert "input table.csv changed while it ran" in refusal(case.judge(prepare={"inputs": (source,)}))


def test_lineage_that_is_gone_or_corrupt_refuses(case: Case) -> None:
    def remove() -> None:
        case.record_file(case.prepared).unlink()

    case.spoil = remove  # type: ignore[method-assign]
    assert "its lineage cannot be read" in refusal(case.judge())

    def corrupt() -> None:
        case.record_file(case.prepared).chmod(0o644)
        case.record_file(case.prepared).write_bytes(b"{}")

    case.spoil = corrupt  # type: ignore[method-assign]
    assert "its lineage cannot be read" in refusal(case.judge())


def test_record_that_did_not_write_what_was_read_from_it_refuses(case: Case) -> None:
    other = case.put("table.csv", b"x\n2\n")
    assert "did not write the 'table.csv'" in refusal(case.judge(prepare={"outputs": (other,)}))
