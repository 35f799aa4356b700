"""Every two of K contenders compared on the same images. Matrices are (K, K): row minus column."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from adcore.results.categories import holm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PERCENTILES = (0.025, 0.975)
NORMAL = 1.959963984540054  # of a two-sided 95 % interval
ROUNDING = 1e-6  # draws are float32


def percentiles(draws: Floats) -> tuple[Floats, Floats]:
    """95 % percentile interval along the last axis: low, high."""
    low, high = np.quantile(draws, PERCENTILES, axis=-1)
    return low, high


def delong(difference: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Low, high and two-sided p of differences of AUROCs (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).

    covariance: of the contenders' AUROCs over images, NaN where it is not known."""
    from scipy.special import erfc

    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread at all: certain, or equal
        score = np.where(difference == 0, 0.0, np.abs(difference) / spread)
    p = np.where(np.isnan(spread), np.nan, erfc(score / math.sqrt(2)))
    return difference - NORMAL * spread, difference + NORMAL * spread, p


def bootstrapped(draws: Floats) -> tuple[Floats, Floats, Floats]:
    """Percentile interval and two-sided p of all differences by paired bootstrap; p is never below 2 / (DRAWS + 1).

    draws: (K, DRAWS) of the same sets of images, NaN where there are none."""
    count = len(draws)
    low, high, p = (np.full((count, count), np.nan) for _ in range(3))
    for i in range(count):
        differences = draws[i] - draws
        low[i], high[i] = percentiles(differences)
        sides = np.minimum((differences < ROUNDING).sum(axis=1), (differences > -ROUNDING).sum(axis=1))
        p[i] = np.minimum(1.0, 2 * (1 + sides) / (1 + draws.shape[1]))
    return low, high, np.where(np.isnan(low), np.nan, p)


def corrected(p: Floats) -> Floats:
    """Holm's correction of a symmetric matrix for all its pairs."""
    rows, columns = np.triu_indices(len(p), 1)
    found = np.full(p.shape, np.nan)
    found[rows, columns] = found[columns, rows] = holm(p[rows, columns])
    return found
