"""Pruned distances against those of all pairs, bit for bit, and how few pairs are measured."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.kernels import pruning


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def structured(count, dims, seed=0, spread=0.05):
    """Points about 20 places, which vary in four directions, and by `spread` in all."""
    random = np.random.default_rng(seed)
    points = random.standard_normal((20, dims))[random.integers(20, size=count)]
    points += random.standard_normal((count, 4)) @ random.standard_normal((4, dims))
    return (points + spread * random.standard_normal((count, dims))).astype(np.float32)


def noise(count, dims, seed=0, spread=1.0):
    return (spread * np.random.default_rng(seed).standard_normal((count, dims))).astype(np.float32)


def measured(points, centres):
    """Every pair, by the function that the pruned form measures with: (N,)."""
    nearest = np.full(len(points), np.inf, np.float32)
    for centre in centres:
        found = np.empty(len(points), np.float32)
        pruning._measure(points, centre, found)
        nearest = np.minimum(nearest, found)
    return nearest


def pruned(points, batches, pool):
    distances = pruning.Distances(points, pool)
    nearest = distances.to(batches[0][0])
    for batch in batches:
        distances.lower(nearest, np.array(batch))
    return nearest, distances.work


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 90),
    st.sampled_from([structured, noise]),
    st.sampled_from([1e-30, 1e-22, 1e-3, 1.0, 1e15, 1e18, 1e30]),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.integers(0, 10**6),
)
def test_distances_are_those_of_all_pairs_bit_for_bit(count, dims, kind, scale, offset, seed):
    points = ((kind(count, dims, seed) + np.float32(offset)) * np.float32(scale)).astype(np.float32)
    random = np.random.default_rng(seed)
    batches = [random.integers(count, size=int(random.integers(1, 90))) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        nearest, _ = pruned(points, batches, pool)
    assert nearest.tobytes() == measured(points, np.concatenate(batches)).tobytes()


def test_points_at_the_end_of_float32(pool):
    points = (np.sign(noise(200, 70)) * np.linspace(0.9, 1, 70) * np.finfo(np.float32).max).astype(np.float32)
    batches = [[0, 1, 2], list(range(100, 180))]
    assert pruned(points, batches, pool)[0].tobytes() == measured(points, [0, 1, 2, *range(100, 180)]).tobytes()


def test_distances_do_not_depend_on_threads_and_pieces(pool, monkeypatch):
    points, batches = structured(1000, 40), [[0], list(range(1, 1000, 9))]
    nearest = pruned(points, batches, pool)[0]
    monkeypatch.setattr(pruning, "PIECE", 100)
    assert pruned(points, batches, pool)[0].tobytes() == nearest.tobytes()


def test_structure_leaves_few_pairs_to_measure(pool):
    points = structured(4000, 200)
    _, work = pruned(points, [[0], list(range(1, 101)), list(range(101, 3000, 10))], pool)
    pairs = 4000 * 391
    assert work[-1] < 0.02 * pairs


def test_without_structure_the_whole_points_are_multiplied(pool):
    points = noise(4000, 200)
    _, work = pruned(points, [[0], list(range(1, 1001))], pool)
    assert work[pruning.WHOLE] > 0.9 * 4000 * 1000


def test_what_is_near_far_from_the_mean_is_told_apart(pool):
    # Products of rows of length 1000 cannot see a distance of 0.01; differences of sketches can.
    line = np.zeros((2000, 100), np.float32)
    line[:, 0] = np.where(np.arange(2000) % 2, 1000, -1000)
    line[:, 1] = np.linspace(0, 10, 2000)
    _, work = pruned(line, [[0, 1], np.random.default_rng(0).permutation(2000)[:1000]], pool)
    assert work[-1] < 0.1 * 2000 * 1000


def test_covered_points_are_not_measured_again(pool):
    points = np.repeat(structured(10, 30), 100, axis=0)
    _, work = pruned(points, [list(range(0, 1000, 100)), list(range(5, 1000, 100))], pool)
    assert work[-1] <= 1000 * 10
