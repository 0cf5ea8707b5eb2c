"""What fails a run whose cells all succeeded: rows that are lost, outputs that do not name the release."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from kit.artifact import TREE_MEDIA_TYPE, Artifact, media_type_of
from kit.execute import Order, plan_stage
from kit.execute.judge import first_failure
from kit.execute.plan import Plan
from kit.gate import Verdict
from kit.record import Failure
from kit.scoring import write_table
from kit.testing import make_manifest, make_project, make_workbench
from kit.workspace import ReleaseContext

DIGEST = "a" * 64


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of a run of dev-3."""
    planned = plan_stage(make_workbench(make_project(tmp_path / "project")), Order("prepare", "dev"))
    release = ReleaseContext("dev-3", make_manifest(Verdict("dev", "0" * 64, {}, ())), "")
    stage = msgspec.structs.replace(planned.stage, name="run")
    return dataclasses.replace(planned, stage=stage, release=release)


def judge(plan: Plan, folder: Path, metrics: dict[str, Any] | None = None) -> Failure | None:
    """Judge an execution that left what lies in a folder."""
    folder.mkdir(exist_ok=True)
    outputs = tuple(
        Artifact(path.name, DIGEST, 1, TREE_MEDIA_TYPE if path.is_dir() else media_type_of(path.name))
        for path in sorted(folder.iterdir())
    )
    return first_failure(plan, (), outputs, (), metrics or {}, folder)


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({"rows_in": 5, "rows_out": 3, "rows_rejected": 1}, "5 rows in are not 3 rows out and 1 rejected: 1 were lost"),
        ({"rows_in": 5, "rows_out": 5}, "it counts rows_in, rows_out but not rows_rejected"),
        ({"rows_in": "NaN", "rows_out": 0, "rows_rejected": 0}, "whole numbers of at least 0, found rows_in 'NaN'"),
    ],
)
def test_run_that_loses_rows_fails_with_the_numbers(
    plan: Plan, tmp_path: Path, metrics: dict[str, Any], sentence: str
) -> None:
    failure = judge(plan, tmp_path / "out", metrics)
    assert failure is not None
    assert failure.kind == "RowsLost"
    assert sentence in failure.message


def test_run_that_accounts_for_its_rows_or_counts_none_holds(plan: Plan, tmp_path: Path) -> None:
    assert judge(plan, tmp_path / "out", {"rows_in": 5, "rows_out": 3, "rows_rejected": 2, "auc": 0.7}) is None
    assert judge(plan, tmp_path / "out", {"auc": 0.7}) is None


def name(release: str) -> Callable[[Path], None]:
    return lambda path: write_table(pa.table({"a": [1]}), path, {"kit.release": release} if release else {})


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (
            name(""),
            "'p.parquet' names no release in its footer, expected kit.release = 'dev-3'; write it with stage.score(…)",
        ),
        (name("dev-2"), "'p.parquet' names release 'dev-2' in its footer, expected kit.release = 'dev-3'"),
        (lambda path: path.write_text("no table"), "p.parquet cannot be read as Parquet"),
    ],
)
def test_parquet_output_that_does_not_name_the_release_fails_a_run(
    plan: Plan, tmp_path: Path, write: Callable[[Path], None], sentence: str
) -> None:
    (tmp_path / "out").mkdir()
    name("dev-3")(tmp_path / "out" / "a.parquet")
    write(tmp_path / "out" / "p.parquet")
    failure = judge(plan, tmp_path / "out")
    assert failure is not None
    assert failure.kind == "ReleaseNotNamed"
    assert sentence in failure.message


def test_folder_of_parquet_files_names_the_release_in_each(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out" / "parts").mkdir(parents=True)
    (tmp_path / "out" / "notes.txt").write_text("not judged")
    name("dev-3")(tmp_path / "out" / "parts" / "1.parquet")
    assert judge(plan, tmp_path / "out") is None
    name("")(tmp_path / "out" / "parts" / "2.parquet")
    failure = judge(plan, tmp_path / "out")
    assert failure is not None
    assert "'parts/2.parquet' names no release" in failure.message


def test_other_stages_and_what_is_done_again_are_not_held_to_it(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    name("")(tmp_path / "out" / "p.parquet")
    lost = {"rows_in": 5, "rows_out": 3, "rows_rejected": 1}
    again = dataclasses.replace(plan, reproduces="20260301T093000Z-run-4f09c1")
    training = dataclasses.replace(plan, stage=msgspec.structs.replace(plan.stage, name="train"), release=None)
    assert judge(again, tmp_path / "out", lost) is None
    assert judge(training, tmp_path / "out", lost) is None
