"""Jigsaw puzzles: labels, inverses, and the sets of permutations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.core.draws import generator
from adcore.vision.jigsaw import jigsaw, jitter_tiles, permutations, shuffle_tiles, unshuffle_tiles


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_inverse_restores_the_image_exactly(n: int, high: int, wide: int, random) -> None:
    image = np.random.default_rng(random.randrange(100)).integers(0, 256, (3, n * high, n * wide), np.uint8)
    permutation = np.array(random.sample(range(n * n), n * n))
    assert (unshuffle_tiles(shuffle_tiles(image, permutation), permutation) == image).all()


def test_the_label_is_the_permutation_applied_and_not_its_inverse() -> None:
    numbered = np.arange(9, dtype=np.uint8).reshape(3, 3).repeat(4, 0).repeat(4, 1)[None].repeat(3, 0)
    permutation = np.array([1, 2, 0, 3, 4, 5, 6, 7, 8])  # not its own inverse
    found = shuffle_tiles(numbered, permutation)
    assert (found[0, ::4, ::4].ravel() == permutation).all()
    assert (np.unique(found) == np.arange(9)).all()


def test_a_puzzle_is_its_jittered_tiles_in_the_order_of_its_label(texture: np.ndarray) -> None:
    classes = permutations(3, 30, 0)
    for index in range(40):
        image, label = jigsaw(texture, classes, generator(0, index))
        rng = generator(0, index)
        assert rng.integers(31) == label
        assert (unshuffle_tiles(image, classes[label]) == jitter_tiles(texture, 3, rng)).all()


def test_the_identity_class_returns_the_image(texture: np.ndarray) -> None:
    assert (permutations(3, 30, 0)[0] == np.arange(9)).all()
    assert (shuffle_tiles(texture, permutations(3, 30, 0)[0]) == texture).all()


def test_labels_are_uniform() -> None:
    image, classes = np.zeros((3, 6, 6), np.uint8), permutations(3, 9, 0)
    labels = [jigsaw(image, classes, generator(0, index))[1] for index in range(2000)]
    counts = np.bincount(labels, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_an_image_that_cannot_be_cut_says_what_can(texture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"96 x 95 .* 4 x 4 .* resize it to 96 x 92"):
        shuffle_tiles(texture[:, :, :95], np.arange(16))


def test_jitter_keeps_each_tile_in_its_place() -> None:
    numbered = (20 * np.arange(9, dtype=np.uint8)).reshape(3, 3).repeat(8, 0).repeat(8, 1)[None].repeat(3, 0)
    assert (jitter_tiles(numbered, 3, generator(0)) == numbered).all()  # flat tiles: cropping changes nothing


def test_jitter_crops_by_a_tenth_at_most_and_turns_a_tenth_grey() -> None:
    side = 60
    ramp = np.stack([np.broadcast_to(np.arange(side), (side, side))] * 2 + [np.full((side, side), 200)]).astype(
        np.uint8
    )
    made = [jitter_tiles(ramp, 1, generator(0, index)) for index in range(500)]
    grey = [(image == image[0]).all() for image in made]
    assert 0.06 < np.mean(grey) < 0.14
    spans = [
        np.ptp(image[0].astype(int)) / (side - 1) for image, is_grey in zip(made, grey, strict=True) if not is_grey
    ]
    assert 0.87 < min(spans) < 0.92 and max(spans) > 0.98


@pytest.mark.parametrize("kind", ["random", "max_hamming"])
@pytest.mark.parametrize(("n", "count"), [(2, 1), (2, 23), (3, 30), (4, 10)])
def test_sets_hold_distinct_permutations_and_follow_the_seed(kind, n: int, count: int) -> None:
    rows = permutations(n, count, 0, kind)
    assert rows.shape == (count + 1, n * n)
    assert (np.sort(rows, axis=1) == np.arange(n * n)).all()
    assert len(np.unique(rows, axis=0)) == count + 1
    assert (rows == permutations(n, count, 0, kind)).all()
    assert (rows != permutations(n, count, 1, kind)).any() or math.factorial(n * n) == count + 1


def test_more_permutations_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 x 2 tiles have 23 permutations beside the identity, not 24"):
        permutations(2, 24, 0)
    with pytest.raises(ValueError, match="not 0"):
        permutations(3, 0, 0)


def apart(rows: np.ndarray) -> np.ndarray:
    return (rows[:, None] != rows[None]).sum(-1)


@pytest.mark.parametrize("seed", range(3))
def test_max_hamming_takes_a_farthest_candidate_at_every_step(seed: int) -> None:
    everything = np.array(list(itertools.permutations(range(4))))
    rows = permutations(2, 12, seed, "max_hamming")
    for step in range(1, len(rows)):
        chosen = rows[:step]
        left = [row for row in everything if not (row == chosen).all(1).any()]
        best = max(((row != chosen).sum(), (row != chosen).sum(1).min()) for row in left)
        assert ((rows[step] != chosen).sum(), (rows[step] != chosen).sum(1).min()) == best


def test_max_hamming_finds_the_best_set_of_four() -> None:
    """By brute force over all sets of the identity and three others."""
    everything = np.array(list(itertools.permutations(range(4))))
    best = max(apart(everything[[0, *others]]).sum() for others in itertools.combinations(range(1, 24), 3))
    assert apart(permutations(2, 3, 0, "max_hamming")).sum() == best == 12 * 4


def test_max_hamming_sets_are_farther_apart_than_random_ones() -> None:
    far, random = (apart(permutations(3, 30, 0, kind)) for kind in ("max_hamming", "random"))
    upper = np.triu_indices(31, 1)
    assert far[upper].mean() > random[upper].mean() and far[upper].min() >= random[upper].min()
