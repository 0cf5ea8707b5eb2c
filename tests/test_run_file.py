"""A release file is run where there is no project and no git: as it was released, recorded, held against what is installed."""

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import Called, Kit
from release_files import SIGNED, STAGING, export, make_released

from kit.archive import Archive, open_archive
from kit.cli.release_file import find_release_file
from kit.decision import Waiver
from kit.environment import decode_environment
from kit.errors import IntegrityError, KitError, PolicyError, UnknownNameError, UsageError
from kit.execute import Order, Workbench, execute_plan
from kit.files import sha256_bytes, sha256_file
from kit.project import Project
from kit.record import Record, Status
from kit.release.file import ReleasedFile, open_release_file
from kit.release.outside import open_outside_project, plan_run_of_file, read_run_stage, require_runnable
from kit.signing import SigningKey
from kit.testing import (
    START,
    FakeClock,
    FakeEngine,
    example_stages,
    make_key,
    make_notebook,
    make_project,
    write_outputs,
)
from kit.verify import verify_archive
from kit.workspace import Context

ANA = make_key("ana")
UNVOUCHED = {"UNSIGNED", "NO-OUTSIDE-CHECKPOINT"}  # all that is noted of an archive without a key
EPOCH = (1980, 1, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    lock = {"requirements.lock": f"click=={version('click')}\n"}
    return make_released(tmp_path_factory.mktemp("project"), files=lock)


@pytest.fixture(scope="module")
def file(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(workbench, tmp_path_factory.mktemp("file") / "staging-1.kit")


def outside(file: Path, here: Path, key: SigningKey | None = None, **more: Any) -> tuple[Workbench, ReleasedFile]:
    """A workbench on an unpacked release file, in a folder with the data."""
    keys = [key.public] if key else []
    (here / "data").mkdir(parents=True)
    (here / "data/raw.csv").write_text("x\n3\n")
    released = open_release_file(file, here / "private/release", keys)
    project = open_outside_project(released, here, here / "archive", here / "reports", keys, here / "private")
    archive = open_archive(project.archive, project.name, key)
    return Workbench(project, archive, FakeEngine(**more), FakeClock()), released


def run_outside(workbench: Workbench, released: ReleasedFile, drift: tuple[str, ...] = (), **order: Any) -> Record:
    plan = plan_run_of_file(workbench, released, Order("run", released.release.environment, **order), drift)
    return execute_plan(workbench, plan)


def test_run_outside_executes_the_release_with_its_frozen_configuration(
    workbench: Workbench, file: Path, tmp_path: Path
) -> None:
    seen: list[Context] = []

    def answer(context: Context) -> dict[str, Any]:
        seen.append(context)
        assert context.release is not None
        assert (Path(context.release.folder) / "saved_model/variables/weights").read_text() == "0.5" * 100
        assert Path(context.inputs["raw.csv"]).read_text() == "x\n3\n"
        assert Path(context.inputs["release.json"]).read_bytes() == context.release.manifest.encode()
        return write_outputs(context)

    there, released = outside(file, tmp_path, run=answer)
    record = run_outside(there, released)
    manifest = released.manifest
    assert (record.status, record.release, record.environment) == (Status.SUCCEEDED, "staging-1", "staging")
    assert record.code.bundle_sha256 == manifest.bundle_sha256
    assert (record.code.dirty, record.code.build) == (True, released.training.code.build)
    assert record.configuration_sha256 == manifest.configuration_sha256
    assert {each.name: (each.value, each.source.value) for each in record.parameters} == {
        "limit": (2, "environment"),
        "keys": ("", "notebook"),
    }
    assert [(each.artifact.name, each.artifact.sha256, each.source, each.record) for each in record.inputs] == [
        ("release.json", manifest.sha256, "staging-1.kit", ""),
        ("raw.csv", sha256_bytes(b"x\n3\n"), "data/raw.csv", ""),
    ]
    assert record.software.lock_sha256 == manifest.lock_sha256
    assert seen[0].settings == {"batch": 10}
    report = verify_archive(tmp_path / "archive")
    assert (report.exit_code, {each.code.value for each in report.findings}) == (0, UNVOUCHED)
    assert not (tmp_path / ".kit").exists()


def test_inputs_and_parameters_are_those_that_were_given(file: Path, tmp_path: Path) -> None:
    there, released = outside(file, tmp_path)
    (tmp_path / "other.csv").write_text("x\n4\n")
    record = run_outside(there, released, parameters={"limit": "7"}, inputs={"raw.csv": "other.csv"})
    assert [each.value for each in record.parameters] == [7, ""]
    assert record.inputs[1].source == "other.csv"
    with pytest.raises(UnknownNameError, match="parameter 'limti' does not exist; did you mean 'limit'"):
        run_outside(there, released, parameters={"limti": "7"})
    with pytest.raises(UsageError, match=r"release.json comes out of staging-1.kit, not from --input"):
        run_outside(there, released, inputs={"release.json": "other.csv"})
    with pytest.raises(UnknownNameError, match="input 'raw' does not exist"):
        run_outside(there, released, inputs={"raw": "other.csv"})
    (tmp_path / "data/raw.csv").unlink()
    with pytest.raises(KitError, match=r"binds it to 'data/raw.csv', but there is no such file"):
        run_outside(there, released)


def test_input_that_another_stage_writes_must_be_given(tmp_path: Path) -> None:
    stages = example_stages()
    stages["run"] = make_notebook(title="Run", inputs=["release.json", "table.csv"], outputs=["answers.csv"])
    bench = make_released(tmp_path / "project", STAGING.replace("limit = 2", ""), stages=stages)
    there, released = outside(export(bench, tmp_path / "a.kit"), tmp_path / "here")
    with pytest.raises(
        UsageError, match=r"'table.csv' is written by stage 'prepare'.*give it with --input table.csv=PATH"
    ):
        run_outside(there, released)
    assert run_outside(there, released, inputs={"table.csv": "data/raw.csv"}).succeeded


def test_artifact_that_was_changed_after_unpacking_is_never_executed(file: Path, tmp_path: Path) -> None:
    there, released = outside(file, tmp_path, run=lambda context: pytest.fail("executed"))
    released.artifact("golden.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"artifact 'golden.json' of staging-1.kit: expected "):
        run_outside(there, released)
    assert there.archive.list_ids() == []


def test_signed_release_runs_where_a_trusted_key_signs_the_record(tmp_path: Path) -> None:
    project = make_released(tmp_path / "project", STAGING + SIGNED, ANA)
    path = export(project, tmp_path / "a.kit")
    there, released = outside(path, tmp_path / "here", ANA)
    assert run_outside(there, released).succeeded
    unsigned = Workbench(there.project, open_archive(tmp_path / "other", "other"), FakeEngine())
    with pytest.raises(PolicyError, match=r"policy\.signed.*no key to sign with"):
        run_outside(unsigned, released)


def test_packages_and_python_are_held_against_the_release(tmp_path: Path) -> None:
    lock = {"requirements.lock": "click==0.0.1\n"}
    drifting = STAGING + "[policy]\nallow_drift = true\n"
    strict = export(make_released(tmp_path / "strict", files=lock), tmp_path / "strict.kit")
    loose = export(make_released(tmp_path / "loose", drifting, files=lock), tmp_path / "loose.kit")
    released = open_release_file(strict, tmp_path / "a")
    package = f"click: locked 0.0.1, installed {version('click')}"
    fact = f"installed packages differ from requirements.lock of staging-1, 1 of them: {package}"
    with pytest.raises(PolicyError) as refused:
        require_runnable(released, START, lambda _: None, allow_drift=False)
    assert str(refused.value) == (
        f"release staging-1 is not run: 1 thing differs from what was released\n  - {fact}; install that lock with `unzip -p "
        f"{strict} requirements.lock > staging-1.lock && python -m pip install -r staging-1.lock`, or cut a new release with "
        "`kit release --env staging`"
    )
    with pytest.raises(PolicyError, match=r"frozen without policy.allow_drift"):
        require_runnable(released, START, lambda _: None, allow_drift=True)
    other = msgspec.structs.replace(released, manifest=msgspec.structs.replace(released.manifest, python="PyPy 3.9.1"))
    with pytest.raises(PolicyError, match=r"2 things differ(.|\n)*expected PyPy 3\.9, found"):
        require_runnable(other, START, lambda _: None, allow_drift=False)
    there, released = outside(loose, tmp_path / "here")
    drift = require_runnable(released, START, lambda _: None, allow_drift=True)
    record = run_outside(there, released, drift)
    assert (record.succeeded, record.drift) == (True, (fact,))
    assert verify_archive(tmp_path / "here/archive").exit_code == 0


def test_release_that_relies_on_an_expired_waiver_does_not_run(file: Path, tmp_path: Path) -> None:
    released = open_release_file(file, tmp_path / "a")
    waiver = Waiver(environment="staging", evidence="metric:auc", reason="r", until=START.date(), who="ana", time=START)
    verdict = msgspec.structs.replace(released.manifest.verdict, waivers=(waiver,))
    waived = msgspec.structs.replace(released, manifest=msgspec.structs.replace(released.manifest, verdict=verdict))
    assert require_runnable(waived, START, lambda _: None, allow_drift=False) == ()
    with pytest.raises(PolicyError, match=r"waivers that have expired: metric:auc until 2026-03-01; cut a new release"):
        require_runnable(waived, waiver.expires, lambda _: None, allow_drift=False)


def test_sources_that_are_no_project_are_refused(file: Path, tmp_path: Path) -> None:
    released = open_release_file(file, tmp_path / "a")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("notebooks/run.ipynb", EPOCH), b"{}")
    released.bundle.write_bytes(buffer.getvalue())
    make_project(tmp_path)  # a project above must not be taken for it
    with pytest.raises(IntegrityError, match=r"its sources hold no pyproject.toml"):
        open_outside_project(released, tmp_path, tmp_path / "x", tmp_path / "y", [], tmp_path / "private")


def test_run_stage_is_read_without_unpacking_the_model(file: Path) -> None:
    stage = read_run_stage(file)
    assert [parameter.name for parameter in stage.parameters] == ["limit", "keys"]
    assert stage.inputs == ("release.json", "raw.csv")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["a.kit"], "a.kit"),
        (["--json", "a.kit"], "a.kit"),
        (["--input", "x=y", "a.kit", "--json"], "a.kit"),
        (["--keys=k", "a.kit"], "a.kit"),
        (["--help", "a.kit"], "a.kit"),
        (["a.kit", "b.kit"], "a.kit"),
        (["--env", "a.kit"], None),
        (["--env", "staging", "--release", "staging-1"], None),
        (["staging-1"], None),
        ([], None),
    ],
)
def test_first_argument_that_is_no_option_names_the_file(arguments: list[str], found: str | None) -> None:
    assert find_release_file(arguments) == (Path(found) if found else None)


@pytest.fixture
def kit(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Kit:
    """`kit` in an empty folder that lies in no project."""
    monkeypatch.chdir(tmp_path)
    return Kit(workbench.project, capsys)


def test_help_of_a_file_shows_its_notebooks_parameters(kit: Kit, file: Path) -> None:
    called = kit("run", str(file), "--help")
    text = " ".join(called.out.split())
    assert called.code == 0
    assert called.out.splitlines()[0] == "Example: kit run staging-1.kit --limit 1"
    assert "--limit int rows at most [default: 1]" in text
    assert "--parameter-keys str a name that kit has too" in text
    assert "Reads release.json, raw.csv; writes answers.csv." in text
    for option in ("--input", "--archive", "--report", "--keys", "--allow-drift", "--timeout", "--json"):
        assert option in called.out


def test_without_a_project_run_wants_a_file(kit: Kit, file: Path) -> None:
    assert " run " in kit("--help").out
    assert kit("run", "--help").out.startswith("Example: kit run staging-3.kit")
    assert "Missing argument 'FILE'" in kit("run").err
    called = kit("run", "gone.kit")
    assert (called.code, "there is no file gone.kit" in called.err) == (2, True)
    called = kit("run", str(file), "--env", "staging")
    assert (called.code, "No such option" in called.err) == (2, True)


def test_refused_run_of_a_file_makes_no_archive(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "broken.kit").write_bytes(b"PK")
    called = kit("run", "broken.kit", "--json")
    assert (called.code, called.json["error"]["kind"]) == (1, "IntegrityError")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.kit"]


@pytest.fixture
def inside(workbench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """`kit` in the project."""
    monkeypatch.chdir(workbench.project.root)
    return Kit(workbench.project, capsys)


def test_release_export_writes_the_file_and_says_what_it_is(inside: Kit, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.kit"
    called = inside("release", "export", "staging-1", "-o", str(target))
    assert (called.code, called.out) == (0, f"{target}\n")
    assert f"sha256 {sha256_file(target)}" in called.err
    assert target.read_bytes() == file.read_bytes()
    assert inside("release", "export", "staging-1", "-o", str(target)).code == 2
    as_json = inside("release", "export", "staging-1", "-o", str(target), "--force", "--json").json
    assert as_json == {
        "path": str(target),
        "release": "staging-1",
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "n_files": 14,
        "size_bytes": target.stat().st_size,
        "signers": [],
    }
    cluster = inside("release", "export", "staging-1", "-o", str(tmp_path / "x.kit"), "--registry", "r.example/x")
    assert (cluster.code, "add --kubernetes" in cluster.err) == (2, True)
    wrong = inside("release", "export", "staging-9", "-o", str(target))
    assert (wrong.code, "did you mean 'staging-1'" in wrong.err) == (2, True)


def test_release_stage_is_called_as_before_beside_export(inside: Kit) -> None:
    help_ = inside("release", "--help")
    assert help_.out.startswith("Example: kit release --env dev")
    assert "export" in help_.out
    assert "Reads bundle.zip, saved_model, golden.json; writes release.json." in " ".join(help_.out.split())
    assert "takes no releases" in inside("release").err
    mixed = inside("release", "--env", "staging", "export", "staging-1", "-o", "x.kit")
    assert (mixed.code, "options of the stage do not go with `kit release export`" in mixed.err) == (2, True)
    assert "No such command 'exprot'" in inside("release", "exprot").err


def test_release_is_exported_also_by_a_project_without_a_release_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_released(tmp_path)
    (bench.project.root / "notebooks/release.ipynb").unlink()
    monkeypatch.chdir(tmp_path)
    kit = Kit(bench.project, capsys)
    assert kit("release", "export", "staging-1", "-o", "a.kit").code == 0
    assert "'release' does not exist" in kit("release", "--env", "staging").err


def test_run_in_a_project_takes_the_environment_as_before(inside: Kit) -> None:
    help_ = inside("run", "--help").out
    assert help_.startswith("Example: kit run --env dev --limit 1")
    assert "--release" in help_
    assert "--allow-drift" in help_
    assert "nothing is live in environment 'dev'" in inside("run").err


REAL = {
    "build": make_notebook(
        "import shutil\nshutil.copyfile(stage.bundle, stage.outputs['bundle.zip'])",
        title="Build",
        outputs=["bundle.zip"],
    ),
    "run": make_notebook(
        "import helper\nimport sys\nassert 'tensorflow' not in sys.modules",
        "weights = float((stage.release.artifact('saved_model') / 'variables' / 'weights').read_text()[:3])",
        "rows = stage.inputs['raw.csv'].read_text().split()[1:][:limit]",
        "stage.outputs['answers.csv'].write_text(helper.answer(rows, weights))",
        "stage.metric('n_rows', len(rows))\nprint(stage.secret('TOKEN'), stage.release.id)",
        title="Answer",
        parameters="limit: int = 1  # rows at most",
        inputs=["release.json", "raw.csv"],
        outputs=["answers.csv"],
    ),
}
HELPER = "def answer(rows, weight):\n    return ''.join(f'{float(row) * weight}\\n' for row in rows)\n"
TOKEN = "correct-horse-battery"


PROGRAM = """
import sys
from kit.cli import main
try:
    main()
finally:
    assert "tensorflow" not in sys.modules
"""


def call_kit(folder: Path, *arguments: str) -> Called:
    """`kit` in a process of its own that never imports TensorFlow, with no git on its PATH and a new home."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": str(home), "HOME": str(home), "TOKEN": TOKEN, "LANG": "C.UTF-8"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return Called(done.returncode, done.stdout, done.stderr)


@pytest.mark.kernel
def test_exported_release_runs_in_an_empty_folder_without_git(tmp_path: Path) -> None:
    stages = {**example_stages(), **REAL}
    text = STAGING + '[secrets]\nTOKEN = { env = "TOKEN" }\n'
    files = {"notebooks/helper.py": HELPER, "requirements.lock": f"click=={version('click')}\n"}
    workbench = make_released(tmp_path / "project", text, stages=stages, files=files)
    here = tmp_path / "here"
    here.mkdir()
    path = export(workbench, here / "staging-1.kit")
    shutil.move(tmp_path / "project", tmp_path / "gone")
    (here / "batch.csv").write_text("x\n2\n4\n6\n")
    called = call_kit(
        here, "run", path.name, "--input", "raw.csv=batch.csv", "--limit", "3", "--report", "pages",
        "--output", "scored", "--json",
    )  # fmt: skip
    assert called.code == 0, called.err
    record = called.json["record"]
    assert (record["status"], record["release"], record["metrics"]) == ("succeeded", "staging-1", {"n_rows": 3})
    archive = Archive(here / "archive")
    answers = archive.read_record(record["id"]).output("answers.csv")
    assert answers is not None
    assert archive.objects.read(answers.sha256) == b"1.0\n2.0\n3.0\n"
    log = (archive.record_folder(record["id"]) / "log.txt").read_text()
    assert "[secret TOKEN] staging-1" in log
    assert (here / "scored/answers.csv").read_bytes() == b"1.0\n2.0\n3.0\n"
    assert sorted(each.name for each in here.iterdir()) == ["archive", "batch.csv", "pages", "scored", "staging-1.kit"]
    again = call_kit(here, "run", path.name, "--output", "scored")
    assert (again.code, "expected a new or empty folder" in again.err) == (2, True)
    assert (here / "pages/index.html").is_file()
    verified = call_kit(here, "verify", "archive", "--json")
    assert verified.code == 0, verified.out
    assert {each["code"] for each in verified.json["report"]["findings"]} == UNVOUCHED
    assert not any(TOKEN.encode() in each.read_bytes() for each in here.rglob("*") if each.is_file())


def test_settings_of_the_sources_are_those_of_the_project(file: Path, tmp_path: Path, workbench: Workbench) -> None:
    there, released = outside(file, tmp_path)
    project: Project = there.project
    assert (project.name, project.lock, project.trusted_keys) == ("example", workbench.project.lock, ())
    assert project.scratch == tmp_path / "private/scratch"
    environment = decode_environment(released.manifest.configuration, "")
    assert environment == workbench.project.read_environment("staging")
