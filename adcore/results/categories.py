"""Comparing contenders over categories by ranks (Demsar, JMLR 7, 2006): a category counts once, whatever its size."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def average_ranks(values: Floats) -> Floats:
    """(K,) mean over categories of the rank within each: 1 is the largest, equal ones share. values: (K, C)."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(-values, axis=0).mean(axis=1)
    return ranks


def friedman(values: Floats) -> tuple[float, float]:
    """Friedman's statistic, corrected for ties, and its p by chi square; values: (K, C), at least 3 contenders."""
    from scipy.stats import friedmanchisquare

    if (values == values[0]).all():
        return 0.0, 1.0
    found = friedmanchisquare(*values)
    return float(found.statistic), float(found.pvalue)


def signed_rank(differences: Floats) -> tuple[float, float]:
    """Wilcoxon's signed-rank test: two-sided exact p, and the sum of ranks for less that against (> 0: mostly ahead).

    differences: (C,). Zeros are dropped, and p is 1 where nothing is left. Equal differences share their rank, and p is
    exact then too (scipy's is not for more than 13 of them): the chances of all sums follow one rank after another."""
    left = differences[differences != 0]
    if not left.size:
        return 1.0, 0.0
    _, place, counts = np.unique(np.abs(left), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(counts) - counts + 1)[place]  # twice the rank is whole, where it is shared too
    ahead, total = int(doubled[left > 0].sum()), int(doubled.sum())
    chance = _chances(tuple(sorted(doubled.tolist())))[min(ahead, total - ahead)]
    return min(1.0, 2 * float(chance)), (2 * ahead - total) / 2


@lru_cache(maxsize=256)
def _chances(ranks: tuple[int, ...]) -> Floats:
    """(sum(ranks) + 1,) chance that the ranks with heads up sum to at most that, each with a fair coin."""
    chances = np.zeros(sum(ranks) + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances[rank:] += chances[:-rank].copy()
        chances /= 2
    return np.cumsum(chances)


def smallest_p(count: int) -> float:
    """The smallest p that `signed_rank` can give for so many differences: all of them on one side."""
    return min(1.0, 2.0 ** (1 - count))


def needed(comparisons: int, alpha: float = 0.05) -> int:
    """How many differing categories it takes for a p below alpha after correction for so many comparisons."""
    count = 1
    while smallest_p(count) * comparisons >= alpha:
        count += 1
    return count


def holm(p: Floats) -> Floats:
    """(M,) p values after Holm's correction for M comparisons (Holm 1979); NaN is no comparison and stays."""
    # Not statsmodels' multipletests, which gives the same: every run corrects, and importing it takes a second.
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def critical_difference(contenders: int, categories: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - alpha, contenders, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(contenders * (contenders + 1) / (6 * categories))
