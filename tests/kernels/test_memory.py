"""The memory bank and its image score."""

import numpy as np
import pytest
import torch

from adcore.core.contracts import silent
from adcore.kernels.memory import coreset_memory, reweighted


def patches(count=120, dims=200, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))


def memory(x, share, seed=0, block=50):
    return coreset_memory(lambda: x.split(block), len(x), share, seed, silent)


def test_memory_holds_whole_patches_and_as_many_as_asked():
    x = patches()
    chosen = memory(x, 0.1)
    assert chosen.shape == (12, 200)
    assert all((x == row).all(1).any() for row in chosen)
    assert len(memory(x, 0.001)) == 1
    assert len(memory(patches(100), 0.29)) == 29


def test_seed_and_block_size():
    x = patches()
    assert torch.equal(memory(x, 0.1), memory(x, 0.1))
    assert torch.equal(memory(x, 0.1), memory(x, 0.1, block=7))
    assert not torch.equal(memory(x, 0.1), memory(x, 0.1, seed=1))


def test_projection_keeps_distances_up_to_one_factor(monkeypatch):
    seen = {}

    def spy(points, k, start, progress):
        seen["points"] = points.copy()
        return np.arange(k), 0.0

    monkeypatch.setattr("adcore.kernels.memory.greedy_k_centre", spy)
    x = patches(40, 1536)
    memory(x, 0.1)
    pairs = torch.triu_indices(40, 40, offset=1)
    true = torch.cdist(x, x)[pairs[0], pairs[1]]
    projected = torch.from_numpy(seen["points"])
    assert projected.shape == (40, 128)
    ratio = torch.cdist(projected, projected)[pairs[0], pairs[1]] / true
    assert ((ratio / ratio.median() - 1).abs() < 0.3).all()


def test_image_score_by_hand():
    bank = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [50.0, 0.0]])
    image = torch.tensor([[0.0, 0.1], [3.0, 0.0]])  # the second is farther: 2 from bank[2], 3 from bank[0]
    distances, neighbours = torch.tensor([0.1, 2.0]), torch.tensor([0, 2])
    d = np.array([2.0, 3.0, np.sqrt(10)])  # of [3, 0] to the three rows nearest bank[2]
    expected = (1 - np.exp(2.0) / np.exp(d).sum()) * 2.0
    assert float(reweighted(image, distances, neighbours, bank, 3)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("b", "weight"), [(1, 1.0), (2, 1 / 2), (4, 3 / 4), (9, 3 / 4)])
def test_weight_of_equal_distances_is_one_less_than_a_bth(b, weight):
    bank = torch.eye(4)
    image = torch.full((1, 4), 200.0)  # far enough that exp alone would overflow
    distances = torch.linalg.vector_norm(image - bank, dim=1)
    score = reweighted(image, distances[:1], torch.tensor([0]), bank, b)
    torch.testing.assert_close(score, weight * distances[0], rtol=1e-5, atol=0)
