"""What accidents and attackers do to a release before and while it runs: each attack is one test, named after what holds."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from release_files import STAGING, export, find_released, make_released

from kit.cli.main import main
from kit.cli.release_file import find_release_file
from kit.errors import IntegrityError, KitError
from kit.execute import Order, Workbench, execute_plan
from kit.model.servable import Field, Signature
from kit.record import Failure, Status
from kit.release import plan_run
from kit.release.file import open_release_file
from kit.scoring import read_release_id, score, score_parquet, target
from kit.scoring.source import open_source

DRIFTING = "[policy]\nallow_drift = true\n"
NUMBER, TEXT = Field("x", "float32"), Field("s", "string")


def find_object(workbench: Workbench, name: str) -> Path:
    """Where an object that a release pins lies in the archive."""
    manifest = workbench.archive.read_manifest(find_released(workbench.archive))
    artifact = manifest.artifact(name)
    pinned = {"bundle.zip": manifest.bundle_sha256, "configuration": manifest.configuration_sha256}
    return workbench.archive.objects.path(artifact.sha256 if artifact else pinned[name])


def replace(path: Path, how: str) -> None:
    """Something else in the place of an archived file."""
    data = path.read_bytes()
    path.parent.chmod(0o755)
    path.unlink()
    match how:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a link to the same bytes":
            elsewhere = path.with_name("elsewhere")
            elsewhere.write_bytes(data)
            path.symlink_to(elsewhere)
        case "other bytes":
            path.write_bytes(data + b" ")


@pytest.mark.parametrize("how", ["nothing", "a folder", "a pipe", "a link to the same bytes", "other bytes"])
@pytest.mark.parametrize("name", ["bundle.zip", "configuration", "golden.json", "saved_model"])
def test_whatever_takes_the_place_of_a_released_object_is_damage_that_nothing_allows(
    tmp_path: Path, name: str, how: str
) -> None:
    workbench = make_released(tmp_path, STAGING + DRIFTING)
    replace(find_object(workbench, name), how)
    with pytest.raises(
        IntegrityError, match=r"(?s)^release staging-1 is not run: 1 thing differs.*put it back from a copy"
    ):
        plan_run(workbench, Order("run", "staging", allow_drift=True))


def test_environment_that_is_no_file_is_drift(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    path = tmp_path / "environments/staging.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KitError, match="take the change back, or cut a new release"):
        plan_run(workbench, Order("run", "staging"))


def test_model_that_is_changed_between_verification_and_execution_is_never_executed(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    plan = plan_run(workbench, Order("run", "staging"))
    path = find_object(workbench, "golden.json")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    record = execute_plan(workbench, plan)
    assert record.status is Status.FAILED
    assert record.failure is not None
    assert (record.failure.kind, record.cells, record.outputs) == ("IntegrityError", (), ())
    assert record.failure == Failure("IntegrityError", record.failure.message)
    assert "golden.json" in record.failure.message


def test_sources_and_configuration_that_are_changed_after_verification_are_not_read_again(tmp_path: Path) -> None:
    workbench = make_released(tmp_path)
    plan = plan_run(workbench, Order("run", "staging"))
    for name in ("bundle.zip", "configuration"):
        replace(find_object(workbench, name), "other bytes")
    (tmp_path / "environments/staging.toml").write_text("")
    assert plan.values == {"limit": 2, "keys": ""}
    assert execute_plan(workbench, plan).status is Status.SUCCEEDED


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    return export(make_released(folder / "project"), folder / "staging-1.kit")


def add_comment(data: bytes) -> bytes:
    target = io.BytesIO(data)
    with zipfile.ZipFile(target, "a") as archive:
        archive.comment = b"comment"
    return target.getvalue()


def hide_file(data: bytes) -> bytes:
    """With a file that the zip's list leaves out; programs that read from the front find it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            archive.writestr(entry, source.read(entry))
        archive.writestr(zipfile.ZipInfo("artifacts/other", (1980, 1, 1, 0, 0, 0)), b"evil")
        archive.filelist.pop()
    return target.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"#!/bin/sh\necho evil\n" + data,
        lambda data: data + b"trailing",
        lambda data: data + data,
        add_comment,
        hide_file,
    ],
    ids=["in front", "behind", "twice", "comment", "hidden file"],
)
def test_release_file_holds_nothing_that_another_program_could_take_for_something_else(
    file: Path, tmp_path: Path, change: Any
) -> None:
    (tmp_path / "odd.kit").write_bytes(change(file.read_bytes()))
    with pytest.raises(IntegrityError, match="bytes in it belong to none of its files"):
        open_release_file(tmp_path / "odd.kit", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_release_file_with_the_headers_of_large_files_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # as if 100 bytes were 2 GiB
    path = export(make_released(tmp_path / "project"), tmp_path / "staging-1.kit")
    assert open_release_file(path, tmp_path / "unpacked").release.id == "staging-1"


def test_double_dash_stands_in_front_of_a_file_like_anywhere(file: Path) -> None:
    assert find_release_file(["--limit", "3", "--", str(file)]) == file


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_time_that_is_none_is_wrong_use_and_not_taken_for_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path, seconds: str
) -> None:
    workbench = make_released(tmp_path)
    monkeypatch.chdir(workbench.project.root)
    for arguments in (["run", str(file)], ["run", "--env", "staging"], ["train"]):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--timeout", seconds])
        assert stopped.value.code == 2
        assert "expected seconds above 0" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    base = tmp_path / f"kit-run-{os.getuid()}"
    left = base / "0123456789abcdef"
    (left / "release").mkdir(parents=True)
    base.chmod(0o700)
    (left / "owner").write_text("4194304 1")
    (left / "release/model").write_text("x")
    with pytest.raises(SystemExit) as stopped:
        main(["run", str(file), "--archive", str(tmp_path / "archive"), "--input", f"raw.csv={tmp_path / 'none'}"])
    assert stopped.value.code == 1
    assert list(base.iterdir()) == []


class Model:
    """Answers with what it is given."""

    def __init__(self, inputs: tuple[Field, ...] = (NUMBER,), output: Field = NUMBER, answers: Any = None) -> None:
        self.signature = Signature(inputs, (Field("p", output.dtype, output.shape),))
        self._answers = answers

    def predict(self, columns: Any) -> dict[str, Any]:
        """See `Servable`."""
        n_rows = len(next(iter(columns.values())))
        return {"p": np.zeros(n_rows, np.float32) if self._answers is None else self._answers[:n_rows]}


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.binary(1)])
def test_texts_as_views_and_of_fixed_size_are_scored_kept_and_rejected(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["a", None, "c"] if pa.types.is_string_view(kind) else [b"a", None, b"c"]
    pq.write_table(pa.table({"s": pa.array(values, kind)}), tmp_path / "in.parquet")
    target = tmp_path / "out.parquet"
    scored = score_parquet(Model((TEXT,)), tmp_path / "in.parquet", target, release="r-1", keep=["s"], require=["s"])
    assert (scored.rows_out, scored.rejected) == (2, {"s is missing": 1})
    assert pq.read_table(target)["s"].to_pylist() == [values[0], values[2]]


def test_answer_that_is_no_text_rejects_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0]}), tmp_path / "in.parquet")
    model = Model(output=TEXT, answers=np.array([b"good", b"\xff\xfe", "fine"], object))
    scored = score_parquet(model, tmp_path / "in.parquet", tmp_path / "out.parquet", release="r-1")
    assert scored.rejected == {"p is no text": 1}
    assert pq.read_table(tmp_path / "out.parquet")["p"].to_pylist() == ["good", "fine"]


def test_answers_without_values_are_empty_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, np.inf, 3.0]}), tmp_path / "in.parquet")
    model = Model(output=Field("p", "float32", (None,)), answers=np.zeros((3, 0), np.float32))
    scored = score_parquet(model, tmp_path / "in.parquet", tmp_path / "out.parquet", release="r-1")
    assert (scored.rows_out, scored.rejected) == (2, {"x is infinite": 1})
    assert pq.read_table(tmp_path / "out.parquet")["p"].to_pylist() == [[], []]


def test_parquet_with_any_byte_of_its_footer_changed_is_scored_whole_or_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"x": np.arange(50.0), "s": [str(n % 7) for n in range(50)]}), source)
    data, n_refused = source.read_bytes(), 0
    footer = int.from_bytes(data[-8:-4], "little")
    for offset in range(len(data) - 8 - footer, len(data), 3):
        source.write_bytes(data[:offset] + bytes([data[offset] ^ 0xD3]) + data[offset + 1 :])
        target.unlink(missing_ok=True)
        try:
            read_release_id(source)
            scored = score_parquet(Model((NUMBER, TEXT)), source, target, release="r-1")
            assert scored.rows_in == scored.rows_out + scored.rows_rejected
        except KitError:
            n_refused += 1
            assert list(tmp_path.iterdir()) == [source]
    assert n_refused > 0


def test_rows_of_documents_are_read_and_written_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(target, "ROW_GROUP_BYTES", 20_000)
    rows = pa.table({"s": [f"{n:04d}" * 250 for n in range(100)], "wide.not asked": ["x" * 9999] * 100})
    pq.write_table(rows, tmp_path / "in.parquet", use_dictionary=False)
    sizes: list[int] = []

    class Counting(Model):
        def predict(self, columns: Any) -> dict[str, Any]:
            sizes.append(len(columns["s"]))
            return super().predict(columns)

    scored = score_parquet(
        Counting((TEXT,)), tmp_path / "in.parquet", tmp_path / "out.parquet", release="r-1", keep=["s"]
    )
    assert (scored.rows_out, sum(sizes), set(sizes[:-1])) == (100, 100, {9})
    written = pq.ParquetFile(tmp_path / "out.parquet")
    assert written.metadata.num_row_groups == 4
    assert written.read()["s"].to_pylist() == rows["s"].to_pylist()


def test_width_of_a_column_counts_what_is_nested_in_it_and_not_what_begins_like_it(tmp_path: Path) -> None:
    column = pa.array([{"b": "x" * 1000}] * 50)
    pq.write_table(pa.table({"a": column, "ab": ["y" * 500] * 50}), tmp_path / "in.parquet", use_dictionary=False)
    source = open_source(tmp_path / "in.parquet")
    assert [source.count_rows_within(names, 10_000) for names in (["a"], ["ab"], ["a", "ab"], ["none"])] == [
        9,
        19,
        6,
        10_000,
    ]
    assert source.count_rows_within(["a"], 1) == 1
