"""Principal components against scikit-learn's, from more rows than dimensions and from fewer."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from adcore.methods import _pca

SHAPES = [(300, 20), (21, 20), (20, 20), (9, 50), (2, 5)]


def rows(samples, dims, seed=0):
    """Of directions that vary unlike, far from the origin."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(samples, dims)) * np.linspace(2, 0.1, dims) @ random.normal(size=(dims, dims))
    return torch.from_numpy(values + 100).float()


def fit(values, block=7):
    return _pca.fit(values.split(block), *values.shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_variances_are_sklearns(shape):
    values = rows(*shape)
    expected = PCA().fit(values.double().numpy()).explained_variance_ * (shape[0] - 1) / shape[0]
    np.testing.assert_allclose(fit(values).variances, expected[: min(shape[0] - 1, shape[1])], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_as_many_components_explain_a_share_as_sklearn_takes(shape, share):
    values = rows(*shape)
    assert fit(values).kept(share) == PCA(share, svd_solver="full").fit(values.double().numpy()).n_components_


@pytest.mark.parametrize("shape", SHAPES)
def test_the_residual_is_what_sklearns_reconstruction_leaves(shape):
    values, other = rows(*shape), rows(6, shape[1], seed=1)
    theirs, ours = PCA(0.9, svd_solver="full").fit(values.double().numpy()), fit(values)
    expected = other.numpy() - theirs.inverse_transform(theirs.transform(other.double().numpy()))
    np.testing.assert_allclose(ours.residual(other, ours.kept(0.9)), expected, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_coordinates_are_sklearns_but_for_their_signs(shape):
    values, other = rows(*shape), rows(6, shape[1], seed=1)
    theirs, ours = PCA(0.9, svd_solver="full").fit(values.double().numpy()), fit(values)
    expected = theirs.transform(other.double().numpy())
    np.testing.assert_allclose(ours.coordinates(other, ours.kept(0.9)).abs(), np.abs(expected), atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_fitted_is_explained_at_full_rank(shape):
    values = rows(*shape)
    subspace = fit(values)
    np.testing.assert_allclose(subspace.residual(values, subspace.kept(1.0)), 0, atol=1e-3)


@pytest.mark.parametrize("shape", [(300, 20), (9, 50)])
def test_blocks_change_nothing(shape, monkeypatch):
    values = rows(*shape)
    whole = fit(values, block=1000)
    monkeypatch.setattr(_pca, "BLOCK", 64)
    np.testing.assert_allclose(fit(values, block=2).variances, whole.variances, rtol=1e-6)


@pytest.mark.parametrize("shape", [(300, 20), (9, 50)])
def test_rows_that_span_a_plane_have_two_components(shape):
    random = torch.Generator().manual_seed(0)
    places, axes = (torch.randint(-9, 10, sides, generator=random).float() for sides in ((shape[0], 2), (2, shape[1])))
    plane = places @ axes + 50  # whole numbers, which float32 holds as they are
    assert fit(plane).kept(1.0) == 2


@pytest.mark.parametrize("samples", [1, 3])
def test_rows_without_variance_have_no_component(samples):
    values = torch.full((samples, 4), 3.0)
    assert fit(values).kept(0.97) == 0
    assert (fit(values).residual(values + 1, 0) == 1).all()


@pytest.mark.parametrize("shape", [(300, 20), (9, 50)])
def test_the_bytes_are_those_of_the_tensors(shape):
    assert _pca.subspace_bytes(*shape) == sum(tensor.nbytes for tensor in fit(rows(*shape)))
