"""What a gate says of metrics: measured again, against what is live, for each slice. What cannot be known refuses."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kit.archive import open_archive
from kit.artifact import Artifact
from kit.bundle import Bundle, make_bundle
from kit.decision import WAIVABLE
from kit.environment import Environment, EvaluationSource, Gates, MetricLimits, SliceLimits, decode_environment
from kit.gate import Evidence, Finding, Verdict
from kit.measures import MEASURES, is_larger_better
from kit.model.evaluate import Evaluation, EvaluationOrder, Measured, Scored
from kit.release.evaluated import LiveRelease, judge_evaluation
from kit.testing import make_manifest, make_project, make_record

SOURCE = EvaluationSource("evaluation.parquet", "is_late", "p")
HOLDS, REFUSES, NOTED = Finding.HOLDS, Finding.REFUSES, Finding.NOTED


def scored(slices: dict[str, dict[str, Measured]] | None = None, **metrics: float) -> Scored:
    return Scored("", Measured(1000, metrics), slices or {})


class Gate:
    """The gate of `staging` over a candidate, with a fake evaluation; `orders` keeps what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.archive = open_archive(folder / "archive", "test")
        self.bundle: Bundle = make_bundle(make_project(folder / "project"), tracked_only=False)
        self.folder = folder
        self.candidate, self.live_model = self.put_model("candidate"), self.put_model("live")
        rows = Artifact("evaluation.parquet", self.archive.objects.put_bytes(b"rows"), 4, "")
        self.rows = f"1,000 rows of {rows.sha256[:12]}…"
        self.outputs = (self.candidate, rows)
        self.live: LiveRelease | None = None
        self.evaluation = Evaluation(
            n_rows=1000, candidate=scored(auc=0.7, brier=0.2), live=scored(auc=0.72, brier=0.1)
        )
        self.orders: list[EvaluationOrder] = []

    def put_model(self, text: str) -> Artifact:
        (self.folder / text).mkdir()
        (self.folder / text / "graph.pb").write_text(text)
        return self.archive.objects.put_artifact("saved_model", self.folder / text)

    def release(self, *artifacts: Artifact, **changes: Any) -> None:
        """Make a release live."""
        verdict = Verdict("dev", "0" * 64, {}, ())
        self.live = LiveRelease(
            "staging-1", make_manifest(verdict, artifacts=artifacts or (self.live_model,), **changes)
        )

    def evaluate(self, order: EvaluationOrder) -> Evaluation:
        self.orders.append(order)
        assert Path(order.rows).read_bytes() == b"rows"
        assert Path(order.candidate, "graph.pb").read_text() == "candidate"
        assert not order.live or Path(order.live, "graph.pb").read_text() == "live"
        assert not order.notebooks or Path(order.notebooks, "train.ipynb").is_file()
        return self.evaluation

    def judge(
        self, recorded: dict[str, Any] | None = None, source: EvaluationSource | None = SOURCE, **gates: Any
    ) -> list[Evidence]:
        environment = Environment(name="staging", gates=Gates(evaluation=source, **gates))
        metrics = {"auc": 0.7, "brier": 0.2} if recorded is None else recorded
        training = make_record(id="20260301T093000Z-train-4f09c1", outputs=self.outputs, metrics=metrics)
        return list(judge_evaluation(self.archive, environment, training, self.bundle, self.live, self.evaluate))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def limits(**metrics: MetricLimits) -> dict[str, MetricLimits]:
    return metrics


AUC = limits(auc=MetricLimits(min=0.6))
DROP = limits(auc=MetricLimits(max_drop=0.015))


def test_recorded_metric_that_the_gate_finds_again_holds(gate: Gate) -> None:
    assert gate.judge({"auc": 0.70009}, metrics=AUC) == [
        Evidence("metric", "auc", HOLDS, f"0.70009, at least 0.6; measured again on {gate.rows}")
    ]
    assert [(Path(order.rows).name, order.live, order.notebooks) for order in gate.orders] == [
        ("evaluation.parquet", "", "")
    ]


@pytest.mark.parametrize("recorded", [0.7312, 0.69989, 0.70011])
def test_recorded_metric_that_the_gate_does_not_find_again_refuses(gate: Gate, recorded: float) -> None:
    assert gate.judge({"auc": recorded}, metrics=AUC) == [
        Evidence("metric", "auc", HOLDS, f"{recorded:g}, at least 0.6"),
        Evidence(
            "metric", "auc measured again", REFUSES,
            f"the record says {recorded:g}, the gate finds 0.7 on {gate.rows}; may differ by 0.0001",
        ),
    ]  # fmt: skip


def test_agreement_is_relative_for_metrics_above_one(gate: Gate) -> None:
    gate.evaluation = Evaluation(n_rows=1000, candidate=scored(rmse=5000.0))
    within, beyond = (
        gate.judge({"rmse": value}, metrics=limits(rmse=MetricLimits(max=9e3))) for value in (5000.4, 5000.6)
    )
    assert [each.finding for each in within] == [HOLDS]
    assert [each.finding for each in beyond] == [HOLDS, REFUSES]


@pytest.mark.parametrize(
    ("recorded", "sentence"),
    [({}, "missing"), ({"auc": "NaN"}, "no finite number"), ({"auc": True}, "no finite number")],
)
def test_metric_that_was_not_recorded_refuses_whatever_the_gate_finds(
    gate: Gate, recorded: dict[str, Any], sentence: str
) -> None:
    (found,) = gate.judge(recorded, metrics=AUC)
    assert (found.finding, found.subject) == (REFUSES, "auc")
    assert sentence in found.detail


def test_metric_that_only_the_record_has_is_judged_as_recorded(gate: Gate) -> None:
    found = gate.judge({"auc_gain": 0.01}, metrics=limits(auc_gain=MetricLimits(min=0.0)))
    assert found == [Evidence("metric", "auc_gain", HOLDS, "0.01, at least 0")]


def test_limited_metric_that_is_undefined_on_these_rows_refuses(gate: Gate) -> None:
    undefined = Measured(1000, {"mae": 0.1}, {"auc": "labels must be 0 or 1; 3 of 1,000 are neither"})
    gate.evaluation = Evaluation(n_rows=1000, candidate=Scored("", undefined))
    holds, refuses = gate.judge(metrics=AUC)
    assert holds.finding is HOLDS
    assert refuses == Evidence(
        "metric", "auc measured again", REFUSES, f"on {gate.rows}: labels must be 0 or 1; 3 of 1,000 are neither"
    )


def test_without_evaluation_the_record_alone_is_judged(gate: Gate) -> None:
    found = gate.judge(source=None, metrics=limits(auc=MetricLimits(min=0.6, max_drop=0.01)))
    assert found == [
        Evidence("metric", "auc", HOLDS, "0.7, at least 0.6"),
        Evidence("drop", "auc", NOTED, "no live release to compare with"),
    ]
    assert gate.orders == []


def test_first_release_has_nothing_to_compare_with(gate: Gate) -> None:
    assert gate.judge(metrics=DROP) == [Evidence("drop", "auc", NOTED, "no live release to compare with")]
    assert [order.live for order in gate.orders] == [""]


@pytest.mark.parametrize(
    ("max_drop", "finding", "detail"),
    [
        (0.02, HOLDS, "0.7, staging-1 has 0.72, may drop by 0.02; both on "),
        (0.015, REFUSES, "dropped too far: 0.7, staging-1 has 0.72, may drop by 0.015; both on "),
    ],
)
def test_metric_is_compared_with_what_is_live_on_the_same_rows(
    gate: Gate, max_drop: float, finding: Finding, detail: str
) -> None:
    gate.release(metrics={"auc": 0.99})  # what the old record says does not matter
    found = gate.judge(metrics=limits(auc=MetricLimits(max_drop=max_drop)))
    assert found == [Evidence("drop", "auc", finding, detail + gate.rows)]
    assert [Path(order.live).name for order in gate.orders] == ["live"]


def test_loss_that_rises_is_worse(gate: Gate) -> None:
    gate.release()
    (found,) = gate.judge(metrics=limits(brier=MetricLimits(max_drop=0.05)))
    assert found.detail == f"rose too far: 0.2, staging-1 has 0.1, may rise by 0.05; both on {gate.rows}"
    (found,) = gate.judge(metrics=limits(brier=MetricLimits(max_drop=0.1)))
    assert found.finding is HOLDS


def test_loss_that_falls_is_better(gate: Gate) -> None:
    gate.evaluation = Evaluation(n_rows=1000, candidate=scored(brier=0.1), live=scored(brier=0.4))
    gate.release()
    (found,) = gate.judge({"brier": 0.1}, metrics=limits(brier=MetricLimits(max_drop=0.0)))
    assert found.finding is HOLDS


def test_live_release_is_not_scored_where_no_limit_asks_for_it(gate: Gate) -> None:
    gate.release()
    gate.judge(metrics=AUC, slices={"carrier": SliceLimits(AUC)})
    assert [order.live for order in gate.orders] == [""]


def refusal_of_drop(gate: Gate, **gates: Any) -> str:
    """Why the comparison with what is live is refused."""
    (found,) = (each for each in gate.judge(**{"metrics": DROP, **gates}) if each.kind == "drop")
    assert (found.subject, found.finding) == ("auc not compared", REFUSES)
    return found.detail.removeprefix("cannot be compared with staging-1 on the same data: ")


def test_live_release_without_evaluation_refuses(gate: Gate) -> None:
    gate.release()
    assert refusal_of_drop(gate, source=None).startswith("give [gates.evaluation]")


def test_live_release_that_cannot_be_scored_refuses(gate: Gate) -> None:
    gate.release()
    for live, sentence in (
        (Scored("evaluation.parquet has no column 'wind'"), "evaluation.parquet has no column 'wind'"),
        (scored(gini=0.4), "the measure gives no 'auc'; it gives gini"),
        (None, "it was not scored"),
    ):
        gate.evaluation = Evaluation(n_rows=1000, candidate=scored(auc=0.7), live=live)
        assert refusal_of_drop(gate) == sentence


def test_live_model_that_is_gone_changed_or_was_never_there_refuses(gate: Gate) -> None:
    gate.evaluation = Evaluation(n_rows=1000, candidate=scored(auc=0.7))
    gate.release(Artifact("golden.json", "0" * 64, 1, ""))
    assert refusal_of_drop(gate) == "it has no 'saved_model'"
    gate.release()
    (entry,) = gate.archive.objects.read_tree(gate.live_model).files
    file = gate.archive.objects.path(entry.sha256)
    file.chmod(0o644)
    file.write_text("other")
    assert "was changed in the archive" in refusal_of_drop(gate)
    file.unlink()
    assert "is not in the archive" in refusal_of_drop(gate)


def test_live_model_is_the_one_that_its_own_configuration_names(gate: Gate) -> None:
    named = Environment(name="staging", gates=Gates(model="old_model"))
    model = Artifact("old_model", *(getattr(gate.live_model, name) for name in ("sha256", "size_bytes", "media_type")))
    gate.release(model, configuration=named.configuration)
    assert [each.finding for each in gate.judge(metrics=limits(auc=MetricLimits(max_drop=0.02)))] == [HOLDS]
    gate.release(model, configuration={"name": "staging", "gates": {"modell": 1}})
    assert "modell" in refusal_of_drop(gate)


def test_live_release_that_cannot_be_relied_on_refuses_comparisons_and_leaves_bounds_judged(gate: Gate) -> None:
    gate.evaluation = Evaluation(n_rows=1000, candidate=scored(auc=0.7))
    gate.live = LiveRelease("the live release", problem="cannot be read: object 3fa8… is not in the archive")
    held, dropped = gate.judge(metrics=limits(auc=MetricLimits(min=0.6, max_drop=0.1)))
    assert (held.kind, held.finding) == ("metric", HOLDS)
    assert dropped == Evidence(
        "drop", "auc not compared", REFUSES,
        "cannot be compared with the live release on the same data: cannot be read: object 3fa8… is not in the archive",
    )  # fmt: skip
    gate.live = LiveRelease("the live release")
    assert "what it pins is not known" in gate.judge(metrics=DROP)[0].detail


@pytest.mark.parametrize("missing", ["evaluation.parquet", "saved_model"])
def test_candidate_without_rows_or_model_refuses_every_limit(gate: Gate, missing: str) -> None:
    gate.outputs = tuple(each for each in gate.outputs if each.name != missing)
    gate.release()
    found = gate.judge(metrics=limits(auc=MetricLimits(min=0.6, max_drop=0.1)), slices={"carrier": SliceLimits(AUC)})
    sentence = f"20260301T093000Z-train-4f09c1 wrote no {missing!r}"
    assert found == [
        Evidence("metric", "evaluation.parquet", REFUSES, f"nothing was measured again: {sentence}"),
        Evidence("metric", "auc", HOLDS, "0.7, at least 0.6"),
        Evidence(
            "drop", "auc not compared", REFUSES, f"cannot be compared with staging-1 on the same data: {sentence}"
        ),
        Evidence("slice", "carrier", REFUSES, f"nothing was judged: {sentence}"),
    ]


@pytest.mark.parametrize(
    "evaluation",
    [
        Evaluation("the evaluating process ended with -9 and no answer"),
        Evaluation(candidate=Scored("no")),
        Evaluation(),
    ],
)
def test_evaluation_that_failed_refuses(gate: Gate, evaluation: Evaluation) -> None:
    gate.evaluation = evaluation
    refused, held = gate.judge(metrics=AUC)
    assert (refused.subject, refused.finding, held.finding) == ("evaluation.parquet", REFUSES, HOLDS)
    assert evaluation.candidate_problem in refused.detail


def test_own_measure_is_imported_from_the_candidates_bundle(gate: Gate) -> None:
    gate.judge(source=EvaluationSource("evaluation.parquet", "is_late", "p", "delay_model:measure"), metrics=AUC)
    assert [Path(order.notebooks).name for order in gate.orders] == ["notebooks"]


def slice_case(gate: Gate, live: dict[str, Measured] | None = None, **values: Measured) -> None:
    overall = Measured(1000, {"auc": 0.7})
    other = Scored("", overall, {"carrier": live}) if live is not None else None
    gate.evaluation = Evaluation(n_rows=1000, candidate=Scored("", overall, {"carrier": values}), live=other)


def judge_slices(gate: Gate, bounds: MetricLimits, min_rows: int = 100) -> list[Evidence]:
    found = gate.judge(slices={"carrier": SliceLimits({"auc": bounds}, min_rows)})
    assert {each.kind for each in found} == {"slice"}
    return found


def test_each_value_with_enough_rows_is_judged_the_worst_first(gate: Gate) -> None:
    slice_case(
        gate,
        AA=Measured(500, {"auc": 0.75}), B6=Measured(300, {"auc": 0.62}), UA=Measured(100, {"auc": 0.59}),
        HA=Measured(99, {"auc": 0.1}), OO=Measured(1, {}, {"auc": "all 1 labels are 0"}),
    )  # fmt: skip
    assert judge_slices(gate, MetricLimits(min=0.6, max=0.9)) == [
        Evidence(
            "slice", "carrier", NOTED,
            "2 of 5 values have fewer than 100 rows and were not judged: HA, OO (100 of 1,000 rows)",
        ),
        Evidence(
            "slice", "carrier=UA auc", REFUSES, "below the limit: 0.59 on 100 rows, at least 0.6, at most 0.9"
        ),
        Evidence("slice", "carrier=B6 auc", HOLDS, "0.62 on 300 rows, at least 0.6, at most 0.9"),
        Evidence("slice", "carrier=AA auc", HOLDS, "0.75 on 500 rows, at least 0.6, at most 0.9"),
    ]  # fmt: skip
    assert gate.orders[0].columns == ("carrier",)


def test_undefined_metric_of_a_value_with_enough_rows_refuses(gate: Gate) -> None:
    slice_case(gate, AA=Measured(200, {}, {"auc": "all 200 labels are 0; both 0 and 1 are needed"}))
    assert judge_slices(gate, MetricLimits(min=0.6)) == [
        Evidence(
            "slice", "carrier=AA auc", REFUSES,
            "undefined on 200 rows: all 200 labels are 0; both 0 and 1 are needed",
        )
    ]  # fmt: skip


def test_slices_are_compared_with_the_same_value_of_what_is_live(gate: Gate) -> None:
    gate.release()
    slice_case(
        gate,
        {"AA": Measured(500, {"auc": 0.72}), "UA": Measured(200, {"auc": 0.8}), "WN": Measured(200, {})},
        AA=Measured(500, {"auc": 0.7}), UA=Measured(200, {"auc": 0.7}), WN=Measured(200, {"auc": 0.7}),
    )  # fmt: skip
    assert [Path(order.live).name for order in gate.orders] == []
    assert judge_slices(gate, MetricLimits(min=0.6, max_drop=0.05)) == [
        Evidence(
            "slice", "carrier=WN auc", REFUSES,
            "cannot be compared: 0.7 on 200 rows, at least 0.6, staging-1 has no such number",
        ),
        Evidence(
            "slice", "carrier=UA auc", REFUSES,
            "dropped too far: 0.7 on 200 rows, at least 0.6, staging-1 has 0.8, may drop by 0.05",
        ),
        Evidence(
            "slice", "carrier=AA auc", HOLDS, "0.7 on 500 rows, at least 0.6, staging-1 has 0.72, may drop by 0.05"
        ),
    ]  # fmt: skip


def test_comparison_of_slices_without_what_is_live_is_noted_and_bounds_are_judged(gate: Gate) -> None:
    slice_case(gate, AA=Measured(500, {"auc": 0.7}))
    assert judge_slices(gate, MetricLimits(min=0.6, max_drop=0.05)) == [
        Evidence("slice", "carrier auc", NOTED, "no live release to compare with"),
        Evidence("slice", "carrier=AA auc", HOLDS, "0.7 on 500 rows, at least 0.6"),
    ]
    gate.release()
    assert judge_slices(gate, MetricLimits(max_drop=0.05)) == [
        Evidence(
            "slice", "carrier auc", REFUSES, "cannot be compared with staging-1 on the same data: it was not scored"
        )
    ]


def test_slices_of_which_nothing_can_be_judged_refuse(gate: Gate) -> None:
    slice_case(gate, AA=Measured(99, {"auc": 0.7}))
    for slice_limits, sentence in (
        (SliceLimits(AUC), "none of its 1 values has 100 rows"),
        (SliceLimits({}), "the environment sets no limit: give [gates.slices.carrier] a metrics.<name>"),
    ):
        (found,) = gate.judge(slices={"carrier": slice_limits})
        assert (found.subject, found.finding) == ("carrier", REFUSES)
        assert found.detail.startswith(f"nothing was judged: {sentence}")
    gate.evaluation = Evaluation(columns={"carrier": "no column"}, candidate=scored())
    assert judge_slices(gate, MetricLimits(min=0.6))[0].detail == "nothing was judged: no column"
    (found,) = gate.judge(source=None, slices={"carrier": SliceLimits(AUC)})
    assert found.detail.startswith("nothing was judged: give [gates.evaluation]")


def test_metric_without_a_limit_in_a_slice_refuses(gate: Gate) -> None:
    slice_case(gate, AA=Measured(500, {"auc": 0.7}))
    (found,) = judge_slices(gate, MetricLimits())
    assert (found.subject, found.finding) == ("carrier auc", REFUSES)


def test_what_holds_is_summed_up_beyond_fifty_values_and_what_refuses_is_not(gate: Gate) -> None:
    slice_case(gate, **{f"v{n:02}": Measured(100 + n, {"auc": 0.5 + n / 1000}) for n in range(90)})
    found = judge_slices(gate, MetricLimits(min=0.52))
    assert [each.finding for each in found] == [REFUSES] * 20 + [HOLDS] * 31
    assert [each.subject for each in found[:-1]] == [f"carrier=v{n:02} auc" for n in range(50)]
    assert found[-1] == Evidence(
        "slice", "carrier auc, further values", HOLDS,
        "40 further values hold; nearest to its limit is carrier=v50 auc: 0.55 on 150 rows, at least 0.52",
    )  # fmt: skip
    refused = judge_slices(gate, MetricLimits(min=0.99))
    assert [each.finding for each in refused] == [REFUSES] * 90


PAGE = (Path(__file__).parents[1] / "docs/gates.md").read_text(encoding="utf-8")


def test_page_on_gates_says_for_each_measure_which_way_is_better() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (larger|smaller) \|", PAGE, re.MULTILINE))
    assert rows == {name: "larger" if is_larger_better(name) else "smaller" for name in MEASURES}


def test_page_on_gates_has_every_kind_of_evidence() -> None:
    said = re.findall(r"`(\w+)`", (Evidence.__doc__ or "").partition("kind:")[2].partition("subject:")[0])
    rows = re.findall(r"^\| `(\w+)` \| (?!larger|smaller)", PAGE, re.MULTILINE)
    assert set(WAIVABLE) < set(said) == set(rows)


def test_environment_of_the_page_on_gates_is_read() -> None:
    block = textwrap.dedent("\n".join(line for line in PAGE.splitlines() if line.startswith("    ") or not line))
    gates = decode_environment(tomllib.loads(block) | {"name": "staging"}, "gates.md").gates
    assert gates.evaluation == EvaluationSource("evaluation.parquet", "is_late", "p_late")
    assert gates.metrics["brier"] == MetricLimits(max=0.19, max_drop=0.005)
    assert gates.slices == {"carrier": SliceLimits({"auc": MetricLimits(min=0.65, max_drop=0.03)}, 1000)}
