"""Records as a pandas DataFrame: what their columns hold, and where it may be asked for."""

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import kit
from kit.archive import Archive
from kit.errors import ProjectError, UnknownNameError, UsageError
from kit.frames import frame_of
from kit.parameter import ResolvedParameter, Source
from kit.project import Project
from kit.record import Record, Status
from kit.testing import START, make_project, make_record, make_workbench, seal_record
from kit.workspace import CONTEXT_VARIABLE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = make_project(tmp_path)
    monkeypatch.chdir(project.root / "notebooks")
    return project


def put(project: Project, hours: int = 0, **facts: object) -> Record:
    archive: Archive = make_workbench(project).archive
    return seal_record(archive, make_record(started=START + timedelta(hours=hours), **facts))


def parameters(**values: object) -> tuple[ResolvedParameter, ...]:
    return tuple(ResolvedParameter(name, value, Source.NOTEBOOK, "int") for name, value in values.items())


def test_frame_has_a_row_for_each_record_and_a_column_for_each_metric_and_parameter(project: Project) -> None:
    first = put(project, metrics={"auc": 0.5, "n_rows": 7}, parameters=parameters(units=64, layers=[1, 2]))
    second = put(project, 1, stage="prepare", status=Status.FAILED, metrics={"good": True})
    frame = kit.records()
    expected = pd.DataFrame(
        {
            "id": [second.id, first.id],
            "stage": ["prepare", "train"],
            "environment": ["dev", "dev"],
            "status": ["failed", "succeeded"],
            "started": pd.Series([second.started, first.started], dtype="datetime64[us, UTC]"),
            "seconds": [5.0, 5.0],
            "metric.auc": [None, 0.5],
            "metric.good": pd.Series([True, None], dtype="boolean"),
            "metric.n_rows": pd.Series([None, 7], dtype="Int64"),
            "parameter.layers": pd.Series([None, [1, 2]], dtype="object"),
            "parameter.units": pd.Series([None, 64], dtype="Int64"),
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_filters_choose_rows_and_leave_out_columns_that_none_of_them_has(project: Project) -> None:
    low, high = put(project, metrics={"auc": 0.5}), put(project, 1, metrics={"auc": 0.75, "n": 1})
    put(project, 2, stage="prepare", metrics={"rows": 3})
    assert list(kit.records(stage="train")["id"]) == [high.id, low.id]
    assert list(kit.records(where="auc>=0.7")["id"]) == [high.id]
    assert list(kit.records(where=["auc>=0.5", "auc<0.7"], environment="dev", status="succeeded")["id"]) == [low.id]
    assert list(kit.records(limit=1).columns[6:]) == ["metric.rows"]
    with pytest.raises(UnknownNameError, match="did you mean 'auc'"):
        kit.records(where="acu>1")


def test_project_without_records_gives_no_rows(project: Project) -> None:
    frame = kit.records()
    assert (len(frame), list(frame.columns)) == (0, ["id", "stage", "environment", "status", "started", "seconds"])
    assert not project.archive.exists()


def test_values_that_no_machine_number_holds_or_of_several_types_are_objects(project: Project) -> None:
    put(project, metrics={"n": 1 << 70, "mixed": 1, "whole": 1, "yes": True, "text": "a"})
    put(project, 1, metrics={"n": 1, "mixed": "a", "whole": 2, "yes": False, "text": "b"})
    frame = kit.records()
    assert {name: str(frame[f"metric.{name}"].dtype) for name in ("n", "mixed", "whole", "yes", "text")} == {
        "n": "object",
        "mixed": "object",
        "whole": "int64",
        "yes": "bool",
        "text": "str",
    }


def test_recorded_stage_may_not_read_the_archive(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project)
    monkeypatch.setenv(CONTEXT_VARIABLE, str(project.root / "context.json"))
    with pytest.raises(UsageError, match="no declared input of this stage"):
        kit.records()


def test_outside_of_a_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="lies in no kit project"):
        kit.records()


def test_no_rows_have_the_types_of_many() -> None:
    assert str(frame_of([])["started"].dtype) == "datetime64[us, UTC]"
