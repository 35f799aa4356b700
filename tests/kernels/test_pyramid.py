"""Nearest positions of a pyramid against scipy on the joined features."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn.functional import interpolate

from adcore.kernels import pyramid

EVEN = [(5, 8, 8), (7, 4, 4), (9, 2, 2)]
ODD = [(5, 15, 9), (7, 8, 5), (9, 3, 3)]  # families of one, two and more
ALIKE = [(6, 5, 4), (3, 5, 4)]  # of a transformer
ONE = [(4, 3, 5)]


def maps(count, shapes, seed):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random) for shape in shapes]


def joined(levels):
    """Each level enlarged to the next finer grid, and so on to the finest: (B, positions, channels)."""
    found = levels[-1]
    for finer in levels[-2::-1]:
        found = torch.cat([finer, interpolate(found, size=finer.shape[2:], mode="nearest")], 1)
    return found.flatten(2).transpose(1, 2).double().numpy()


def found(query, bank, images):
    orders = pyramid.families([tuple(level.shape[2:]) for level in query])
    rows = [[pyramid.arranged(level, order) for level, order in zip(x, orders, strict=True)] for x in (query, bank)]
    return pyramid.nearest_squared([level[0] for level in rows[0]], rows[1], torch.tensor(images), orders)


@pytest.mark.parametrize("shapes", [EVEN, ODD, ALIKE, ONE])
def test_equals_a_search_of_the_joined_features(shapes):
    query, bank, images = maps(1, shapes, 0), maps(6, shapes, 1), [4, 1, 2]
    expected = cdist(joined(query)[0], joined(bank)[images].reshape(-1, sum(c for c, _, _ in shapes)), "sqeuclidean")
    np.testing.assert_allclose(found(query, bank, images), expected.min(1), rtol=1e-5)


@pytest.mark.parametrize("block", [1, 200, 3000])
def test_blocks_change_nothing(block, monkeypatch):
    query, bank = maps(1, ODD, 0), maps(5, ODD, 1)
    whole = found(query, bank, [0, 1, 2, 3, 4])
    monkeypatch.setattr(pyramid, "BLOCK", block)
    torch.testing.assert_close(found(query, bank, [0, 1, 2, 3, 4]), whole)


def test_an_image_of_the_bank_is_at_zero():
    bank = maps(3, EVEN, 1)
    np.testing.assert_allclose(found([level[1:2] for level in bank], bank, [0, 1, 2]), 0, atol=1e-5)


def test_rounding_never_makes_a_distance_negative():
    bank = [1000 + level for level in maps(3, EVEN, 1)]
    assert (found([level[1:2] for level in bank], bank, [0, 1, 2]) >= 0).all()


def test_the_finest_grid_comes_first():
    with pytest.raises(ValueError, match=r"a grid of \(4, 4\) stands behind one of \(2, 2\); the finest comes first"):
        pyramid.families([(2, 2), (4, 4)])
