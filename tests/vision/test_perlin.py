"""Perlin noise against a naive twin and its known properties."""

import math

import numpy as np
import pytest

from adcore.core.draws import generator
from adcore.vision.perlin import noise, perlin_mask


def naive(shape: tuple[int, int], cells: tuple[int, int], degrees: float, rng: np.random.Generator) -> np.ndarray:
    """The definition, in vectors: over the corners of a cell, fade-weighted sums of gradient . distance."""
    turn = np.array([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]])
    turn = np.concatenate([turn, [[-turn[0, 1], turn[0, 0]]]])
    steps = turn * (np.array(cells) / shape)[:, None]
    places = np.einsum("ab,bij->aij", steps, np.mgrid[: shape[0], : shape[1]])
    phase = rng.random(2)
    lowest = np.minimum(steps, 0) @ shape
    angles = rng.random([int(length) + 3 for length in np.abs(steps) @ shape]) * 2 * np.pi
    places = places + (phase - lowest)[:, None, None]
    base = np.floor(places).astype(int)
    total = np.zeros(shape)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        node = base + np.array(corner)[:, None, None]
        away = places - node
        gradient = np.stack([np.sin(angles[tuple(node)]), np.cos(angles[tuple(node)])])
        t = 1 - np.abs(away)
        total += (6 * t**5 - 15 * t**4 + 10 * t**3).prod(0) * (gradient * away).sum(0)
    return math.sqrt(2) * total


@pytest.mark.parametrize(
    ("cells", "degrees"), [((1, 1), 0), ((4, 8), 33), ((32, 2), -90), ((2, 16), 90), ((8, 8), -45)]
)
def test_noise_equals_its_definition(cells: tuple[int, int], degrees: float) -> None:
    found = noise((48, 64), cells, degrees, generator(0, cells))
    np.testing.assert_allclose(found, naive((48, 64), cells, degrees, generator(0, cells)), atol=1e-6)


def test_noise_is_centred_and_within_one() -> None:
    values = np.stack([noise((64, 64), (8, 8), 20, generator(0, i)) for i in range(50)])
    assert np.abs(values).max() <= 1 and values.max() > 0.7 and abs(values.mean()) < 0.01


def test_masks_cover_every_part_alike_corners_too() -> None:
    masks = np.stack([perlin_mask((64, 64), generator(0, i)) for i in range(1500)])
    assert masks.dtype == np.bool_
    share = masks.mean()
    assert 0.03 < share < 0.08
    quarters = masks.reshape(1500, 4, 16, 4, 16).mean((0, 2, 4))
    np.testing.assert_allclose(quarters, share, rtol=0.25)  # the outermost of a picture turned in place had none


def test_masks_come_in_all_sizes() -> None:
    areas = np.array([perlin_mask((64, 64), generator(1, i)).mean() for i in range(300)])
    assert (areas == 0).mean() < 0.1 and np.quantile(areas, 0.98) > 0.1
