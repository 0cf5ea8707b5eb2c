"""The data that an environment binds: judged by the bundle's suites against the training's profile, refused when in doubt."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from kit.archive import Archive, open_archive
from kit.artifact import Artifact
from kit.bundle import Bundle, make_bundle
from kit.check import CheckResult, ExpectationResult, Severity
from kit.check import Finding as CheckFinding
from kit.environment import Environment, Gates
from kit.errors import NotFoundError, UndecidableError
from kit.expectations import CheckRequest, check_in_process
from kit.files import sha256_bytes, sha256_file
from kit.gate import Evidence, Finding, Verdict
from kit.profile import write_profile
from kit.record import Record
from kit.release.bound_data import BoundData, bind_as_judged, bind_now, judge_bound_data
from kit.suite import PSI
from kit.testing import make_notebook, make_project, make_record

ROW_COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"why": "some"}}
DRIFT = {"type": PSI, "kwargs": {"column": "x", "max_value": 0.1}, "meta": {"why": "trained on such"}}


class Case:
    """A project whose run stage reads `batch.parquet` and `more.csv`; `check` answers as a process would."""

    def __init__(self, folder: Path, *, run: Sequence[str] = ("batch.parquet", "more.csv", "made.csv")) -> None:
        self.root = folder / "project"
        self.requests: list[CheckRequest] = []
        self.archive: Archive = open_archive(folder / "archive", "test")
        self.suites = {"batch": [ROW_COUNT, DRIFT], "made": [ROW_COUNT]}
        self.stages = {
            "make": make_notebook(title="Make", outputs=["made.csv"]),
            "run": make_notebook(title="Run", inputs=run, outputs=["answers.csv"]),
        }
        self.data = {name: f"data/{name}" for name in ("batch.parquet", "more.csv", "made.csv", "unread.csv")}
        (self.root / "data").mkdir(parents=True)
        pd.DataFrame({"x": ["a", "b"] * 100}).to_parquet(self.root / "data/batch.parquet")
        (self.root / "data/more.csv").write_text("x\n1\n")
        write_profile(folder / "profile.json", pd.DataFrame({"x": ["a", "b"] * 200}))
        self.outputs: tuple[Artifact, ...] = (
            self.archive.objects.put_artifact("profile.json", folder / "profile.json"),
        )

    @property
    def bundle(self) -> Bundle:
        files = {
            f"notebooks/expectations/{stem}.json": json.dumps({"name": stem, "expectations": suite})
            for stem, suite in self.suites.items()
        }
        return make_bundle(make_project(self.root, stages=self.stages, files=files), tracked_only=False)

    @property
    def training(self) -> Record:
        return make_record(stage="train", outputs=self.outputs)

    def judge(self, check: Any = None) -> BoundData:
        environment = Environment(name="staging", data=self.data, gates=Gates())
        bind = bind_now(self.archive, environment, self.root)
        return judge_bound_data(self.archive, environment, self.training, self.bundle, bind, check or self.check)

    def check(self, requests: Sequence[CheckRequest]) -> list[CheckResult]:
        """What was asked for is there as asked, and passes."""
        for each in requests:
            assert sha256_file(Path(each.path)) == each.sha256
            assert Path(each.path).name == each.name
        self.requests += requests
        return [self.answer(each) for each in requests]

    def answer(self, request: CheckRequest, **changes: Any) -> CheckResult:
        passed = ExpectationResult("expect_it", {}, Severity.CRITICAL, "why", CheckFinding.PASSED)
        facts = {
            "artifact": request.name,
            "artifact_sha256": request.sha256,
            "suite": "batch",
            "suite_sha256": sha256_file(Path(request.suite)),
            "n_rows": 1200,
            "expectations": (passed, passed),
            "profile_sha256": sha256_file(Path(request.profile)) if request.profile else msgspec.UNSET,
        }
        return CheckResult(**{**facts, **changes})


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def refusal(found: BoundData) -> str:
    """The one reason for which bound data refuses."""
    (evidence,) = found.evidence
    assert (evidence.kind, evidence.subject, evidence.finding) == ("data", "batch.parquet", Finding.REFUSES)
    return evidence.detail


def test_bound_data_with_a_suite_is_judged_on_its_bytes_against_the_profile(case: Case) -> None:
    found = case.judge()
    sha256 = sha256_file(case.root / "data/batch.parquet")
    profile = case.outputs[0].sha256
    detail = f"2 expectations met on 1,200 rows of {sha256[:12]}…, against the profile {profile[:12]}…"
    assert found == BoundData(
        (Evidence("data", "batch.parquet", Finding.HOLDS, detail),), {"data/batch.parquet": sha256}
    )
    assert case.archive.objects.has(sha256)
    assert [each.name for each in case.requests] == ["batch.parquet"]


def test_all_sources_are_checked_in_one_call_and_known_faults_are_counted(case: Case) -> None:
    case.suites["more"] = [ROW_COUNT]
    fault = ExpectationResult("expect_it", {}, Severity.WARNING, "why", CheckFinding.FAILED)
    calls: list[int] = []

    def check(requests: Sequence[CheckRequest]) -> list[CheckResult]:
        calls.append(len(requests))
        assert [each.profile is None for each in requests] == [False, True]
        return [case.answer(requests[0]), case.answer(requests[1], expectations=(fault,))]

    found = case.judge(check)
    assert calls == [2]
    assert [(each.subject, each.finding) for each in found.evidence] == [
        ("batch.parquet", Finding.HOLDS),
        ("more.csv", Finding.HOLDS),
    ]
    assert found.evidence[1].detail.endswith("…, 1 known faults noted")
    assert sorted(found.subjects) == ["data/batch.parquet", "data/more.csv"]


def test_without_a_suite_a_run_stage_or_bound_data_there_is_nothing_to_judge(tmp_path: Path, case: Case) -> None:
    case.suites = {}
    assert case.judge() == BoundData((), {})
    unbound = Case(tmp_path / "unbound")
    unbound.data = {"unread.csv": "data/unread.csv"}
    assert unbound.judge() == BoundData((), {})
    del unbound.stages["run"]
    assert unbound.judge() == BoundData((), {})


def test_training_without_a_profile_refuses_only_what_needs_one(case: Case) -> None:
    case.outputs = ()
    assert "wrote no 'profile.json'; write it there with kit.profile.write_profile" in refusal(case.judge())
    assert case.requests == []
    case.suites["batch"] = [ROW_COUNT]
    assert case.judge().evidence[0].finding is Finding.HOLDS
    assert case.requests[0].profile is None


def test_missing_file_refuses_and_has_no_digest(case: Case) -> None:
    case.data["batch.parquet"] = "data/gone.parquet"
    found = case.judge()
    assert "binds it to 'data/gone.parquet', but there is no such file" in refusal(found)
    assert found.subjects == {}


def test_suite_that_cannot_be_trusted_refuses(case: Case) -> None:
    case.suites["batch"] = []
    assert "notebooks/expectations/batch.json: the suite is empty" in refusal(case.judge())


def test_profile_whose_bytes_were_changed_refuses(case: Case) -> None:
    path = case.archive.objects.path(case.outputs[0].sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    assert "could not be checked: profile.json: object" in refusal(case.judge())


def test_check_that_fails_refuses_with_its_problems(case: Case) -> None:
    failed = ExpectationResult(PSI, {"column": "x"}, Severity.CRITICAL, "why", CheckFinding.FAILED, observed=0.3)
    found = case.judge(lambda requests: [case.answer(each, expectations=(failed,)) for each in requests])
    assert refusal(found) == f"{PSI} on x: failed, observed 0.3"


@pytest.mark.parametrize(
    "change",
    [
        {"artifact": "more.csv"},
        {"artifact_sha256": "0" * 64},
        {"suite_sha256": "0" * 64},
        {"profile_sha256": "0" * 64},
        {"profile_sha256": msgspec.UNSET},
    ],
)
def test_answer_on_other_bytes_refuses(case: Case, change: dict[str, Any]) -> None:
    found = case.judge(lambda requests: [case.answer(each, **change) for each in requests])
    assert "was checked on other bytes, or with another suite or profile" in refusal(found)


def test_process_that_gives_no_answer_refuses(case: Case) -> None:
    def die(requests: Sequence[CheckRequest]) -> list[CheckResult]:
        raise UndecidableError("the checking process gave no answer in 900 s")

    assert refusal(case.judge(die)) == "could not be checked: the checking process gave no answer in 900 s"
    assert refusal(case.judge(lambda requests: [])) == "1 checks were asked for, 0 answered"


@pytest.mark.kernel
def test_real_process_admits_data_like_the_trainings_and_refuses_other_data(case: Case) -> None:
    found = case.judge(check_in_process)
    assert [each.finding for each in found.evidence] == [Finding.HOLDS]
    other = pd.DataFrame({"x": ["a"] * 200})
    other.to_parquet(case.root / "data/batch.parquet")
    drifted = case.judge(check_in_process)
    assert refusal(drifted).startswith(f"{PSI} on x: failed, observed ")
    assert "label 1 of 2 from 50.0% to 100.0%" in refusal(drifted)
    assert drifted.subjects == {"data/batch.parquet": sha256_bytes((case.root / "data/batch.parquet").read_bytes())}


def test_data_of_a_verdict_is_bound_by_digest_whatever_lies_there_now(case: Case) -> None:
    verdict = Verdict("staging", "0" * 64, case.judge().subjects, ())
    (case.root / "data/batch.parquet").write_bytes(b"other")
    bound = bind_as_judged(case.archive, verdict)("batch.parquet")
    assert f"data/{bound.name}" in verdict.subjects
    assert bound.sha256 == verdict.subjects["data/batch.parquet"]
    with pytest.raises(NotFoundError, match=r"names no digest of 'more\.csv'"):
        bind_as_judged(case.archive, verdict)("more.csv")


def test_folder_of_a_verdict_is_bound_as_a_folder(case: Case) -> None:
    folder = case.root / "parts"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    put = case.archive.objects.put_artifact("parts", folder)
    assert case.archive.objects.describe("parts", put.sha256) == put
