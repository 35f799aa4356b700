"""Nearest neighbours against scipy, with faiss and without."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from adcore.kernels import nearest as module
from adcore.kernels.nearest import nearest


@pytest.fixture(params=["faiss", "product"], autouse=True)
def backend(request, monkeypatch):
    if request.param == "product":
        monkeypatch.setattr(module, "_has_faiss", lambda: False)
    elif not module._has_faiss():
        pytest.skip("faiss is not installed")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize(("queries", "bank", "dims"), [(300, 200, 30), (5, 9, 1), (1, 2000, 100)])
def test_equals_scipy(queries, bank, dims, k):
    queries, bank = normal(queries, dims), normal(bank, dims, seed=1)
    distances, indices = nearest(queries, bank, k)
    expected = cdist(queries.double(), bank.double())
    order = expected.argsort(1)[:, :k]
    np.testing.assert_allclose(distances, np.take_along_axis(expected, order, 1), rtol=1e-5)
    np.testing.assert_array_equal(indices, order)


def test_a_row_of_the_bank_is_at_exactly_zero_even_far_from_the_origin():
    bank = 1000 + 0.01 * normal(500, 64)  # products of such rows lose all their differences to rounding
    distances, indices = nearest(bank, bank, 1)
    assert (distances == 0).all()
    assert indices.flatten().tolist() == list(range(500))


def test_blocks_change_nothing(monkeypatch):
    queries, bank = normal(100, 16), normal(50, 16, seed=1)
    whole = nearest(queries, bank, 3)
    monkeypatch.setattr(module, "BLOCK", 7 * 16 * 3)
    for a, b in zip(whole, nearest(queries, bank, 3), strict=True):
        assert torch.equal(a, b)


def test_bank_smaller_than_k():
    with pytest.raises(ValueError, match="3 neighbours in a bank of 2"):
        nearest(normal(4, 5), normal(2, 5), 3)
