"""`--output` of `kit run`: copies of what was written, and nothing mixed with them."""

from pathlib import Path

import pytest

from kit.archive import open_archive
from kit.cli.outputs import copy_outputs, require_free
from kit.errors import IntegrityError, UsageError
from kit.record import Status
from kit.testing import make_record


def test_outputs_are_copied_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = open_archive(tmp_path / "archive", "test")
    (tmp_path / "table.csv").write_text("x\n1\n")
    record = make_record(stage="run", outputs=(archive.objects.put_artifact("table.csv", tmp_path / "table.csv"),))
    copy_outputs(archive, record, tmp_path / "there")
    assert (tmp_path / "there/table.csv").read_text() == "x\n1\n"
    assert f"table.csv: {tmp_path / 'there/table.csv'}" in capsys.readouterr().err


def test_failed_run_leaves_no_folder_and_a_changed_object_no_copy(tmp_path: Path) -> None:
    archive = open_archive(tmp_path / "archive", "test")
    (tmp_path / "table.csv").write_text("x\n1\n")
    artifact = archive.objects.put_artifact("table.csv", tmp_path / "table.csv")
    copy_outputs(archive, make_record(stage="run", status=Status.FAILED, outputs=(artifact,)), tmp_path / "there")
    assert not (tmp_path / "there").exists()
    archive.objects.path(artifact.sha256).chmod(0o644)
    archive.objects.path(artifact.sha256).write_text("other")
    with pytest.raises(IntegrityError):
        copy_outputs(archive, make_record(stage="run", outputs=(artifact,)), tmp_path / "there")
    assert not (tmp_path / "there/table.csv").exists()


def test_folder_with_something_in_it_is_refused_before_anything_is_executed(tmp_path: Path) -> None:
    require_free(None)
    require_free(tmp_path / "new")
    require_free(tmp_path)
    (tmp_path / "old").write_text("here")
    for folder in (tmp_path, tmp_path / "old"):
        with pytest.raises(UsageError, match="expected a new or empty folder"):
            require_free(folder)
