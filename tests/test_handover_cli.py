"""`kit release export ID --kubernetes`: what is refused before anything is written, and what is printed."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from handovers import MODEL, PIN, read_image
from probes import GOOD

from kit.archive import VERDICT
from kit.cli.handover import CLUSTER_OPTIONS, cluster_options, export_to_cluster, refuse_cluster_options
from kit.errors import IntegrityError, PolicyError, UsageError
from kit.execute import Order, Workbench, execute_plan, plan_stage
from kit.gate import Release
from kit.handover import require_servable
from kit.release import cut_release, give_waiver, plan_release
from kit.release.export import export_release
from kit.release.file import open_release_file
from kit.testing import DATA, START, FakeEngine, make_key, make_project, make_workbench, write_outputs
from kit.workspace import Context


def train(context: Context) -> dict[str, Any]:
    """A folder as the model, as TensorFlow saves one."""
    written = write_outputs(context)
    folder = Path(context.outputs["saved_model"])
    folder.unlink()
    for name, data in MODEL.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {**written, "auc": 0.7}


def make_cut(folder: Path, settings: str = "", waived: str = "", **options: Any) -> tuple[Workbench, Release]:
    """A project in which a release was cut by its gate; with a waiver of one piece of evidence until the next day."""
    project = make_project(folder / "project", environments={"dev": f'{DATA}[release]\nfrom = "dev"\n{settings}'})
    workbench = make_workbench(project, FakeEngine(train=train), **options)
    for stage in ("build", "prepare", "train"):
        assert execute_plan(workbench, plan_stage(workbench, Order(stage, "dev"))).succeeded
    if waived:
        give_waiver(workbench, "dev", waived, "the data came late", date(2026, 3, 2))
    record, release = cut_release(workbench, plan_release(workbench, Order("release", "dev"), GOOD))
    assert release is not None, record.failure
    return workbench, release


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, Release]:
    """Only read."""
    return make_cut(tmp_path_factory.mktemp("project"))


def given(**options: str) -> dict[str, str | None]:
    return {**dict.fromkeys(CLUSTER_OPTIONS), **options}


def write_file(path: Path) -> None:
    path.write_bytes(b"PK the whole release")


def call(cut: tuple[Workbench, Release], folder: Path, *arguments: str) -> Result:
    """The options on a command, as `kit release export` has them."""

    @click.command
    @cluster_options
    def export(kubernetes: bool, **options: str | None) -> None:
        if kubernetes:
            export_to_cluster(*cut, folder, options, write_file, as_json="json" in str(folder))
        else:
            refuse_cluster_options(options)

    return CliRunner().invoke(export, arguments)


def test_command_prints_the_folder_and_tells_the_image_and_what_was_left_out(
    cut: tuple[Workbench, Release], tmp_path: Path
) -> None:
    result = call(cut, tmp_path / "out", "--kubernetes", "--registry", "registry.example.org/team")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out'}\n"
    told = result.stderr.splitlines()
    assert told[0].startswith("registry.example.org/team/example@sha256:")
    assert told[0].endswith(f": bring it there as {tmp_path / 'out' / 'README.md'} says")
    assert [line.split(":")[:2] for line in told[1:]] == [
        ["left out", " inferenceservice-kit.yaml"],
        ["left out", " Containerfile"],
        ["left out", " edge/"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_has_folder_image_files_and_what_was_left_out(cut: tuple[Workbench, Release], tmp_path: Path) -> None:
    options = ["--kubernetes", "--registry", "registry.example.org", "--name", "late", "--server-image", f"server{PIN}"]
    value = json.loads(call(cut, tmp_path / "json", *options).stdout)
    assert sorted(value) == ["files", "folder", "image", "left_out"]
    assert value["image"].startswith("registry.example.org/late@sha256:")
    assert "inferenceservice-kit.yaml" in value["files"]


def test_options_of_a_cluster_without_kubernetes_are_refused(cut: tuple[Workbench, Release], tmp_path: Path) -> None:
    for name in CLUSTER_OPTIONS:
        flag = f"--{name.replace('_', '-')}"
        error = call(cut, tmp_path / "out", flag, "x").exception
        assert isinstance(error, UsageError)
        assert str(error) == f"{flag} says something about a cluster: add --kubernetes"
    assert call(cut, tmp_path / "out").exit_code == 0
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--kubernetes needs --registry HOST/PATH"),
        ({"registry": "team"}, "--registry 'team'"),
        ({"registry": "localhost/team", "name": "Late_Flights"}, "'Late_Flights' cannot name a service"),
        ({"registry": "localhost/team", "base_image": "python:3.11"}, "--base-image 'python:3.11' is not pinned"),
    ],
)
def test_wrong_options_are_refused_before_the_release_file_is_written(
    cut: tuple[Workbench, Release], tmp_path: Path, options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_to_cluster(*cut, tmp_path / "out", given(**options), pytest.fail, as_json=False)
    assert not any(tmp_path.iterdir())


def test_folder_that_is_not_empty_is_refused_before_the_release_file_is_written(
    cut: tuple[Workbench, Release], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no empty folder"):
        export_to_cluster(*cut, tmp_path.parent, given(registry="localhost"), pytest.fail, as_json=False)


def test_failed_release_file_leaves_nothing_behind(cut: tuple[Workbench, Release], tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise IntegrityError("an artifact was changed")

    with pytest.raises(IntegrityError, match="an artifact was changed"):
        export_to_cluster(*cut, tmp_path / "out", given(registry="localhost"), fail, as_json=False)
    assert not any(tmp_path.iterdir())


def test_release_file_in_the_image_opens_as_the_release_with_the_model_of_the_image(tmp_path: Path) -> None:
    workbench, release = make_cut(tmp_path)

    def write(path: Path) -> None:
        export_release(workbench.archive, release, path, workbench.project.name)

    export_to_cluster(workbench, release, tmp_path / "out", given(registry="localhost"), write, as_json=False)
    (_, _, (model, file)), _ = read_image(tmp_path / "out/image")
    (tmp_path / "dev-1.kit").write_bytes(file["release/dev-1.kit"])
    opened = open_release_file(tmp_path / "dev-1.kit", tmp_path / "opened")
    assert opened.release == release
    for name in MODEL:
        assert (opened.folder / "artifacts/saved_model" / name).read_bytes() == model[f"models/1/{name}"]


def test_name_of_the_environments_serving_wins_over_the_projects(tmp_path: Path) -> None:
    cut = make_cut(tmp_path, '[serving]\nname = "late"')
    export_to_cluster(*cut, tmp_path / "out", given(registry="localhost/team"), write_file, as_json=False)
    assert "inferenceservice/late\n" in (tmp_path / "out/README.md").read_text()


def test_release_with_another_byte_is_not_handed_over(tmp_path: Path) -> None:
    workbench, release = make_cut(tmp_path)
    manifest = workbench.archive.read_manifest(release)
    golden = manifest.artifact("golden.json")
    assert golden is not None
    path = workbench.archive.objects.path(golden.sha256)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=r"release dev-1: golden\.json: object .* was changed in the archive"):
        require_servable(workbench.archive, release, (), START)


def test_release_that_must_be_signed_is_handed_over_to_those_who_trust_its_key_only(tmp_path: Path) -> None:
    key = make_key()
    workbench, release = make_cut(tmp_path, "[policy]\nsigned = true", key=key)
    assert require_servable(workbench.archive, release, (key.public,), START).sha256 == release.manifest_sha256
    with pytest.raises(PolicyError, match=r"release dev-1 may not be handed over: .*signed"):
        require_servable(workbench.archive, release, (make_key("eve@x").public,), START)


def test_unsigned_release_is_not_handed_over_once_the_file_demands_signed_work(
    cut: tuple[Workbench, Release],
) -> None:
    workbench, release = cut
    with pytest.raises(PolicyError, match=r"release dev-1 may not be handed over: its verdict is not signed; record"):
        require_servable(workbench.archive, release, (make_key().public,), START, signed=True)


def test_release_of_which_only_the_verdict_is_not_signed_is_not_handed_over(tmp_path: Path) -> None:
    key = make_key()
    workbench, release = make_cut(tmp_path, "[policy]\nsigned = true", key=key)
    path = workbench.archive.record_folder(release.record) / VERDICT
    path.parent.chmod(0o755)
    envelope = msgspec.json.decode(path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(msgspec.json.encode({**envelope, "signatures": []}))
    with pytest.raises(PolicyError, match=r"release dev-1 may not be handed over: its verdict is not signed$"):
        require_servable(workbench.archive, release, (key.public,), START)


def test_release_whose_waiver_has_expired_is_not_handed_over(tmp_path: Path) -> None:
    workbench, release = make_cut(tmp_path, "[gates]\nmetrics.auc = { min = 0.9 }", waived="metric:auc")
    assert require_servable(workbench.archive, release, (), START).verdict.waivers
    with pytest.raises(
        PolicyError, match=r"release dev-1 may not be handed over: the waiver of metric:auc by .* expired on"
    ):
        require_servable(workbench.archive, release, (), START + timedelta(days=2))
