"""Measures agree with scikit-learn's and with the worked example's, and say why they are undefined."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from kit.errors import UsageError
from kit.measures import MEASURES, auc, calibration_error, is_larger_better, log_loss, measure, measure_each

sys.path.insert(0, str(Path(__file__).parents[1] / "notebooks"))

import delay_model

# few different scores, so that there are ties; both classes at least once
ROWS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.9, 1.0])), max_size=60).map(
    lambda rows: [(0, 0.25), (1, 0.5), *rows]
)


def draw(n_rows: int = 5000, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    scores = random.beta(2, 5, n_rows).astype(dtype)
    return random.random(n_rows) < scores, scores


@given(ROWS)
def test_measures_of_any_rows_agree_with_scikit_learn(rows: list[tuple[int, float]]) -> None:
    labels, scores = (np.array(each) for each in zip(*rows, strict=True))
    expected = {
        "auc": sklearn_metrics.roc_auc_score(labels, scores),
        "accuracy": sklearn_metrics.accuracy_score(labels, scores >= 0.5),
        "log_loss": sklearn_metrics.log_loss(labels, scores),
        "brier": sklearn_metrics.brier_score_loss(labels, scores),
        "calibration_error": delay_model.calibration_error(labels, scores),
        "mae": sklearn_metrics.mean_absolute_error(labels, scores),
        "rmse": sklearn_metrics.root_mean_squared_error(labels, scores),
    }
    assert measure(labels, scores) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_measures_of_float32_scores_agree_with_what_the_worked_example_records() -> None:
    labels, scores = draw()
    scores[:3] = [0.0, 1.0, 1.0]  # clipped in float32's own precision
    labels[:3] = [True, False, True]
    recorded = delay_model.measure(labels, scores)
    assert {name: measure(labels, scores)[name] for name in recorded} == pytest.approx(recorded, rel=1e-6)


def test_log_loss_of_a_certain_error_is_that_of_the_smallest_step() -> None:
    assert log_loss(np.array([1]), np.array([0.0], np.float32)) == pytest.approx(-np.log(np.finfo(np.float32).eps))
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_calibration_error_of_fewer_rows_than_bins_is_defined() -> None:
    assert calibration_error(np.array([0, 1]), np.array([0.25, 0.5])) == pytest.approx((0.25 + 0.5) / 2)


def test_auc_does_not_depend_on_the_scale_of_scores() -> None:
    labels, scores = draw(dtype=np.float64)
    assert auc(labels, 100 * np.log(scores)) == auc(labels, scores)


def test_of_one_class_all_but_auc_is_defined() -> None:
    defined, undefined = measure_each(np.ones(3), np.array([0.5, 0.7, 0.9]))
    assert set(defined) == set(MEASURES) - {"auc"}
    assert undefined == {"auc": "all 3 labels are 1; both 0 and 1 are needed"}


def test_scores_that_are_no_probabilities_leave_auc_and_errors() -> None:
    defined, undefined = measure_each(np.array([0, 1, 1]), np.array([-1.0, 0.5, 3.0]))
    assert set(defined) == {"auc", "mae", "rmse"}
    assert set(undefined.values()) == {"scores must be probabilities, in [0, 1]; 2 of 3 are not"}


def test_labels_of_a_regression_leave_errors() -> None:
    labels, scores = np.array([1.5, 2.0, 4.0]), np.array([1.0, 2.0, 2.0])
    assert measure(labels, scores) == pytest.approx({"mae": 2.5 / 3, "rmse": (4.25 / 3) ** 0.5})
    assert measure_each(labels, scores)[1]["auc"] == "labels must be 0 or 1; 3 of 3 are neither"


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("labels", "scores", "sentence"),
    [
        ([], [], "there are no rows"),
        ([0, 1], [0.5], r"of one shape \(n,\); found \[2\] and \[1\]"),
        ([[0], [1]], [[0.5], [0.5]], r"found \[2, 1\] and \[2, 1\]"),
        ([0, 1], [0.5, np.nan], "1 of 2 scores are not finite"),
        ([0, np.inf], [0.5, 0.5], "1 of 2 labels are not finite"),
    ],
)
def test_no_measure_is_defined_for_broken_rows(name: str, labels: list, scores: list, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        MEASURES[name](np.array(labels, float), np.array(scores, float))


def test_losses_and_errors_are_better_when_smaller_and_all_else_when_larger() -> None:
    directions = {name: is_larger_better(name) for name in [*MEASURES, "gini", "auc_gain"]}
    smaller = {"log_loss", "brier", "calibration_error", "mae", "rmse"}
    assert {name for name, larger in directions.items() if not larger} == smaller


def test_importing_measures_does_not_import_numpy() -> None:
    code = "import sys, kit.measures; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
