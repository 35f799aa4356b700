"""Contenders on one metric of a dataset: their means and intervals, and every two of them against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adcore.report.summary import Line, shared_and_varying
from adcore.stats import categories as over
from adcore.stats.images import DRAWS, Sample
from adcore.stats.images import METRICS as IMAGE_METRICS
from adcore.stats.pairs import bootstrapped, corrected, delong, percentiles
from adcore.stats.seeds import seed_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bounds = tuple[Floats, Floats]

DIGITS = 12  # a mean over seeds in another order is the same mean


@dataclass(frozen=True)
class Contender:
    """One contender on one metric: values (C, S) by category and seed, and a sample for each (None: not known)."""

    name: str
    seeds: tuple[int, ...]
    values: Floats
    samples: tuple[tuple[Sample | None, ...], ...]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over seeds of the mean over categories; NaN for one seed."""
        return float(self.values.mean(axis=0).std(ddof=1)) if len(self.seeds) > 1 else math.nan

    @cached_property
    def sds(self) -> Floats:
        """(C,) standard deviations over seeds within each category."""
        return self.values.std(axis=1, ddof=1) if len(self.seeds) > 1 else np.full(len(self.values), np.nan)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The test images of each category; '' where they are not known or differ by seed."""
        found = [{sample.images if sample else "" for sample in seeds} for seeds in self.samples]
        return tuple(one.pop() if len(one) == 1 else "" for one in found)


@dataclass(frozen=True)
class Pairs:
    """Everything about all pairs of K contenders, (K, K): row minus column. p is NaN where it cannot be had.

    ahead: categories in which the row's is larger. lean: signed-rank sum, > 0 where the row is mostly ahead. p: by
    Wilcoxon over categories, NaN for one of them; corrected: by Holm for all pairs. low, high, p_images: of the
    difference over images, 95 % interval and test; seeds_low, seeds_high: interval over seeds."""

    difference: Floats
    ahead: NDArray[np.int64]
    lean: Floats
    p: Floats
    corrected: Floats
    low: Floats
    high: Floats
    p_images: Floats
    corrected_images: Floats
    seeds_low: Floats
    seeds_high: Floats


@dataclass(frozen=True)
class Contest:
    """Contenders that have a value in all the same categories, largest mean first, and the names of those left out."""

    dataset: str
    metric: str
    categories: tuple[str, ...]
    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(contender.name for contender in self.contenders)

    @cached_property
    def values(self) -> Floats:
        """(K, C) means over seeds."""
        return np.round([contender.values.mean(axis=1) for contender in self.contenders], DIGITS)

    @cached_property
    def ranks(self) -> Floats:
        return over.average_ranks(self.values)

    @property
    def comparisons(self) -> int:
        return len(self.contenders) * (len(self.contenders) - 1) // 2

    @cached_property
    def image_count(self) -> int:
        """Test images of all categories; 0 where they are not the same for all contenders."""
        first = self.contenders[0]
        if any("" in contender.images or contender.images != first.images for contender in self.contenders):
            return 0
        return sum(len(seeds[0].deviations) for seeds in first.samples if seeds[0])

    @cached_property
    def over_images(self) -> tuple[Bounds, tuple[Bounds, ...]]:
        """95 % intervals of each contender over images: of the mean over categories (K,), and of each category (K,)."""
        draws = self._draws
        if draws is None:
            nothing = np.full((2, len(self.contenders)), np.nan)
            return (nothing[0], nothing[1]), ((nothing[0], nothing[1]),) * len(self.categories)
        return percentiles(draws.mean(axis=1)), tuple(percentiles(draws[:, c]) for c in range(draws.shape[1]))

    @cached_property
    def over_seeds(self) -> Bounds:
        """95 % intervals of each contender over seeds, (K,) each."""
        found = [seed_interval(contender.values) for contender in self.contenders]
        return np.array([float(low) for low, _ in found]), np.array([float(high) for _, high in found])

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs by their means over categories."""
        difference = self.values.mean(axis=1)[:, None] - self.values.mean(axis=1)
        count = len(self.contenders)
        p, lean = np.full((count, count), np.nan), np.zeros((count, count))
        for i, j in zip(*np.triu_indices(count, 1), strict=True):
            found, lean[i, j] = over.signed_rank(np.round(self.values[i] - self.values[j], DIGITS))
            lean[j, i] = -lean[i, j]
            p[i, j] = p[j, i] = found if len(self.categories) > 1 else math.nan
        ahead = (self.values[:, None] > self.values).sum(axis=2)
        low, high, p_images = self._image_pairs(difference, None)
        judged = (low, high, p_images, corrected(p_images))
        return Pairs(difference, ahead, lean, p, corrected(p), *judged, *self._seed_pairs())

    def of_category(self, index: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """(K, K) of one category: difference, its interval over images (low, high), p, and p after correction."""
        difference = self.values[:, index][:, None] - self.values[:, index]
        low, high, p = self._image_pairs(difference, index)
        return difference, low, high, p, corrected(p)

    @cached_property
    def _draws(self) -> Floats | None:
        """(K, C, DRAWS) the metric of drawn sets of images, mean over seeds; None for a metric of pixels."""
        if self.metric not in IMAGE_METRICS:
            return None
        which = IMAGE_METRICS.index(self.metric)
        return np.array([[_mean_draws(s, which) for s in contender.samples] for contender in self.contenders])

    def _image_pairs(self, difference: Floats, index: int | None) -> tuple[Floats, Floats, Floats]:
        """Low, high, p over images, (K, K) each: of the mean over categories, or of one category."""
        chosen = range(len(self.categories)) if index is None else [index]
        if self._draws is None or len(self.contenders) < 2:
            nothing = np.full(difference.shape, np.nan)
            return nothing, nothing, nothing
        if self.metric == "i_auroc":
            covariance = sum(self._covariance(c) for c in chosen) / len(chosen) ** 2
            found = delong(difference, np.asarray(covariance))
        else:
            found = bootstrapped(self._draws[:, chosen].mean(axis=1))
        images = np.array([contender.images for contender in self.contenders])[:, chosen]
        same = ((images[:, None] == images) & (images != "")).all(axis=2) & ~np.eye(len(images), dtype=bool)
        low, high, p = (np.where(same, bound, np.nan) for bound in found)
        return low, high, p

    def _covariance(self, category: int) -> Floats:
        """(K, K) covariance over images of the AUROCs of one category; NaN for contenders with other images."""
        found = np.full((len(self.contenders),) * 2, np.nan)
        images = np.array([contender.images[category] for contender in self.contenders])
        for who in set(images) - {""}:
            own = np.flatnonzero(images == who)
            rows = [np.mean([s.deviations for s in self.contenders[k].samples[category] if s], axis=0) for k in own]
            found[np.ix_(own, own)] = np.array(rows) @ np.array(rows).T
        return found

    def _seed_pairs(self) -> Bounds:
        """Intervals over seeds of all differences of contenders that have the same seeds, (K, K) each."""
        count = len(self.contenders)
        low, high = np.full((count, count), np.nan), np.full((count, count), np.nan)
        for i, one in enumerate(self.contenders):
            others = [j for j in range(i + 1, count) if self.contenders[j].seeds == one.seeds]
            if others:
                differences = one.values - np.array([self.contenders[j].values for j in others])
                low[i, others], high[i, others] = seed_interval(np.round(differences, DIGITS))
                low[others, i], high[others, i] = -high[i, others], -low[i, others]
        return low, high


def contests(
    dataset: str, lines: Sequence[Line], metrics: Sequence[str], samples: Mapping[str, Sample]
) -> dict[str, Contest]:
    """A dataset's lines on each metric. samples: key of a cell -> its sample; without it, no intervals over images.

    A line with a failed cell, or without a value in a category where another has one, is left out; a metric that leaves
    none is not there."""
    grids = [_Grid.of(line, name, samples) for line, name in zip(lines, unique_names(lines), strict=True)]
    found = {metric: _contest(dataset, metric, grids) for metric in metrics}
    return {metric: contest for metric, contest in found.items() if contest.contenders}


@dataclass(frozen=True)
class _Grid:
    """The cells of a line by category and seed; rows: (C, S) row of `cells`, -1 where there is none."""

    name: str
    failed: bool
    cells: pd.DataFrame
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: NDArray[np.intp]
    samples: tuple[tuple[Sample | None, ...], ...]

    @classmethod
    def of(cls, line: Line, name: str, samples: Mapping[str, Sample]) -> _Grid:
        category, categories = pd.factorize(line.cells["category"])
        seed, seeds = pd.factorize(line.cells["seed"], sort=True)
        rows = np.full((len(categories), len(seeds)), -1)
        rows[category, seed] = np.arange(len(line.cells))
        keys = line.cells["key"].tolist()
        known = tuple(tuple(samples.get(keys[i]) if i >= 0 else None for i in row) for row in rows)
        return cls(name, line.failed > 0, line.cells, tuple(categories), tuple(map(int, seeds)), rows, known)

    def values(self, metric: str) -> dict[str, Floats]:
        """(S,) by category, for the categories with any value."""
        column = np.append(self.cells[metric].to_numpy(dtype=np.float64), np.nan)
        found = dict(zip(self.categories, column[self.rows], strict=True))
        return {category: values for category, values in found.items() if not np.isnan(values).all()}


def _contest(dataset: str, metric: str, grids: Sequence[_Grid]) -> Contest:
    values = [grid.values(metric) for grid in grids]
    categories = tuple(dict.fromkeys(category for own in values for category in own))
    contenders, left_out = [], []
    for grid, own in zip(grids, values, strict=True):
        if grid.failed or not own or len(own) < len(categories) or np.isnan(list(own.values())).any():
            left_out.append(grid.name)
            continue
        known = dict(zip(grid.categories, grid.samples, strict=True))
        matrix = np.array([own[category] for category in categories])
        contenders.append(Contender(grid.name, grid.seeds, matrix, tuple(known[name] for name in categories)))
    ranked = tuple(sorted(contenders, key=lambda contender: -round(contender.mean, DIGITS)))
    return Contest(dataset, metric, categories, ranked, tuple(left_out))


def unique_names(lines: Sequence[Line]) -> list[str]:
    """Names of lines, with the settings in which they differ where a name alone stands for several."""
    names = [line.name for line in lines]
    _, varying = shared_and_varying(lines)
    full = [f"{line.name} [{', '.join(line.setting[key] for key in varying)}]" for line in lines]
    return [long if names.count(name) > 1 else name for name, long in zip(names, full, strict=True)]


def _mean_draws(seeds: Sequence[Sample | None], which: int) -> Floats:
    known = [sample.draws[which].astype(np.float64) for sample in seeds if sample]
    same = len(known) == len(seeds) and len({sample.images for sample in seeds if sample}) == 1
    return np.mean(known, axis=0) if same else np.full(DRAWS, np.nan)
