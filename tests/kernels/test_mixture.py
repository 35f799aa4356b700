"""Mixtures of Gaussians against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture

from adcore.kernels import mixture

RIDGE = 0.05


def rows(count=300, dims=4, groups=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, dims, dims, generator=random)
    centres = 2 * torch.randn(groups, dims, generator=random)
    which = torch.randint(groups, (count,), generator=random)
    return centres[which] + torch.einsum("nd,nde->ne", torch.randn(count, dims, generator=random), mixing[which])


def shares(count=300, groups=3, seed=1):
    return torch.rand(count, groups, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)


def covariances(found):
    inverse = np.linalg.inv(found.gaussians.whitener.double().numpy())
    return inverse @ inverse.transpose(0, 2, 1)


def scikit_learns(x, begun, rounds, tolerance=0.0):
    model = GaussianMixture(
        len(begun.weights),
        tol=tolerance,
        reg_covar=RIDGE,
        max_iter=rounds,
        weights_init=begun.weights.numpy(),
        means_init=begun.gaussians.mean.double().numpy(),
        precisions_init=np.linalg.inv(covariances(begun)),
    )
    return model.fit(x.double().numpy())


def test_log_densities_are_scipys():
    found = mixture.maximised(rows(), shares(), RIDGE)
    asked = rows(seed=2)
    expected = [
        multivariate_normal(mean, covariance).logpdf(asked.double().numpy())
        for mean, covariance in zip(found.gaussians.mean.double().numpy(), covariances(found), strict=True)
    ]
    np.testing.assert_allclose(found.gaussians.log_densities(asked).T, expected, rtol=1e-4)


def test_a_round_of_given_shares_is_weighted_numpy():
    x, given = rows(), shares()
    found = mixture.maximised(x, given, RIDGE)
    for k, share in enumerate(given.T.numpy()):
        expected = np.cov(x.double().numpy(), rowvar=False, aweights=share, ddof=0) + RIDGE * np.eye(4)
        np.testing.assert_allclose(covariances(found)[k], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.gaussians.mean[k], np.average(x, axis=0, weights=share), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.weights, given.mean(0))


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize("rounds", [1, 2, 20])
def test_expectation_maximisation_is_scikit_learns(rounds):
    x, begun = rows(), mixture.maximised(rows(), shares(), RIDGE)
    found, theirs = mixture.fitted(x, begun, RIDGE, rounds, -1.0), scikit_learns(x, begun, rounds)
    np.testing.assert_allclose(found.weights, theirs.weights_, rtol=1e-3)
    np.testing.assert_allclose(found.gaussians.mean, theirs.means_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(covariances(found), theirs.covariances_, rtol=1e-3, atol=1e-3)


def test_it_stops_where_scikit_learn_stops():
    x, begun = rows(), mixture.maximised(rows(), shares(), RIDGE)
    theirs = scikit_learns(x, begun, 200, tolerance=1e-3)
    found = mixture.fitted(x, begun, RIDGE, 200, 1e-3)
    np.testing.assert_allclose(found.weights, theirs.weights_, rtol=1e-3)


def test_an_offset_changes_no_distance():
    x = rows()
    plain, moved = (mixture.maximised(x + offset, shares(), RIDGE).gaussians for offset in (0, 1000))
    expected = plain.squared_distances(x)
    torch.testing.assert_close(moved.squared_distances(x + 1000), expected, rtol=1e-2, atol=1e-2)


def test_blocks_change_nothing(monkeypatch):
    x, given = rows(), shares()
    whole = mixture.maximised(x, given, RIDGE)
    expected = whole.joint(x)
    monkeypatch.setattr(mixture, "BLOCK", 1)
    torch.testing.assert_close(mixture.maximised(x, given, RIDGE).joint(x), expected, rtol=1e-5, atol=1e-5)


def test_a_gaussian_that_has_nothing_takes_no_part():
    x, given = rows(), torch.zeros(300, 2, dtype=torch.float64)
    given[:, 0] = 1
    joint = mixture.maximised(x, given, RIDGE).joint(x)
    assert joint[:, 1].eq(-torch.inf).all()
    assert joint[:, 0].isfinite().all()


@pytest.mark.parametrize(("count", "dims"), [(300, 4), (5, 8), (2, 1), (3, 2)])
def test_shrunk_covariances_are_scikit_learns(count, dims):
    x = rows(count, dims)
    mean, covariance = mixture.ledoit_wolf(x)
    np.testing.assert_allclose(covariance, LedoitWolf().fit(x.double().numpy()).covariance_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mean, x.double().numpy().mean(0))


def test_equal_rows_have_no_covariance():
    assert (mixture.ledoit_wolf(torch.ones(5, 3))[1] == 0).all()


def test_blocks_of_a_shrunk_covariance_change_nothing(monkeypatch):
    whole = mixture.ledoit_wolf(rows())[1]
    monkeypatch.setattr(mixture, "BLOCK", 1)
    torch.testing.assert_close(mixture.ledoit_wolf(rows())[1], whole)
