"""Promotions, rollbacks and waivers in the rest of kit: judged again as of then, exported, opened in JupyterLab, verified."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lives import PRODUCTION, START, Life, change
from probes import GOOD

from kit.archive import open_archive
from kit.artifact import Artifact
from kit.crate import export_crate, import_crate
from kit.execute import Order
from kit.gate import Evidence, Finding, Manifest, Release, Verdict
from kit.ledger import Kind
from kit.pipeline import execute_stage
from kit.release import find_live, give_waiver, revoke_waiver, roll_back
from kit.release.evidence import LIVE
from kit.reproduce import reproduce
from kit.session import open_stage
from kit.statement import describe_verdict
from kit.testing import (
    DATA,
    encode_notebook,
    make_manifest,
    make_notebook,
    make_project,
    make_record,
    make_workbench,
    seal_record,
)
from kit.verify import Code, Weight, verify_archive, verify_record
from kit.workspace import CONTEXT_VARIABLE


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.train()
    return life


def false(life: Life) -> set[Code]:
    report = verify_archive(life.archive.folder)
    return {each.code for each in report.findings if each.weight is Weight.FALSE}


def test_releases_are_judged_again_as_of_then(life: Life) -> None:
    """What was live, promoted and waived when each was cut, not now."""
    for name in ("staging-1", "staging-2"):
        life.release()
        life.promote(name)
    roll_back(life.bench, "production", "slow")
    life.train(auc=0.5)
    give_waiver(life.bench, "staging", "metric:auc", "new feed", START.date())
    for check in ("metric:auc", "drop:auc"):
        give_waiver(life.bench, "production", check, "new feed", START.date())
    life.release()
    third = life.promote("staging-3")
    assert life.archive.read_manifest(third).verdict.live == "production-1"
    assert len(life.archive.read_manifest(third).verdict.waivers) == 2
    revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    roll_back(life.bench, "staging", "slow", to="staging-1")
    life.wait(days=7)
    for release in life.archive.list_releases():
        report = reproduce(life.bench, release.record, probes=GOOD)
        assert report.exit_code == 0, (release.id, report.findings)
    assert verify_archive(life.archive.folder).exit_code == 0


def test_whole_way_to_a_promoted_release_is_done_again(life: Life) -> None:
    life.release()
    promoted = life.promote("staging-1")
    report = reproduce(life.bench, f"release:{promoted.id}", probes=GOOD)
    assert report.exit_code == 0, report.findings


def test_export_of_what_was_rolled_back_to_is_imported_and_takes_no_rollback_along(life: Life, tmp_path: Path) -> None:
    first, _ = life.release(), life.release()
    roll_back(life.bench, "staging", "slow")
    give_waiver(life.bench, "staging", "metric:auc", "new feed", START.date())
    file = tmp_path / "release.zip"
    export_crate(life.archive, first, file, "example", ())
    other = open_archive(tmp_path / "other", "other")
    import_crate(other, file, "ana@laptop", START, (), accepted=())
    assert {entry.kind for entry in other.ledger.read_entries()} == {Kind.IMPORT}
    assert other.live_release("staging") is None
    assert verify_archive(other.folder).exit_code == 0


def test_stage_in_jupyterlab_opens_what_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, environments={"dev": DATA + '[release]\nfrom = "dev"\n'})
    bench = make_workbench(project)
    for stage in ("build", "prepare", "train", "release", "release"):
        assert execute_stage(bench, Order(stage, "dev"), probes=GOOD).record.succeeded
    roll_back(bench, "dev", "slow")
    monkeypatch.delenv(CONTEXT_VARIABLE, raising=False)
    monkeypatch.chdir(project.root / "notebooks")
    stage = open_stage(inputs=["release.json", "raw.csv"], outputs=["answers.csv"])
    assert stage.release.id == "dev-1"
    manifest = bench.archive.objects.read(bench.archive.list_releases("dev")[0].manifest_sha256)
    assert stage.inputs["release.json"].read_bytes() == manifest


def test_archive_of_before_is_read_and_judged_as_before(life: Life) -> None:
    """A release whose gate named no live release, and did not tell which Python trained."""
    for _ in range(2):
        life.release()
    manifest = life.archive.read_manifest(life.archive.list_releases("staging")[-1])
    subjects = {name: sha256 for name, sha256 in manifest.verdict.subjects.items() if name != LIVE}
    verdict = msgspec.structs.replace(manifest.verdict, live="", subjects=subjects)
    old = seal(life, msgspec.structs.replace(manifest, python="", verdict=verdict))
    assert find_live(life.archive, "staging") == old
    assert false(life) == set()
    assert roll_back(life.bench, "staging", "slow").rollback.after == "staging-2"


def seal(life: Life, manifest: Manifest) -> Release:
    """A release whose record says that it wrote this manifest."""
    archive = life.archive
    data = manifest.encode()
    sha256 = archive.objects.put_bytes(data)
    output = Artifact("release.json", sha256, len(data), "application/json")
    training = archive.read_record(manifest.training_record)
    facts = {name: getattr(training, name) for name in ("code", "machine", "software", "configuration_sha256")}
    record = make_record(
        stage="release", environment=manifest.environment, started=life.clock(), outputs=(output,), **facts
    )
    statement = describe_verdict(manifest.verdict, record.id, sha256)
    requirements = (archive.record_folder(training.id) / "requirements.txt").read_bytes()
    files = {"verdict.dsse.json": archive.state(statement).encode(), "requirements.txt": requirements}
    seal_record(archive, record, files)
    return archive.add_release(manifest.environment, record, life.clock())


# What a verdict was reached on beside what is released


def judged(life: Life, live: str = "", evidence: tuple[Evidence, ...] = (), **subjects: str) -> Manifest:
    life.release()
    manifest = life.archive.read_manifest(life.archive.list_releases("staging")[-1])
    verdict = msgspec.structs.replace(
        manifest.verdict,
        live=live,
        subjects=manifest.verdict.subjects | {name.replace("_", "/", 1): each for name, each in subjects.items()},
        evidence=(*manifest.verdict.evidence, *evidence),
    )
    return msgspec.structs.replace(manifest, verdict=verdict)


def test_data_that_a_gate_looked_at_must_be_in_the_archive(life: Life) -> None:
    sha256 = life.archive.objects.put_bytes(b"rows")
    release = seal(life, judged(life, data_batch=sha256))
    assert false(life) == set()
    assert verify_record(life.archive.folder, release.record).exit_code == 0
    path = life.archive.objects.path(sha256)
    path.chmod(0o644)
    path.write_bytes(b"wors")
    assert false(life) == {Code.EDITED}
    assert verify_record(life.archive.folder, release.record).exit_code == 1
    path.unlink()
    assert false(life) == {Code.MISSING}
    assert verify_record(life.archive.folder, release.record).exit_code == 1


def test_no_other_subject_may_stand_in_a_verdict(life: Life) -> None:
    seal(life, judged(life, other_thing=life.archive.objects.put_bytes(b"rows")))
    assert false(life) == {Code.EDITED}


def test_verdict_beside_what_was_not_live_is_found(life: Life) -> None:
    first, _ = life.release(), life.release()
    drop = Evidence("drop", "auc", Finding.HOLDS, "0.7, staging-1 has 0.7")
    seal(life, judged(life, "staging-1", (drop,), **{"live_release.json": first.manifest_sha256}))
    assert false(life) == {Code.REWRITTEN}


def test_verdict_that_names_another_live_release_than_its_digest_is_found(life: Life) -> None:
    first, second = life.release(), life.release()
    assert first.manifest_sha256 != second.manifest_sha256
    seal(life, judged(life, "staging-2", **{"live_release.json": first.manifest_sha256}))
    assert false(life) == {Code.EDITED}


def test_verdict_that_compares_with_nothing_is_as_good_beside_any_release(life: Life) -> None:
    for _ in range(2):
        life.release()
    verdict = life.archive.read_manifest(life.archive.list_releases("staging")[-1]).verdict
    assert (verdict.live, set(verdict.subjects) & {LIVE}) == ("staging-1", {LIVE})
    assert false(life) == set()


def test_manifest_without_the_new_keys_keeps_its_bytes() -> None:
    manifest = make_manifest(Verdict("dev", "0" * 64, {}, (Evidence("code", "x", Finding.HOLDS, "fine"),)))
    plain = msgspec.json.decode(manifest.encode())
    assert plain.keys() & {"promoted_from", "python"} == set()
    assert set(plain["verdict"]) == {"environment", "configuration_sha256", "subjects", "evidence"}


def test_statement_of_a_refusal_has_no_waivers_key_without_waivers() -> None:
    verdict = Verdict("dev", "0" * 64, {}, (Evidence("code", "x", Finding.REFUSES, "bad"),))
    assert set(describe_verdict(verdict, "r", None)["predicate"]["kit"]) == {"record", "evidence"}


def test_missing_entry_of_a_rollback_is_one_finding_and_what_follows_is_not_blamed(life: Life) -> None:
    for name in ("staging-1", "staging-2"):
        life.release()
        life.promote(name)
    rolled = roll_back(life.bench, "production", "slow")
    life.promote("staging-2")
    roll_back(life.bench, "production", "slow again")
    life.archive.ledger.path(rolled.entry).unlink()
    assert false(life) == {Code.MISSING}


@pytest.mark.kernel
def test_kernel_writes_the_promoted_release_with_its_waivers(tmp_path: Path) -> None:
    from kit.engine import PapermillEngine

    life = Life(tmp_path)
    inputs = ["bundle.zip", "saved_model", "golden.json"]
    notebook = make_notebook("stage.cut_release()", title="Release", inputs=inputs, outputs=["release.json"])
    (life.project.root / "notebooks/release.ipynb").write_bytes(encode_notebook(notebook))
    life.train()
    bench = dataclasses.replace(life.bench, engine=LateReleaseEngine(life.bench.engine, PapermillEngine()))
    life.release(bench=bench)
    change(life.project, "production", PRODUCTION.replace("min = 0.6", "min = 0.9"))
    given = give_waiver(bench, "production", "metric:auc", "größer wird es nicht: 0.7", START.date())
    promoted = life.promote("staging-1", bench=bench)
    manifest = life.archive.read_manifest(promoted)
    assert (manifest.promoted_from, manifest.verdict.waivers) == ("staging-1", (given.waiver,))
    assert verify_archive(life.archive.folder).exit_code == 0


class LateReleaseEngine:
    """Releases in a real kernel, everything else in a fake one."""

    def __init__(self, fake: Any, real: Any) -> None:
        self._fake, self._real = fake, real

    def prepare(self, start: Any, preload: Any) -> None:
        self._real.prepare(start, preload)

    def execute(self, job: Any, progress: Any) -> Any:
        source = "".join("".join(cell["source"]) for cell in job.notebook["cells"])
        return (self._real if "stage.cut_release()" in source else self._fake).execute(job, progress)
