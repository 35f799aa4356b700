"""Intervals over seeds against the normal approximation and for how often they hold the truth."""

import math

import numpy as np
import pytest

from adcore.results.seeds import seed_interval


def test_width_is_that_of_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).normal(0.9, 0.02, (15, 5))
    low, high = seed_interval(values)
    error = math.sqrt(np.sum(values.var(axis=1, ddof=1) / 5)) / 15
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.06)
    assert low < values.mean() < high


def test_it_does_not_count_that_categories_differ():
    values = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])
    assert [float(bound) for bound in seed_interval(values)] == pytest.approx([0.5, 0.5])


def test_many_at_once_are_as_each_alone():
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 3))
    low, high = seed_interval(values)
    assert low.shape == high.shape == (2, 3)
    alone = seed_interval(values[1, 2])
    assert (low[1, 2], high[1, 2]) == pytest.approx((float(alone[0]), float(alone[1])))


def test_one_seed_has_no_interval():
    assert all(np.isnan(bound) for bound in seed_interval(np.array([[0.1], [0.2]])))


def test_it_holds_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(2), 0
    hard = rng.uniform(0, 1, (10, 1))
    for _ in range(400):
        low, high = seed_interval(hard + rng.normal(0, 0.1, (10, 3)))
        held += low <= hard.mean() <= high
    assert 0.88 <= held / 400 <= 0.98
