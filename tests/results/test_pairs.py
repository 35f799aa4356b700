"""All pairs at once: DeLong's test written out, paired bootstrap of known draws, Holm of statsmodels."""

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from adcore.results.pairs import bootstrapped, corrected, delong


def test_delong_is_a_z_test_of_the_difference():
    covariance = np.array([[0.0009, 0.0005], [0.0005, 0.0016]])
    difference = np.array([[0.0, 0.06], [-0.06, 0.0]])
    low, high, p = delong(difference, covariance)
    spread = math.sqrt(0.0009 + 0.0016 - 2 * 0.0005)
    assert p[0, 1] == p[1, 0] == pytest.approx(2 * scipy.stats.norm.sf(0.06 / spread))
    assert (low[0, 1], high[0, 1]) == pytest.approx(scipy.stats.norm.interval(0.95, 0.06, spread))
    assert low[1, 0] == -high[0, 1]


def test_delong_of_equal_ones_is_certain_of_nothing_and_of_unknown_ones_knows_nothing():
    p = delong(np.zeros((2, 2)), np.full((2, 2), 0.001))[2]
    assert (p == 1).all()
    assert np.isnan(delong(np.full((1, 1), 0.1), np.full((1, 1), np.nan))[2]).all()
    assert delong(np.array([[0.0, 0.5], [-0.5, 0.0]]), np.zeros((2, 2)))[2][0, 1] == 0


def test_paired_bootstrap_cancels_what_two_contenders_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 4000)
    draws = np.array([shared + rng.normal(0.02, 0.01, 4000), shared])
    low, high, p = bootstrapped(draws)
    assert (low[0, 1], high[0, 1]) == pytest.approx(scipy.stats.norm.interval(0.95, 0.02, 0.01), abs=0.001)
    assert (low[1, 0], high[1, 0]) == pytest.approx((-high[0, 1], -low[0, 1]))
    assert p[0, 1] == p[1, 0] == pytest.approx(2 * scipy.stats.norm.sf(2), abs=0.01)
    assert p[0, 0] == 1


def test_paired_bootstrap_never_gives_a_p_of_zero_and_passes_on_what_is_unknown():
    draws = np.array([np.full(999, 0.9), np.full(999, 0.8), np.full(999, np.nan)])
    p = bootstrapped(draws)[2]
    assert p[0, 1] == 2 / 1000 and np.isnan(p[0, 2]) and np.isnan(p[2, 1])


def test_all_pairs_are_corrected_once():
    p = np.array([[np.nan, 0.01, 0.04], [0.01, np.nan, 0.03], [0.04, 0.03, np.nan]])
    found = corrected(p)
    assert found[np.triu_indices(3, 1)].tolist() == pytest.approx(multipletests([0.01, 0.04, 0.03], method="holm")[1])
    assert np.array_equal(found, found.T, equal_nan=True) and np.isnan(np.diag(found)).all()
