"""One contender with and without an enhancer, over the cells that both have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from adcore.kernels.intervals import interval
from adcore.results.contest import Outcome, Standing, standing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEW = 6  # pairs; below, a bootstrap interval is too narrow more often than it says


@dataclass(frozen=True)
class Paired:
    """A contender against the one with the enhancer `other`, over category x seed cells with a value in both.

    outcome: the engine's, of the same two contenders; `incomplete` where it left one of them out. without, with_: means
    over categories of means over seeds, of the other one and of this one. difference: with_ - without; low, high: its
    95 % interval over categories and seeds, NaN below two pairs. All are fractions. expected: pairs if no cell were
    missing. equal: no pair differs."""

    other: str
    outcome: Outcome
    without: float
    with_: float
    difference: float
    low: float
    high: float
    pairs: int
    expected: int
    categories: int
    seeds: int
    equal: bool

    @property
    def standing(self) -> Standing:
        return standing(self.outcome)


def paired(cells: pd.DataFrame, with_: Floats, without: Floats, other: str, outcome: Outcome) -> Paired:
    """Numbers of two contenders. cells: columns category and seed, one row for each cell that both should have; with_,
    without: a value for each row, NaN where it is missing."""
    both = ~np.isnan(with_ - without)
    category, seed = (cells[name].to_numpy()[both] for name in ("category", "seed"))
    difference = (with_ - without)[both]
    low, high = interval(pd.DataFrame({"category": category, "seed": seed, "value": difference}))
    return Paired(
        other,
        outcome,
        without=_mean(category, without[both]),
        with_=_mean(category, with_[both]),
        difference=_mean(category, difference),
        low=low,
        high=high,
        pairs=len(difference),
        expected=len(cells),
        categories=len(set(category)),
        seeds=len(set(seed)),
        equal=bool(len(difference)) and not difference.any(),
    )


def _mean(category: NDArray[Any], values: Floats) -> float:
    """Mean over categories of the mean of each."""
    if not len(values):
        return math.nan
    _, codes, counts = np.unique(category, return_inverse=True, return_counts=True)
    return float((np.bincount(codes, values) / counts).mean())
