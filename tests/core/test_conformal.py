"""Conformal p-values and thresholds against their definition, and what they promise against draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcore.core.conformal import Alarms, Calibration, Threshold, drift, p_values

SCORES = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=30)  # of few values, so that many are tied


@given(SCORES, SCORES)
def test_a_p_value_is_the_share_that_is_no_smaller(scores: list[float], normal: list[float]) -> None:
    expected = [(1 + sum(each >= score for each in normal)) / (1 + len(normal)) for score in scores]
    np.testing.assert_allclose(p_values(scores, normal), expected, rtol=1e-12)


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_what_is_above_the_threshold_has_at_most_the_promised_p_value(
    scores: list[float], normal: list[float], wanted: float
) -> None:
    threshold = Threshold.of(normal, wanted)
    told = np.array(scores) > threshold.value
    np.testing.assert_array_equal(told, p_values(scores, normal) <= threshold.promised + 1e-12)


@given(SCORES, st.floats(0.01, 0.99))
def test_no_more_is_promised_than_wanted_where_the_images_suffice(normal: list[float], wanted: float) -> None:
    assert Threshold.of(normal, wanted).promised <= max(wanted, 1 / (len(normal) + 1)) + 1e-9


def test_too_few_images_promise_the_least_that_they_can() -> None:
    assert Threshold.of([3.0, 1.0, 2.0], 0.01) == Threshold(3.0, 0.25)


def test_a_wanted_share_is_met_to_the_image() -> None:
    assert Threshold.of(np.arange(19.0), 0.05 + 0.05) == Threshold(17.0, 0.1)


@pytest.mark.parametrize("alarms", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(alarms: float) -> None:
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        Threshold.of([1.0], alarms)


@pytest.mark.parametrize(("count", "wanted"), [(39, 0.1), (39, 0.025), (10, 0.2)])
def test_normal_images_pass_the_threshold_as_seldom_as_promised(count: int, wanted: float) -> None:
    """The share over many draws is the promise itself, for scores without ties."""
    rng = np.random.default_rng(0)
    draws = 20_000
    normal, new = rng.standard_normal((draws, count)), rng.standard_normal(draws)
    found = [Threshold.of(row, wanted) for row in normal]
    share = np.mean(new > np.array([each.value for each in found]))
    promised = found[0].promised
    assert abs(share - promised) < 4 * np.sqrt(promised * (1 - promised) / draws)


def test_the_outcome_counts_both_errors() -> None:
    calibration = Calibration(np.arange(1.0, 10.0), np.arange(11.0, 20.0))
    alarms = Alarms.of(calibration, 0.1, [10.0, 2.0, 9.0, 9.5, 0.0], [0, 0, 1, 1, 1])
    assert (alarms.false_alarms, alarms.good, alarms.misses, alarms.bad) == (1, 2, 2, 3)
    assert (alarms.image.value, alarms.map.value, alarms.normals) == (9.0, 19.0, 9)


@pytest.mark.parametrize(("normals", "wanted", "passed"), [(39, 0.05, 200), (99, 0.01, 50)])
def test_parts_like_the_normal_ones_seem_to_drift_as_seldom_as_told(normals: int, wanted: float, passed: int) -> None:
    """Over draws of both the normal images and the parts: a p of at most a tenth in at most a tenth of them."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1500):
        normal, new = rng.standard_normal(normals), rng.standard_normal(3 * passed)
        threshold = Threshold.of(normal, wanted)
        values = p_values(new[new <= threshold.value][:passed], normal)
        found.append(drift(values, normals, threshold.promised))
    share = np.mean(np.array(found) <= 0.1)
    assert 0.05 < share < 0.1 + 4 * np.sqrt(0.09 / 1500)


def test_parts_that_moved_are_told() -> None:
    rng = np.random.default_rng(0)
    normal, new = rng.standard_normal(99), rng.standard_normal(300) + 1.0
    threshold = Threshold.of(normal, 0.05)
    assert drift(p_values(new[new <= threshold.value], normal), 99, threshold.promised) < 1e-3


def test_parts_that_score_lower_than_models_of_fewer_images_let_them_are_told_no_drift() -> None:
    """As in cross-fitting, where those models have seen a fifth less: here with PaDiM's distance in 50 dimensions."""
    rng = np.random.default_rng(0)

    def distance(train: np.ndarray, new: np.ndarray) -> np.ndarray:
        covariance = np.cov(train.T) + 0.01 * np.eye(50)
        return np.sqrt(np.einsum("ij,jk,ik->i", new - train.mean(0), np.linalg.inv(covariance), new - train.mean(0)))

    train, out = rng.standard_normal((60, 50)), np.arange(60) % 5
    normal = np.concatenate([distance(train[out != fold], train[out == fold]) for fold in range(5)])
    threshold = Threshold.of(normal, 0.05)
    new = distance(train, rng.standard_normal((200, 50)))
    assert drift(p_values(new[new <= threshold.value], normal), 60, threshold.promised) > 0.5


@pytest.mark.parametrize(("values", "normals"), [([], 99), ([0.5], 1)])
def test_too_little_tells_no_drift(values: list[float], normals: int) -> None:
    assert drift(values, normals, 1 / (normals + 1)) == 1.0
