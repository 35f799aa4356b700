"""The coreset against its plain twin, brute force and the properties of a greedy k-centre."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.kernels import coreset
from adcore.kernels.coreset import greedy_k_centre
from adcore.kernels.pruning import Distances, squared


def naive(points, k, start):
    """The plain algorithm, float64: every distance, every pick."""
    points = points.astype(np.float64)
    picks = [start]
    nearest = ((points - points[start]) ** 2).sum(1)
    while len(picks) < k and nearest.max() > 0:
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[picks[-1]]) ** 2).sum(1))
    return picks, np.sqrt(nearest.max())


def measured(points, k, start):
    """The plain algorithm on distances as the kernel rounds them: every pair, every pick."""

    def to(centre):
        return np.array([squared(points, x, points, centre) for x in range(len(points))], np.float32)

    picks, nearest = [start], to(start)
    while len(picks) < k and nearest.max() > 0:
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, to(picks[-1]))
    return picks, float(np.sqrt(float(nearest.max())))


def clusters(count, dims, seed, spread=0.1):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((7, dims))
    return (centres[random.integers(7, size=count)] + spread * random.standard_normal((count, dims))).astype(np.float32)


def test_line():
    picks, radius = greedy_k_centre(np.array([[0.0], [1.0], [10.0]], np.float32), 2, 0)
    assert picks.tolist() == [0, 2]
    assert radius == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 60), st.integers(2, 8), st.integers(0, 10**6))
def test_lattice_points_and_their_ties_equal_the_plain_twin(count, dims, k, side, seed):
    # Small integers have exact float32 distances, so that ties are real and every pick must agree.
    random = np.random.default_rng(seed)
    points = random.integers(side, size=(count, dims)).astype(np.float32)
    k, start = min(k, count), int(random.integers(count))
    picks, radius = greedy_k_centre(points, k, start)
    expected, expected_radius = naive(points, k, start)
    assert picks.tolist() == expected
    assert radius == pytest.approx(expected_radius, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 150),
    st.integers(1, 80),
    st.integers(1, 150),
    st.integers(1, 20),
    st.sampled_from(["lattice", "cluster", "noise", "copies"]),
    st.sampled_from([1e-22, 1.0, 1e18]),
    st.integers(0, 10**6),
)
def test_picks_and_radius_equal_the_plain_twin_bit_for_bit(count, dims, k, candidates, kind, scale, seed):
    # Few candidates, so that there are many passes; scales at which squares lose bits or overflow.
    random = np.random.default_rng(seed)
    points = {
        "lattice": lambda: random.integers(3, size=(count, dims)),
        "cluster": lambda: 100 + 1e-3 * random.standard_normal((count, dims)),
        "noise": lambda: random.standard_normal((count, dims)),
        "copies": lambda: random.standard_normal((5, dims))[random.integers(5, size=count)],
    }[kind]()
    points = (points * scale).astype(np.float32)
    k, start = min(k, count), int(random.integers(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "CANDIDATES", candidates)
        picks, radius = greedy_k_centre(points, k, start)
    assert (picks.tolist(), radius) == measured(points, k, start)


def test_most_picks_need_no_pass_of_their_own(monkeypatch):
    passes = []
    lower = Distances.lower
    monkeypatch.setattr(
        Distances, "lower", lambda self, nearest, new: passes.append(len(new)) or lower(self, nearest, new)
    )
    greedy_k_centre(clusters(5000, 40, seed=3), 500, 0)
    assert len(passes) < 10
    assert sum(passes) == 499


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 30))
def test_candidates_are_the_farthest_and_then_the_first(levels, count):
    nearest = np.array(levels, np.float32)
    found, bound, other = coreset._candidates(nearest, count)
    order = sorted(range(len(levels)), key=lambda x: (-levels[x], x))
    assert found.tolist() == sorted(order[:count])
    for x in order[count:]:
        assert nearest[x] < bound or (nearest[x] == bound and x >= other)
    for x in order[:count]:
        assert nearest[x] > bound or (nearest[x] == bound and x < other)


@pytest.mark.parametrize("spread", [0.0001, 0.1, 10])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("dims", [3, 16, 17, 100])
def test_real_points_equal_the_plain_twin(dims, offset, spread):
    points = clusters(1500, dims, seed=dims, spread=spread) + np.float32(offset)
    picks, radius = greedy_k_centre(points, 200, 3)
    expected, expected_radius = naive(points, 200, 3)
    assert picks.tolist() == expected
    assert radius == pytest.approx(expected_radius, rel=1e-5)


def test_radius_never_grows_and_is_the_largest_distance():
    points = clusters(300, 20, seed=0)
    radii = []
    for k in (1, 2, 5, 20, 100, 299, 300):
        picks, radius = greedy_k_centre(points, k, 0)
        distances = np.linalg.norm(points[:, None].astype(np.float64) - points[picks], axis=2).min(1)
        assert radius == pytest.approx(distances.max(), rel=1e-5, abs=1e-7)
        radii.append(radius)
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_radius_is_within_twice_the_optimum(seed, k):
    points = np.random.default_rng(seed).standard_normal((9, 2)).astype(np.float32)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    optimum = min(distances[:, list(chosen)].min(1).max() for chosen in combinations(range(9), k))
    assert greedy_k_centre(points, k, 0)[1] <= 2 * optimum * (1 + 1e-6)


def test_repeated_points_are_picked_once():
    points = np.repeat(clusters(10, 40, seed=1), 5, axis=0)
    picks, radius = greedy_k_centre(points, 50, 7)
    assert len(np.unique(points[picks], axis=0)) == len(picks) == 10
    assert radius == 0


def test_start_is_picked_and_progress_ends_at_one():
    seen = []
    picks, _ = greedy_k_centre(clusters(500, 8, seed=2), 250, 123, seen.append)
    assert picks[0] == 123
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize(("k", "start"), [(0, 0), (4, 0), (1, 3), (1, -1)])
def test_picks_that_cannot_be(k, start):
    with pytest.raises(ValueError, match="among 3 points"):
        greedy_k_centre(np.eye(3, dtype=np.float32), k, start)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite(bad):
    points = np.eye(3, dtype=np.float32)
    points[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        greedy_k_centre(points, 2, 0)
