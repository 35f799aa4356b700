"""Gaussians against numpy and scipy, position by position."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

from adcore.kernels import gaussian


def samples(count=20, positions=6, dims=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(positions, dims, dims, generator=random)
    return torch.einsum("npd,pde->npe", torch.randn(count, positions, dims, generator=random), mixing)


@pytest.mark.parametrize(("count", "dims"), [(20, 5), (3, 8), (2, 1)])
def test_whitener_inverts_the_regularised_covariance(count, dims):
    x = samples(count, 6, dims)
    mean, whitener = gaussian.fit(x, 0.01)
    for p in range(6):
        covariance = np.cov(x[:, p].double().numpy(), rowvar=False).reshape(dims, dims) + 0.01 * np.eye(dims)
        inverse = np.linalg.inv(whitener[p].double().numpy())
        np.testing.assert_allclose(inverse @ inverse.T, covariance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean, x.double().mean(0), rtol=1e-5, atol=1e-6)


def test_distance_equals_scipy():
    x = samples()
    mean, whitener = gaussian.fit(x, 0.01)
    queries = samples(4, seed=1)
    distances = gaussian.mahalanobis(queries, mean, whitener)
    for p in range(6):
        inverse = np.linalg.inv(np.cov(x[:, p].double().numpy(), rowvar=False) + 0.01 * np.eye(5))
        expected = [scipy_mahalanobis(q[p], x[:, p].double().mean(0), inverse) for q in queries.double().numpy()]
        np.testing.assert_allclose(distances[:, p], expected, rtol=1e-4)


def test_zero_at_the_mean_and_one_dimension_in_closed_form():
    x = samples(dims=1)
    mean, whitener = gaussian.fit(x, 0.01)
    assert (gaussian.mahalanobis(mean[None], mean, whitener) == 0).all()
    expected = (x - x.mean(0)).abs() / (x.var(0) + 0.01).sqrt()
    torch.testing.assert_close(gaussian.mahalanobis(x, mean, whitener), expected[..., 0])


def test_mean_squared_distance_of_the_training_samples():
    x = samples(count=20, dims=5)
    plain = gaussian.mahalanobis(x, *gaussian.fit(x, 0.0)).square().mean(0)
    torch.testing.assert_close(plain, torch.full((6,), 5 * 19 / 20), rtol=1e-4, atol=0)
    ridged = gaussian.mahalanobis(x, *gaussian.fit(x, 0.01)).square().mean(0)
    for p in range(6):
        covariance = np.cov(x[:, p].double().numpy(), rowvar=False)
        expected = 19 / 20 * np.trace(np.linalg.solve(covariance + 0.01 * np.eye(5), covariance))
        assert float(ridged[p]) == pytest.approx(expected, rel=1e-4)


def test_an_offset_common_to_all_images_changes_nothing():
    x, queries = samples(), samples(4, seed=1)
    offset = 1000 * samples(1, seed=2)
    plain = gaussian.mahalanobis(queries, *gaussian.fit(x, 0.01))
    moved = gaussian.mahalanobis(queries + offset, *gaussian.fit(x + offset, 0.01))
    torch.testing.assert_close(moved, plain, rtol=1e-2, atol=1e-2)  # float32 holds 1000 + x to 6e-5


def test_blocks_change_nothing(monkeypatch):
    whole = gaussian.fit(samples(), 0.01)
    monkeypatch.setattr(gaussian, "BLOCK", 1)
    for a, b in zip(whole, gaussian.fit(samples(), 0.01), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_packing_keeps_every_bit():
    whitener = gaussian.fit(samples(), 0.01)[1]
    assert gaussian.pack(whitener).shape == (6, 15)
    assert torch.equal(gaussian.unpack(gaussian.pack(whitener)), whitener)


def test_one_sample_has_the_prior_alone():
    """Euclidean distances over the square root of epsilon."""
    x, queries = samples(count=1), samples(4, seed=1)
    distances = gaussian.mahalanobis(queries, *gaussian.fit(x, 0.01))
    torch.testing.assert_close(distances, (queries - x).norm(dim=2) / 0.1)
