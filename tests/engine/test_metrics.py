"""Metrics against figures worked out by hand."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from engine.metrics import classification_metrics, quantile_metrics, regression_metrics


def test_classification_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    p = np.array(
        [
            [0.7, 0.2, 0.1],  # right
            [0.6, 0.3, 0.1],  # right
            [0.1, 0.8, 0.1],  # taken for class 1
            [0.2, 0.5, 0.3],  # right
            [0.1, 0.1, 0.8],  # taken for class 2
            [0.2, 0.2, 0.6],  # right
        ]
    )
    assert classification_metrics(p, labels) == pytest.approx(
        {
            "accuracy": 4 / 6,
            "balanced_accuracy": (2 / 3 + 1 / 2 + 1) / 3,
            "macro_f1": (4 / 5 + 2 / 4 + 2 / 3) / 3,
            "log_loss": -(log(0.7) + log(0.6) + log(0.1) + log(0.5) + log(0.1) + log(0.6)) / 6,
            "auc": (6.5 / 9 + 3 / 8 + 4 / 5) / 3,
        }
    )


def test_a_class_that_does_not_occur_counts_only_where_it_is_predicted():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    metrics = classification_metrics(p, labels)
    assert metrics["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    never = classification_metrics(np.array([[0.9, 0.1, 0.0]]), np.array([0]))
    assert never["balanced_accuracy"] == never["macro_f1"] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_zero_does_not_make_the_log_loss_infinite(dtype):
    metrics = classification_metrics(np.array([[1, 0]], dtype=dtype), np.array([1]))
    assert metrics["log_loss"] == pytest.approx(-log(np.finfo(dtype).eps))


def test_a_guesser_has_the_log_loss_of_the_number_of_classes():
    metrics = classification_metrics(np.full((8, 4), 0.25), np.arange(8) % 4)
    assert metrics["log_loss"] == pytest.approx(log(4))


def test_regression_by_hand():
    predictions, targets = np.array([[1.0], [2.0], [6.0]]), np.array([[1.0], [4.0], [7.0]])
    assert regression_metrics(predictions, targets) == pytest.approx(
        {
            "mae": (0 + 2 + 1) / 3,
            "rmse": sqrt((0 + 4 + 1) / 3),
            "r2": 1 - 5 / 18,
            "mape": (0 + 2 / 4 + 1 / 7) / 3,
        }
    )


def test_several_targets_count_alike():
    targets = np.array([[0.0, 0.0], [2.0, 200.0]])
    predictions = np.array([[0.0, 100.0], [2.0, 100.0]])
    metrics = regression_metrics(predictions, targets)
    assert metrics["r2"] == pytest.approx((1 + 0) / 2)
    assert metrics["mae"] == pytest.approx(50)


def test_quantiles_by_hand():
    predictions = np.array([[[1.0, 3.0]], [[2.0, 2.5]]])
    metrics = quantile_metrics(predictions, np.array([[3.0], [1.0]]), (0.1, 0.9))
    losses = [0.1 * 2, 0.0, 0.9 * 1, 0.1 * 1.5]
    assert metrics == {"pinball_loss": pytest.approx(sum(losses) / 4), "coverage": 0.5}
    one = quantile_metrics(predictions[:, :, :1], np.array([[3.0], [1.0]]), (0.1,))
    assert one == {"pinball_loss": pytest.approx((losses[0] + losses[2]) / 2)}


def test_the_mean_as_prediction_explains_nothing(rng):
    targets = rng.standard_normal((20, 1))
    metrics = regression_metrics(np.full_like(targets, targets.mean()), targets)
    assert metrics["r2"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 1.5, 5.0])
def test_nothing_is_explained_of_a_target_that_is_constant(constant):
    targets = np.array([[1.0, constant], [2.0, constant]])
    assert set(regression_metrics(targets, targets)) - {"mape"} == {"mae", "rmse"}


def test_figures_are_python_numbers(rng):
    p = np.full((2, 2), 0.5, dtype=np.float32)
    classes = classification_metrics(p, np.array([0, 1]))
    numbers = regression_metrics(p, rng.standard_normal((2, 2)).astype(np.float32))
    assert {type(value) for value in [*classes.values(), *numbers.values()]} == {float}


@pytest.mark.parametrize("labels", [(1,), (4,), (3, 1)])
def test_labels_of_another_shape_are_refused(labels):
    with pytest.raises(ValueError, match="labels"):
        classification_metrics(np.full((3, 2), 0.5), np.zeros(labels, dtype=np.intp))


@pytest.mark.parametrize("targets", [(3,), (1, 2), (3, 1)])
def test_targets_of_another_shape_are_refused(targets):
    with pytest.raises(ValueError, match="targets"):
        regression_metrics(np.zeros((3, 2)), np.zeros(targets))
