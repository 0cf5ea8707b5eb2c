"""The gate on a LiteRT model: limits hold or refuse, and whatever is missing, unreadable or not finite refuses."""

import math
from pathlib import Path

import msgspec
import pytest

from kit.archive import Archive, open_archive
from kit.decision import WAIVABLE
from kit.environment import Environment, EvaluationSource, Gates, LiteRTLimits, Serving
from kit.gate import Evidence, Finding
from kit.model.closeness import Closeness, Representations
from kit.record import Record
from kit.release.represented import judge_litert
from kit.testing import make_record

SOURCE = EvaluationSource("evaluation.parquet", "late", "p")
LIMITS = LiteRTLimits(max_difference=1e-3, max_auc_drop=2e-3)
WITH_ROWS = Environment(name="staging", gates=Gates(litert=LIMITS, evaluation=SOURCE))
WITHOUT_ROWS = Environment(name="staging", gates=Gates(litert=LIMITS))
CLOSE = Closeness(n_golden=100, golden_difference=1e-7, n_rows=2429, difference=2e-7, auc=0.7125, auc_litert=0.712)
CONTENTS = {
    "model.tflite": b"flatbuffer",
    "encoding.json": b"{}",
    "golden.json": b"[1]",
    "evaluation.parquet": b"rows",
}


class Fake:
    """Says how close the representations are; checks that it was given verified copies of them."""

    def __init__(self, closeness: Closeness = CLOSE) -> None:
        self.closeness, self.asked = closeness, 0

    def __call__(self, given: Representations) -> Closeness:
        self.asked += 1
        assert (Path(given.saved_model) / "graph.pb").read_bytes() == b"graph"
        for path in filter(None, (given.litert, given.encoding, given.golden, given.rows)):
            assert Path(path).read_bytes() == CONTENTS[Path(path).name]
        assert (given.source is None) == (given.rows == "")
        return self.closeness


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test")


def train(archive: Archive, folder: Path, without: tuple[str, ...] = ()) -> Record:
    """A training that wrote both representations and what they are compared on."""
    (folder / "saved_model").mkdir(exist_ok=True)
    (folder / "saved_model/graph.pb").write_bytes(b"graph")
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)
    names = ["saved_model", *CONTENTS]
    outputs = tuple(archive.objects.put_artifact(name, folder / name) for name in names if name not in without)
    return make_record(outputs=outputs)


def judge(
    archive: Archive, folder: Path, closeness: Closeness, environment: Environment = WITH_ROWS
) -> tuple[Evidence, ...]:
    return tuple(judge_litert(archive, environment, train(archive, folder), Fake(closeness)))


def test_representations_that_are_close_hold_with_figures_rows_and_limits(archive, tmp_path):
    rows = "over 2,429 rows of evaluation.parquet"
    auc = f"AUC 0.712000, the SavedModel's 0.712500, loss 0.0005, allowed 0.002, {rows}"
    assert judge(archive, tmp_path, CLOSE) == (
        holds("largest difference 1e-07, allowed 0.001, from golden predictions, over 100 rows"),
        holds(f"largest difference 2e-07, allowed 0.001, from the SavedModel's p, {rows}"),
        holds(auc),
    )


def holds(detail: str) -> Evidence:
    return Evidence("litert", "model.tflite", Finding.HOLDS, detail)


def test_without_evaluation_rows_golden_predictions_decide_and_it_is_said(archive, tmp_path):
    assert judge(archive, tmp_path, Closeness(n_golden=100, golden_difference=1e-7), WITHOUT_ROWS) == (
        holds("largest difference 1e-07, allowed 0.001, from golden predictions, over 100 rows"),
        Evidence(
            "litert",
            "model.tflite",
            Finding.NOTED,
            "AUC was not compared: the environment has no [gates.evaluation] rows",
        ),
    )


def test_limits_themselves_are_allowed_and_a_gain_of_auc_too(archive, tmp_path):
    at_limit = msgspec.structs.replace(CLOSE, golden_difference=1e-3, difference=1e-3, auc=0.5, auc_litert=0.9)
    assert {each.finding for each in judge(archive, tmp_path, at_limit)} == {Finding.HOLDS}


BROKEN = [
    ({"golden_difference": 1.1e-3}, "says something else: largest difference 0.0011, allowed 0.001, from golden"),
    ({"difference": 0.5}, "says something else: largest difference 0.5, allowed 0.001, from the SavedModel's p, over"),
    ({"auc_litert": 0.7}, "ranks worse: AUC 0.700000, the SavedModel's 0.712500, loss 0.0125, allowed 0.002, over"),
    ({"golden_difference": None}, "no finite difference from golden predictions"),
    ({"n_golden": 0}, "no finite difference from golden predictions"),
    ({"difference": None}, "no finite difference from the SavedModel's p"),
    ({"n_rows": 0}, "no finite difference from the SavedModel's p"),
    ({"auc": None}, "no AUC of both representations"),
    ({"auc_litert": None}, "no AUC of both representations"),
    ({"problem": "the process died"}, "was not compared: the process died"),
    ({"golden_difference": math.nan}, "says something else: largest difference nan"),
    ({"auc": math.nan}, "ranks worse"),
    ({"auc_litert": math.nan}, "ranks worse"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_what_is_far_missing_or_not_finite_refuses(archive, tmp_path, change, reason):
    found = judge(archive, tmp_path, msgspec.structs.replace(CLOSE, **change))
    (refusal,) = (each for each in found if each.finding is Finding.REFUSES)
    assert refusal.detail.startswith(reason)
    assert (refusal.kind, refusal.subject) == ("litert", "model.tflite")


@pytest.mark.parametrize("name", ["saved_model", *CONTENTS])
def test_output_that_the_training_did_not_write_refuses_unasked(archive, tmp_path, name):
    compare, record = Fake(), train(archive, tmp_path, without=(name,))
    detail = f"missing: {record.id} wrote no {name}"
    refusal = Evidence("litert", "model.tflite", Finding.REFUSES, detail)
    assert list(judge_litert(archive, WITH_ROWS, record, compare)) == [refusal]
    assert compare.asked == 0


@pytest.mark.parametrize("name", CONTENTS)
def test_bytes_that_were_changed_refuse_and_nobody_can_waive_it(archive, tmp_path, name):
    record = train(archive, tmp_path)
    artifact = record.output(name)
    assert artifact is not None
    path = archive.objects.path(artifact.sha256)
    path.chmod(0o644)
    path.write_bytes(b"other")
    (refusal,) = judge_litert(archive, WITH_ROWS, record, Fake())
    assert refusal.finding is Finding.REFUSES
    assert refusal.subject == "model.tflite"
    assert f"cannot be read: {name}: object {artifact.sha256[:12]}… was changed in the archive" in refusal.detail
    assert refusal.kind not in WAIVABLE


def test_names_of_files_are_those_of_the_environment(archive, tmp_path):
    (tmp_path / "edge.tflite").write_bytes(b"flatbuffer")
    record = train(archive, tmp_path, without=("model.tflite",))
    edge = archive.objects.put_artifact("edge.tflite", tmp_path / "edge.tflite")
    record = msgspec.structs.replace(record, outputs=(*record.outputs, edge))
    gates = msgspec.structs.replace(WITHOUT_ROWS.gates, litert=LiteRTLimits(model="edge.tflite"))
    seen: list[str] = []

    def compare(given: Representations) -> Closeness:
        seen.append(Path(given.litert).name)
        return CLOSE

    found = list(judge_litert(archive, Environment(name="edge", gates=gates), record, compare))
    assert seen == ["edge.tflite"]
    assert {each.subject for each in found} == {"edge.tflite"}


def test_environment_that_wants_no_litert_model_looks_at_none(archive, tmp_path):
    assert list(judge_litert(archive, Environment(name="dev"), make_record(), Fake())) == []


def test_serving_litert_without_limits_refuses(archive, tmp_path):
    environment = Environment(name="production", serving=Serving(representation="litert"))
    detail = '[serving] representation is "litert", but nothing admits such a model: add a table [gates.litert]'
    refusal = Evidence("litert", "model.tflite", Finding.REFUSES, detail)
    assert list(judge_litert(archive, environment, train(archive, tmp_path), Fake())) == [refusal]
