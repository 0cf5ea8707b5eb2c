"""The reports of a whole archive."""

import re
from pathlib import Path
from typing import Any

from probes import GOOD

from kit.archive import open_archive
from kit.execute import Order, Workbench
from kit.pipeline import execute_all, execute_stage
from kit.report import make_page, make_reports
from kit.testing import DATA, FakeEngine, make_project, make_workbench, write_outputs
from kit.workspace import Context

GATED = DATA + '[gates]\nmetrics.auc = { min = 0.6, max = 0.8 }\n[release]\nfrom = "dev"\n'


def make_archive(folder: Path, auc: float) -> Workbench:
    """A project in which `kit all` was called once, its model of this quality."""

    def train(context: Context) -> dict[str, Any]:
        return {**write_outputs(context), "auc": auc}

    workbench = make_workbench(make_project(folder, environments={"dev": GATED}), FakeEngine(train=train))
    for _ in execute_all(workbench, "dev", GOOD):
        pass
    return workbench


def test_index_shows_what_is_live_and_links_every_record(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.7)
    index = make_reports(workbench.project, workbench.archive)
    text = index.read_text(encoding="utf-8")
    assert "dev-1" in text
    for record_id in workbench.archive.list_ids():
        assert f"records/{record_id}.html" in text
        assert (index.parent / "records" / f"{record_id}.html").is_file()


def test_refused_release_is_shown_with_its_reason(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.95)
    text = make_reports(workbench.project, workbench.archive).read_text(encoding="utf-8")
    assert "above the limit" in text
    assert "dev-1" not in text


def test_release_whose_manifest_was_changed_is_shown_as_untrustworthy(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.7)
    (release,) = workbench.archive.list_releases()
    manifest = workbench.archive.objects.path(release.manifest_sha256)
    manifest.chmod(0o644)
    manifest.write_bytes(b"{}")
    text = make_reports(workbench.project, workbench.archive).read_text(encoding="utf-8")
    assert "was changed in the archive" in text


def test_making_reports_changes_nothing_in_the_archive(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.7)
    step = execute_stage(workbench, Order("build", "dev"))
    before = {path: path.read_bytes() for path in workbench.archive.folder.rglob("*") if path.is_file()}
    make_reports(workbench.project, workbench.archive)
    make_page(workbench.project, workbench.archive, step.record)
    assert {path: path.read_bytes() for path in workbench.archive.folder.rglob("*") if path.is_file()} == before


def test_page_of_one_record_links_only_what_has_a_page(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.7)
    (train,) = (record for record in workbench.archive.records() if record.stage == "train")
    page = make_page(workbench.project, workbench.archive, train)
    assert "./2026" not in page.read_text(encoding="utf-8")
    make_reports(workbench.project, workbench.archive)
    linked = set(re.findall(r'href="\./([^"]*)\.html"', page.read_text(encoding="utf-8")))
    assert linked == {item.record for item in train.inputs if item.record} | ({train.code.build} - {None})
    assert page == make_page(workbench.project, workbench.archive, train)
    assert set(re.findall(r'href="\./([^"]*)\.html"', page.read_text(encoding="utf-8"))) == linked


def test_archive_with_and_without_an_index_has_the_same_reports(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.95)
    pages = []
    for index in (None, tmp_path / ".kit" / "an-index.sqlite"):
        archive = open_archive(workbench.project.archive, workbench.project.name, index=index)
        pages.append(make_reports(workbench.project, archive, workbench.clock()).read_bytes())
    assert pages[0] == pages[1]


def test_damaged_record_is_left_out_and_named(tmp_path: Path) -> None:
    workbench = make_archive(tmp_path, auc=0.7)
    (train,) = (record for record in workbench.archive.records() if record.stage == "train")
    path = workbench.archive.record_folder(train.id) / "record.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    text = make_reports(workbench.project, workbench.archive).read_text(encoding="utf-8")
    assert f"records/{train.id}.html" not in text
    assert any(train.id in sentence for sentence in workbench.archive.unreadable)
