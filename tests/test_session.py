"""What a stage notebook calls, in the process that kit would start for it."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.environment import SecretReference
from kit.errors import GateRefusedError, IntegrityError, NotFoundError, StageError, UnknownNameError, UsageError
from kit.gate import Evidence, Finding, Verdict
from kit.model.servable import Field, Servable, Signature
from kit.scoring import read_release_id
from kit.session import OpenedRelease, StageSession, open_stage
from kit.testing import make_manifest
from kit.workspace import CONTEXT_VARIABLE, Context, GateContext, ReleaseContext, create_workspace

HOLDS = Evidence("metric", "auc", Finding.HOLDS, "fine")
REFUSES = Evidence("metric", "auc", Finding.REFUSES, "too low")


def make_context(folder: Path, **changes: Any) -> Context:
    workspace = create_workspace(folder)
    facts: dict[str, Any] = {
        "stage": "train",
        "environment": "dev",
        "record": "20260301T093000Z-train-4f09c1",
        "root": str(workspace.source),
        "inputs": {"table.csv": str(workspace.inputs / "table.csv")},
        "outputs": {"model": str(workspace.outputs / "model"), "release.json": str(workspace.outputs / "release.json")},
        "facts": str(workspace.facts),
        "scratch": str(folder / "scratch"),
        "bundle": str(workspace.bundle),
        "settings": {"batch": 10},
    }
    return Context(**{**facts, **changes})


def make_session(folder: Path, **changes: Any) -> StageSession:
    return StageSession(make_context(folder / "workspace", **changes), recorded=True)


def test_stage_opens_by_its_context_with_declared_paths_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path / "workspace")
    (tmp_path / "context.json").write_bytes(msgspec.json.encode(context))
    monkeypatch.setenv(CONTEXT_VARIABLE, str(tmp_path / "context.json"))
    stage = open_stage(inputs=["table.csv"], outputs=["release.json", "model"])
    assert stage.inputs["table.csv"] == Path(context.inputs["table.csv"])
    assert list(stage.outputs) == ["model", "release.json"]
    assert stage.config == {"batch": 10}
    assert stage.root == Path(context.root)
    assert "20260301T093000Z-train-4f09c1" in repr(stage)
    with pytest.raises(UnknownNameError, match=r"output 'modle' does not exist; did you mean 'model'"):
        stage.outputs["modle"]
    with pytest.raises(UsageError, match="stage 'train' executes here"):
        open_stage(inputs=[], outputs=["model"])
    (tmp_path / "context.json").write_text("{}")
    with pytest.raises(IntegrityError, match="is kit the same"):
        open_stage(inputs=["table.csv"], outputs=["model", "release.json"])


def test_secret_is_read_from_its_reference_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    references = {
        "A": SecretReference(env="KIT_TEST_A"),
        "B": SecretReference(file=str(tmp_path / "token")),
        "C": SecretReference(file=str(tmp_path / "gone")),
    }
    monkeypatch.setenv("KIT_TEST_A", "from-the-environment")
    stage = make_session(tmp_path, secrets=references)
    assert (stage.secret("A"), stage.secret("B")) == ("from-the-environment", "from-a-file")
    with pytest.raises(NotFoundError, match=r"secret 'C': file .*gone is not there"):
        stage.secret("C")
    with pytest.raises(UnknownNameError, match=r"secret 'D'.*dev\.toml, \[secrets\]"):
        stage.secret("D")


def test_check_of_what_is_not_there_or_has_no_suite_says_so(tmp_path: Path) -> None:
    stage = make_session(tmp_path)
    with pytest.raises(NotFoundError, match="nothing is there yet"):
        stage.check("model")
    stage.outputs["model"].write_text("x")
    with pytest.raises(NotFoundError, match=r"no suite notebooks/expectations/model\.json"):
        stage.check("model")
    with pytest.raises(UnknownNameError, match="output 'mdel'"):
        stage.check("mdel")


def test_bundle_is_only_there_under_kit(tmp_path: Path) -> None:
    assert make_session(tmp_path).bundle.name == "bundle.zip"
    with pytest.raises(NotFoundError, match=r"only the stage .build. has a bundle"):
        _ = make_session(tmp_path / "other", bundle="").bundle


def test_release_is_cut_only_if_the_gate_admits_it(tmp_path: Path) -> None:
    verdict = Verdict("dev", "0" * 64, {}, (HOLDS,))
    stage = make_session(tmp_path, gate=GateContext(verdict, make_manifest(verdict)))
    stage.cut_release()
    assert stage.gate == verdict
    assert stage.outputs["release.json"].read_bytes() == make_manifest(verdict).encode()
    refused = make_session(tmp_path / "refused", gate=GateContext(Verdict("dev", "0" * 64, {}, (REFUSES,)), None))
    with pytest.raises(GateRefusedError, match="metric auc: too low"):
        refused.cut_release()
    assert not refused.outputs["release.json"].exists()


def test_gate_and_release_belong_to_their_stages(tmp_path: Path) -> None:
    stage = make_session(tmp_path)
    with pytest.raises(UsageError, match="'train' has no gate"):
        _ = stage.gate
    with pytest.raises(UsageError, match="'train' runs no release"):
        _ = stage.release
    manifest = make_manifest(Verdict("dev", "0" * 64, {}, ()), configuration={"name": "dev"})
    running = make_session(tmp_path / "run", release=ReleaseContext("dev-3", manifest, str(tmp_path)))
    assert (running.release.id, running.release.configuration) == ("dev-3", {"name": "dev"})
    with pytest.raises(UnknownNameError, match="released artifact 'model'"):
        running.release.artifact("model")


class RunSession(StageSession):
    """An opened run stage that keeps its metrics, with a model that answers twice what it is asked."""

    signature = Signature((Field("x", "float32"),), (Field("p", "float32"),))

    def __init__(self, folder: Path, *, recorded: bool = True) -> None:
        context = make_context(folder / "workspace", stage="run")
        names = ("features.parquet", "p.parquet", "q.parquet", "rejects.parquet")
        release = ReleaseContext("dev-3", make_manifest(Verdict("dev", "0" * 64, {}, ())), str(folder))
        context = msgspec.structs.replace(
            context,
            release=release,
            inputs={"features.parquet": str(folder / "features.parquet")},
            outputs={name: str(folder / name) for name in names},
        )
        super().__init__(context, recorded=recorded, open_model=self._open)
        self.metrics: dict[str, Any] = {}
        self.n_opened = 0

    def _open(self, release: OpenedRelease) -> Servable:
        assert release.id == "dev-3"
        self.n_opened += 1
        return self

    def predict(self, columns: Any) -> Any:
        return {"p": 2 * columns["x"]}

    def metric(self, name: str, value: Any) -> Any:
        self.metrics[name] = value
        return value


def open_run(folder: Path, *, recorded: bool = True) -> RunSession:
    pq.write_table(pa.table({"id": [1, 2, 3], "x": [0.5, None, math.inf]}), folder / "features.parquet")
    return RunSession(folder, recorded=recorded)


def test_score_counts_every_row_and_names_the_release(tmp_path: Path) -> None:
    stage = open_run(tmp_path)
    scored = stage.score(
        "features.parquet",
        "p.parquet",
        keep=["id"],
        require=["x"],
        rejects="rejects.parquet",
        constants={"of": "dev-3"},
    )
    assert (scored.rows_in, scored.rows_out, scored.rows_rejected) == (3, 1, 2)
    assert stage.metrics == {
        "rows_in": 3, "rows_out": 1, "rows_rejected": 2, "rejected_x_is_infinite": 1, "rejected_x_is_missing": 1
    }  # fmt: skip
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == [{"id": 1, "p": 1.0, "of": "dev-3"}]
    assert pq.read_table(tmp_path / "rejects.parquet")["row"].to_pylist() == [1, 2]
    assert [read_release_id(tmp_path / name) for name in ("p.parquet", "rejects.parquet")] == ["dev-3", "dev-3"]


def test_scores_of_several_files_count_together_and_again_does_not_count_twice(tmp_path: Path) -> None:
    stage = open_run(tmp_path)
    for name in ("p.parquet", "q.parquet", "q.parquet"):
        stage.score(tmp_path / "features.parquet", name)
    assert stage.metrics == {
        "rows_in": 6,
        "rows_out": 2,
        "rows_rejected": 4,
        "rejected_p_is_not_finite": 2,
        "rejected_x_is_infinite": 2,
    }
    assert stage.n_opened == 1


def test_rows_that_the_notebook_rejected_are_counted_with_those_that_scoring_rejected(tmp_path: Path) -> None:
    stage = open_run(tmp_path)
    scored = stage.score("features.parquet", "p.parquet", require=["x"])
    before = {"no weather": 4}
    stage.count_rows(rows_in=7, rows_out=scored.rows_out, rows_rejected=before | scored.rejected)
    assert stage.metrics == {
        "rows_in": 7,
        "rows_out": 1,
        "rows_rejected": 6,
        "rejected_no_weather": 4,
        "rejected_x_is_infinite": 1,
        "rejected_x_is_missing": 1,
    }
    stage.count_rows(rows_in=7, rows_out=1, rows_rejected=6)
    with pytest.raises(StageError, match="7 rows in are not 1 rows out and 4 rejected: 2 were lost"):
        stage.count_rows(rows_in=7, rows_out=1, rows_rejected=before)
    with pytest.raises(UsageError, match=r"score all files before stage\.count_rows"):
        stage.score("features.parquet", "q.parquet")


def test_cells_of_a_run_may_be_repeated_in_jupyterlab(tmp_path: Path) -> None:
    stage = open_run(tmp_path, recorded=False)
    for _ in range(2):
        scored = stage.score("features.parquet", "p.parquet")
        stage.count_rows(rows_in=3, rows_out=scored.rows_out, rows_rejected=scored.rows_rejected)


def test_score_takes_declared_names_and_a_release_only(tmp_path: Path) -> None:
    stage = open_run(tmp_path)
    with pytest.raises(UnknownNameError, match=r"input 'feature\.parquet' does not exist; did you mean"):
        stage.score("feature.parquet", "p.parquet")
    with pytest.raises(UnknownNameError, match="output 'pp'"):
        stage.score("features.parquet", "pp")
    with pytest.raises(UsageError, match="'train' runs no release"):
        make_session(tmp_path / "train").score("table.csv", "model")
    assert stage.metrics == {}


def test_table_of_a_run_names_its_release_and_one_of_a_training_none(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    stage = open_run(tmp_path)
    stage.write_table(table, "q.parquet")
    assert read_release_id(tmp_path / "q.parquet") == "dev-3"
    training = make_session(tmp_path / "train")
    training.write_table(table, "model")
    assert read_release_id(training.outputs["model"]) == ""
    with pytest.raises(UnknownNameError, match="output 'modle'"):
        training.write_table(table, "modle")


def test_release_opens_the_representation_that_its_configuration_names(tmp_path: Path) -> None:
    configuration = {"name": "dev", "serving": {"representation": "litert"}}
    manifest = make_manifest(Verdict("dev", "0" * 64, {}, ()), configuration=configuration)
    stage = make_session(tmp_path, release=ReleaseContext("dev-3", manifest, str(tmp_path)))
    with pytest.raises(IntegrityError, match=r"model\.tflite|encoding\.json"):
        stage.release.open_model()
