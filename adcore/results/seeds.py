"""How far a mean over categories would move with other seeds."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 2000


def seed_interval(values: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Bootstrap interval of the mean over categories of the mean over seeds, the categories being what they are.

    values: (..., C, S) of C categories and S seeds; low and high: (...), NaN for fewer than two seeds. Seeds are drawn
    with replacement within each category. Draws of few seeds lie too close together, and are spread by sqrt(S / (S-1))
    (Hesterberg 2015, section 3.2)."""
    *shape, categories, seeds = values.shape
    if seeds < 2:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    means = values.mean(axis=(-2, -1))
    deviations = (values - means[..., None, None]).reshape(-1, categories * seeds)
    drawn = _weights(categories, seeds) @ deviations.T * math.sqrt(seeds / (seeds - 1))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return means + low.reshape(shape), means + high.reshape(shape)


@lru_cache(maxsize=8)
def _weights(categories: int, seeds: int) -> Floats:
    """(DRAWS, categories * seeds) weight of each value in each drawn mean."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, seeds, (DRAWS, categories, seeds)) + np.arange(categories)[:, None] * seeds
    drawn += np.arange(DRAWS)[:, None, None] * categories * seeds
    counts = np.bincount(drawn.ravel(), minlength=DRAWS * categories * seeds)
    return counts.reshape(DRAWS, categories * seeds) / (categories * seeds)
