"""Whatever differs from a release refuses to run it: each with its own sentence, all of them at once."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import Kit
from probes import GOOD

from kit.archive import VERDICT
from kit.errors import IntegrityError, PolicyError
from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.files import sha256_bytes
from kit.gate import Manifest, Release
from kit.project import Project
from kit.provenance import kit_version
from kit.record import Record
from kit.release import cut_release, plan_release, plan_run
from kit.release.difference import Kind, list_some
from kit.release.drift import find_drift
from kit.release.installed import judge_python
from kit.release.verdict import find_contradictions, short
from kit.statement import describe_execution, describe_verdict
from kit.testing import DATA, FakeEngine, make_project, make_record, make_workbench
from kit.workspace import Context

STAGING = DATA + '[settings]\nbatch = 10\n[secrets]\nTOKEN = { env = "TOKEN" }\n[release]\nfrom = "dev"\n'
DRIFTING = "[policy]\nallow_drift = true\n"
AGAIN = "cut a new release with `kit release --env staging`"
RESTORE = f"put it back from a copy of the archive (`kit verify` says what else is damaged), or {AGAIN}"
REFUSED = "release staging-1 is not run: 1 thing differs from what was released\n  - "


def train(context: Context) -> dict[str, Any]:
    Path(context.outputs["saved_model"]).mkdir()
    (Path(context.outputs["saved_model"]) / "weights").write_text("0.5")
    Path(context.outputs["golden.json"]).write_text("[]")
    return {"auc": 0.7}


def make_released(folder: Path, lock: str = "", policy: str = "") -> Workbench:
    """A project whose `staging-1` is live."""
    files = {"requirements.lock": lock} if lock else {}
    project = make_project(folder, environments={"dev": DATA, "staging": STAGING + policy}, files=files)
    workbench = make_workbench(project, FakeEngine(train=train))
    for stage in ("build", "prepare", "train"):
        assert execute_plan(workbench, plan_stage(workbench, Order(stage, "dev"))).succeeded
    plan = plan_release(workbench, Order("release", "staging"), GOOD)
    assert cut_release(workbench, plan)[1] is not None
    return workbench


def run(workbench: Workbench, release_id: str = "", *, allow: bool = False) -> Record:
    return execute_plan(workbench, plan_run(workbench, Order("run", "staging", allow_drift=allow), release_id))


def refuse(workbench: Workbench, error: type[Exception], release_id: str = "", *, allow: bool = False) -> str:
    """What it says when it refuses; nothing may have been executed."""
    n_records = len(workbench.archive.list_ids())
    with pytest.raises(error) as refused:
        run(workbench, release_id, allow=allow)
    assert len(workbench.archive.list_ids()) == n_records
    return str(refused.value)


def live(workbench: Workbench) -> tuple[Release, Manifest]:
    release = workbench.archive.live_release("staging")
    assert release is not None
    return release, workbench.archive.read_manifest(release)


def damage(path: Path, data: bytes | None) -> None:
    """Other bytes in the place of an archived file; None removes it."""
    path.chmod(0o644)
    path.write_bytes(data) if data is not None else path.unlink()


def change_environment(project: Project, text: str) -> None:
    (project.environments / "staging.toml").write_text(text)


def test_nothing_differs_and_the_record_has_no_drift(tmp_path: Path) -> None:
    workbench = make_released(tmp_path, lock=f"click=={version('click')}\n")
    assert find_drift(workbench, *live(workbench)) == ()
    record = run(workbench)
    assert (record.succeeded, record.drift) == (True, ())
    assert b'"drift"' not in record.encode()


@pytest.mark.parametrize(("data", "found"), [(b"other", short(sha256_bytes(b"other"))), (None, "nothing")])
def test_bundle_that_was_changed_or_removed_is_refused(tmp_path: Path, data: bytes | None, found: str) -> None:
    workbench = make_released(tmp_path)
    sha256 = live(workbench)[1].bundle_sha256
    damage(workbench.archive.objects.path(sha256), data)
    fact = f"bundle.zip in the archive: expected {short(sha256)}, found {found}; {RESTORE}"
    assert refuse(workbench, IntegrityError) == REFUSED + fact


@pytest.mark.parametrize(("data", "found"), [(b"0.6", short(sha256_bytes(b"0.6"))), (None, "nothing")])
def test_file_of_the_model_that_was_changed_or_removed_is_refused(
    tmp_path: Path, data: bytes | None, found: str
) -> None:
    workbench = make_released(tmp_path, policy=DRIFTING)
    damage(workbench.archive.objects.path(sha256_bytes(b"0.5")), data)
    expected = short(sha256_bytes(b"0.5"))
    fact = f"artifact 'saved_model/weights' in the archive: expected {expected}, found {found}; {RESTORE}"
    assert refuse(workbench, IntegrityError) == REFUSED + fact
    assert refuse(workbench, IntegrityError, allow=True) == REFUSED + fact, "whatever is allowed, damage is not"


def test_list_of_the_models_files_that_was_changed_is_refused(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    model = live(workbench)[1].artifact("saved_model")
    assert model is not None
    damage(workbench.archive.objects.path(model.sha256), b"{}")
    told = refuse(workbench, IntegrityError)
    assert told == (
        f"{REFUSED}artifact 'saved_model' in the archive: expected {short(model.sha256)}, found a list of its files that cannot "
        f"be read: object {short(model.sha256)} was changed in the archive: its bytes do not have that digest; {RESTORE}"
    )


@pytest.mark.parametrize("data", [b"{}", None])
def test_release_json_that_was_changed_or_removed_is_refused(tmp_path: Path, data: bytes | None) -> None:
    workbench = make_released(tmp_path)
    release, _ = live(workbench)
    damage(workbench.archive.objects.path(release.manifest_sha256), data)
    what = "was changed in the archive: its bytes do not have that digest" if data else "is not in the archive"
    assert (
        refuse(workbench, IntegrityError, "staging-1") == f"object {short(release.manifest_sha256)} {what}; {RESTORE}"
    )


def test_verdict_that_is_not_the_one_in_the_ledger_is_refused(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    release, manifest = live(workbench)
    entry = next(each for each in workbench.archive.ledger.read_back() if each.release == release.id)
    other = describe_verdict(
        msgspec.structs.replace(manifest.verdict, environment="dev"), release.record, manifest.sha256
    )
    path = workbench.archive.record_folder(release.record) / VERDICT
    damage(path, workbench.archive.state(other).encode())
    where = f"release staging-1, {VERDICT}"
    fact = f"{where}: it is not the one that the ledger names (entry {entry.seq})"
    assert refuse(workbench, IntegrityError, "staging-1") == f"{fact}; {RESTORE}"
    damage(path, None)
    assert refuse(workbench, IntegrityError, "staging-1") == f"record {release.record} has no {VERDICT}; {RESTORE}"


def test_frozen_configuration_without_its_digest_is_refused(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    release, manifest = live(workbench)
    forged = msgspec.structs.replace(manifest, configuration={**manifest.configuration, "settings": {"batch": 99}})
    archive = workbench.archive
    archive.objects.put_bytes(forged.encode())
    damage(archive.objects.path(release.manifest_sha256), forged.encode())
    fact = f"object {short(release.manifest_sha256)} was changed in the archive: its bytes do not have that digest"
    assert refuse(workbench, IntegrityError, "staging-1") == f"{fact}; {RESTORE}"
    with pytest.raises(
        IntegrityError, match="the frozen configuration does not have the digest that the release names"
    ):
        archive.read_manifest(msgspec.structs.replace(release, manifest_sha256=forged.sha256))


def test_verdict_that_admits_other_bytes_contradicts_the_release(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    release, manifest = live(workbench)
    statement = workbench.archive.read_envelope(release.record, VERDICT).read_statement(VERDICT)
    assert list(find_contradictions(manifest, statement, release.record)) == []
    other = msgspec.structs.replace(manifest, bundle_sha256="0" * 64)
    assert list(find_contradictions(other, statement, release.record)) == [
        f"the verdict, release.json: expected {short(other.sha256)}, found {short(manifest.sha256)}",
        f"release.json, bundle.zip: expected 000000000000…, found {short(manifest.bundle_sha256)}",
    ]
    refused = {**statement, "predicate": {**statement["predicate"], "result": "FAILED"}}
    assert list(find_contradictions(manifest, refused, "another")) == [
        f"the verdict's record: expected another, found {release.record}",
        "the verdict: expected one that admits the release, found FAILED",
    ]


def test_changed_environment_file_names_keys_with_old_and_new_values(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    text = STAGING.replace("batch = 10", "batch = 20\nlabel = 'x'").replace('env = "TOKEN"', 'env = "OTHER"')
    change_environment(workbench.project, text.replace('"raw.csv"', '"raw.csv" = "data/raw.csv"\n"more.csv"'))
    changes = (
        'data."more.csv": nothing -> "data/raw.csv"; secrets.TOKEN.env: "TOKEN" -> "OTHER"; settings.batch: 10 -> 20; '
        'settings.label: nothing -> "x"'
    )
    fact = f"environments/staging.toml differs from what staging-1 froze, in: {changes}"
    assert refuse(workbench, PolicyError) == f"{REFUSED}{fact}; take the change back, or {AGAIN}"


def test_environment_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    change_environment(workbench.project, "[settings")
    told = refuse(workbench, PolicyError)
    assert told.startswith(f"{REFUSED}environments/staging.toml differs from what staging-1 froze: it cannot be read: ")
    (workbench.project.environments / "staging.toml").unlink()
    assert "environment 'staging' does not exist" in refuse(workbench, PolicyError)


def test_packages_that_differ_from_the_lock_are_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    lock = f"click==0.0.1\nno-such-package==2\nmsgspec=={version('msgspec')}\n"
    workbench = make_released(tmp_path, lock=lock)
    installed = version("click")
    packages = f"click: locked 0.0.1, installed {installed}; no-such-package: locked 2, missing"
    fact = f"installed packages differ from requirements.lock of staging-1, 2 of them: {packages}"
    advice = f"install that lock with `python -m pip install -r requirements.lock`, or {AGAIN}"
    assert refuse(workbench, PolicyError) == f"{REFUSED}{fact}; {advice}"
    (workbench.project.root / "requirements.lock").write_text(f"click=={installed}\n")
    path = workbench.archive.objects.path(live(workbench)[1].bundle_sha256).relative_to(workbench.project.root)
    install = f"unzip -p {path} requirements.lock > staging-1.lock && python -m pip install -r staging-1.lock"
    assert f"; install that lock with `{install}`, or {AGAIN}" in refuse(workbench, PolicyError)


def test_only_the_first_ten_packages_are_listed(tmp_path: Path) -> None:
    workbench = make_released(tmp_path, lock="".join(f"no-such-package-{n:02}==1\n" for n in range(13)))
    told = refuse(workbench, PolicyError)
    assert "13 of them: no-such-package-00: locked 1, missing; " in told
    assert "no-such-package-09: locked 1, missing; and 3 more; install that lock" in told
    assert list_some([]) == ""


def test_kit_itself_is_held_against_a_lock_that_pins_it(tmp_path: Path) -> None:
    told = refuse(make_released(tmp_path / "old", lock="kit_ml==0.0.1\n"), PolicyError)
    assert f"kit-ml: locked 0.0.1, installed {kit_version()}" in told
    assert run(make_released(tmp_path / "own", lock=f"kit-ml=={kit_version()}\n")).succeeded


def test_another_python_is_refused_and_another_patch_level_is_told(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    release, _ = live(workbench)
    told: list[str] = []
    here = "CPython 3.12.4"
    (difference,) = judge_python("CPython 3.11.2", release, told.append, here)
    assert (difference.kind, str(difference)) == (
        Kind.PYTHON,
        "Python differs from the one that made the model of staging-1: expected CPython 3.11, found CPython 3.12.4; "
        f"use CPython 3.11, or train with this one and {AGAIN}",
    )
    assert [each.kind for each in judge_python("PyPy 3.12.4", release, told.append, here)] == [Kind.PYTHON]
    assert (list(judge_python(here, release, told.append, here)), told) == ([], [])
    assert list(judge_python("CPython 3.12.1", release, told.append, here)) == []
    sentence = (
        "the model of staging-1 was made with CPython 3.12.1, this is CPython 3.12.4: another patch level, no drift"
    )
    assert told == [sentence]


def test_python_of_a_release_that_does_not_name_it_is_that_of_its_training(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    release, manifest = live(workbench)
    nameless = msgspec.structs.replace(manifest, python="")
    kinds = [each.kind for each in find_drift(workbench, release, nameless)]
    assert Kind.PYTHON not in kinds
    assert Kind.VERDICT in kinds, "it is not the release that was admitted"
    lost = msgspec.structs.replace(nameless, training_record="gone")
    told = [str(each) for each in find_drift(workbench, release, lost) if each.kind is Kind.PYTHON]
    where = workbench.archive.folder
    fact = (
        f"which Python made the model of staging-1 cannot be told: record gone is not in {where}, or has no record.json"
    )
    assert told == [f"{fact}; {AGAIN}"]


def test_everything_that_differs_is_told_at_once(tmp_path: Path) -> None:
    workbench = make_released(tmp_path, lock="click==0.0.1\n")
    damage(workbench.archive.objects.path(sha256_bytes(b"0.5")), b"0.6")
    change_environment(workbench.project, STAGING.replace("10", "20"))
    kinds = [each.kind for each in find_drift(workbench, *live(workbench))]
    assert kinds == [Kind.ARTIFACT, Kind.ENVIRONMENT, Kind.PACKAGES]
    told = refuse(workbench, IntegrityError).splitlines()
    assert told[0] == "release staging-1 is not run: 3 things differ from what was released"
    assert [line[:24] for line in told[1:]] == [
        "  - artifact 'saved_mode",
        "  - environments/staging",
        "  - installed packages d",
    ]


def test_drift_is_allowed_only_where_the_frozen_policy_permits_it(tmp_path: Path) -> None:
    workbench = make_released(tmp_path, lock="click==0.0.1\n")
    change_environment(workbench.project, STAGING + DRIFTING)
    told = refuse(workbench, PolicyError, allow=True)
    assert told.splitlines()[0] == (
        "--allow-drift: release staging-1 was frozen without policy.allow_drift, so nothing may differ from it; set "
        "allow_drift = true in [policy] of environments/staging.toml and cut a new release"
    )
    assert "policy.allow_drift: false -> true" in told
    assert "click: locked 0.0.1" in told


def test_allowed_drift_is_in_the_record_its_statement_and_what_people_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workbench = make_released(tmp_path, lock="click==0.0.1\n", policy=DRIFTING)
    told = refuse(workbench, PolicyError)
    assert told.endswith("\nor run it with --allow-drift, which this release permits: the record will say so")
    change_environment(workbench.project, (STAGING + DRIFTING).replace("10", "20"))
    record = run(workbench, allow=True)
    facts = (
        "environments/staging.toml differs from what staging-1 froze, in: settings.batch: 10 -> 20",
        f"installed packages differ from requirements.lock of staging-1, 1 of them: click: locked 0.0.1, installed "
        f"{version('click')}",
    )
    assert (record.succeeded, record.drift) == (True, facts)
    assert workbench.archive.read_record(record.id).drift == facts
    statement = workbench.archive.read_envelope(record.id).read_statement("")
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["drift"] == list(facts)
    monkeypatch.chdir(workbench.project.root)
    kit = Kit(workbench.project, capsys)
    shown = kit("show", record.id).out
    assert "drift: differed from the release, allowed" in shown
    assert all(fact in shown for fact in facts)
    assert kit("verify").code == 0
    change_environment(workbench.project, STAGING + DRIFTING)
    other = run(workbench, allow=True)
    assert other.drift == facts[1:]
    differing = kit("diff", record.id, other.id, "--json").json
    assert {"name": "drift", "change": "changed", "before": list(facts), "after": [facts[1]]} in differing["outcome"]
    page = Path(kit("open", record.id, "--no-browser").out.strip()).read_text()
    assert "settings.batch: 10 -&gt; 20" in page


def test_statement_of_an_execution_without_drift_keeps_its_bytes() -> None:
    definition = describe_execution(make_record(), {}, "")["predicate"]["buildDefinition"]
    assert list(definition["externalParameters"]) == ["stage", "environment", "parameters", "release", "reproduces"]


def test_secret_in_a_changed_value_does_not_reach_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "correct-horse-battery")
    workbench = make_released(tmp_path, policy=DRIFTING)
    change_environment(workbench.project, (STAGING + DRIFTING).replace("10", "'correct-horse-battery'"))
    assert run(workbench, allow=True).drift == (
        'environments/staging.toml differs from what staging-1 froze, in: settings.batch: 10 -> "[secret TOKEN]"',
    )


def test_this_python_is_the_one_that_is_compared() -> None:
    release = Release(
        id="a-1", environment="a", number=1, time=make_record().started, who="", record="", manifest_sha256=""
    )
    here = f"{platform.python_implementation()} {platform.python_version()}"
    assert list(judge_python(here, release, pytest.fail)) == []
