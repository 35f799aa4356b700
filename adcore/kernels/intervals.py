"""Bootstrap intervals: of means over categories and seeds, and of the difference of two medians."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 10_000


def interval(values: pd.DataFrame, level: float = 0.95, draws: int = DRAWS) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over categories of the mean over seeds; (nan, nan) for one value.

    values: columns category, seed, value (float, not NaN). Two levels (Davison and Hinkley 1997, section 3.8):
    categories are drawn with replacement, and for each drawn one its seeds are. The same values, in whatever order
    of rows, give the same interval. Raises ValueError for a value that is NaN."""
    value = values["value"].to_numpy(dtype=np.float64)
    if np.isnan(value).any():
        raise ValueError("the column value holds NaN; drop the cells without a value before asking for an interval")
    if len(value) < 2:
        return math.nan, math.nan
    _, category, seeds = np.unique(values["category"].to_numpy(), return_inverse=True, return_counts=True)
    ordered = value[np.lexsort((values["seed"].to_numpy(), category))]
    return _percentiles(_weights(tuple(seeds.tolist()), draws) @ ordered, level)


def median_difference(
    a: Floats | list[float], b: Floats | list[float], level: float = 0.95, draws: int = 2000
) -> tuple[float, float, float]:
    """median(a) - median(b) and its percentile bootstrap interval: (difference, low, high), in the unit of a and b.

    a[i] and b[i] were measured one right after the other and are drawn together, so that what slows both (another
    process, a lower clock) does not count as a difference. Raises ValueError for empty or unequal lengths."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(
            f"a and b must be lists of one length with something in them, not {first.shape}, {second.shape}"
        )
    drawn = np.random.default_rng(0).integers(0, first.size, (draws, first.size))
    differences = np.median(first[drawn], axis=1) - np.median(second[drawn], axis=1)
    return float(np.median(first) - np.median(second)), *_percentiles(differences, level)


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _weights(counts: tuple[int, ...], draws: int) -> Floats:
    """(draws, sum(counts)) weight of each value in each drawn mean, for categories of so many seeds one after another.

    The drawn mean is linear in the values, so one matrix serves every metric and contender of a table."""
    generator = np.random.default_rng(0)
    sizes, rows = np.array(counts), np.arange(draws)
    starts = np.cumsum(sizes) - sizes
    weights = np.zeros((draws, sizes.sum()))
    for drawn in generator.integers(0, len(sizes), (len(sizes), draws)):
        for seed in range(sizes.max()):
            index = starts[drawn] + generator.integers(0, sizes[drawn])
            weights[rows, index] += (seed < sizes[drawn]) / (sizes[drawn] * len(sizes))
    return weights
