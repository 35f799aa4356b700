"""The one engine of comparisons: contenders on one metric, their means and intervals, and who is better than whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from adcore.results import categories as over
from adcore.results.images import DRAWN, DRAWS, Sample
from adcore.results.pairs import bootstrapped, corrected, delong, percentiles
from adcore.results.seeds import seed_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Samples = Callable[[], Mapping[str, Sample]]  # reads the cells' samples, by key; asked only where images decide
Outcome = Literal[
    "equal",
    "better",
    "worse",
    "alike",
    "better on images",
    "worse on images",
    "alike on images",
    "unsure of seeds",
    "untested",
    "incomplete",
]
Standing = Literal["better", "worse", "equal", "undecided"]

ALPHA = 0.05
DIGITS = 12  # a mean over seeds in another order is the same mean
MIRRORED: dict[Outcome, Outcome] = {
    "better": "worse",
    "worse": "better",
    "better on images": "worse on images",
    "worse on images": "better on images",
}
STANDINGS: dict[Outcome, Standing] = {
    "better": "better",
    "better on images": "better",
    "worse": "worse",
    "worse on images": "worse",
    "equal": "equal",
}


def standing(outcome: Outcome) -> Standing:
    """What an outcome comes to: who is ahead beyond doubt, if anybody."""
    return STANDINGS.get(outcome, "undecided")


@dataclass(frozen=True)
class Entry:
    """A contender's entry: its values on one metric (C, S) by category and seed, the keys of these cells ("": no cell).

    setting: its leaderboard columns, the same as those of its ContenderResult."""

    name: str
    setting: Mapping[str, str]
    seeds: tuple[int, ...]
    values: Floats
    keys: tuple[tuple[str, ...], ...]
    known: Samples = field(repr=False, compare=False)

    @cached_property
    def samples(self) -> tuple[tuple[Sample | None, ...], ...]:
        """What is known of the images of each cell (C, S); None: nothing."""
        known = self.known()
        return tuple(tuple(known.get(key) for key in keys) for keys in self.keys)

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
        digests = [{sample.images if sample else "" for sample in seeds} for seeds in self.samples]
        return tuple(one.pop() if len(one) == 1 else "" for one in digests)


@dataclass(frozen=True)
class Bounds:
    """Ends of 95 % intervals, one array each; NaN where there is none."""

    low: Floats
    high: Floats

    @classmethod
    def unknown(cls, *shape: int) -> Bounds:
        return cls(np.full(shape, np.nan), np.full(shape, np.nan))


@dataclass(frozen=True)
class OverImages:
    """All pairs on the same images, (K, K): interval of the difference (row minus column) and p, before and after
    correction for all pairs; NaN for contenders with other images, and for metrics of pixels."""

    low: Floats
    high: Floats
    p: Floats
    corrected: Floats


@dataclass(frozen=True)
class OverCategories:
    """All pairs by Wilcoxon's signed-rank test over categories, (K, K); p is NaN for one category.

    ahead: categories in which the row's is better. lean: signed-rank sum, > 0 where the row is mostly ahead."""

    ahead: NDArray[np.int64]
    lean: Floats
    p: Floats
    corrected: Floats


@dataclass(frozen=True)
class Pair:
    """Entry i of a contest against entry j."""

    contest: Contest
    i: int
    j: int

    @property
    def one(self) -> Entry:
        return self.contest.entries[self.i]

    @property
    def other(self) -> Entry:
        return self.contest.entries[self.j]

    @property
    def mirrored(self) -> Pair:
        return Pair(self.contest, self.j, self.i)

    @property
    def difference(self) -> float:
        return float(self.contest.differences[self.i, self.j])

    @property
    def ahead(self) -> int:
        """Categories in which i's mean over seeds is better."""
        return int(self.contest.over_categories.ahead[self.i, self.j])

    @property
    def behind(self) -> int:
        return self.mirrored.ahead

    @property
    def p(self) -> float:
        return float(self.contest.over_categories.p[self.i, self.j])

    @property
    def p_corrected(self) -> float:
        return float(self.contest.over_categories.corrected[self.i, self.j])

    @property
    def on_images(self) -> tuple[float, float]:
        """95 % interval of the difference over images."""
        return float(self.contest.over_images.low[self.i, self.j]), float(self.contest.over_images.high[self.i, self.j])

    @property
    def p_images(self) -> float:
        return float(self.contest.over_images.p[self.i, self.j])

    @property
    def p_images_corrected(self) -> float:
        return float(self.contest.over_images.corrected[self.i, self.j])

    @property
    def on_seeds(self) -> tuple[float, float]:
        """95 % interval of the difference over seeds."""
        return float(self.contest.over_seeds.low[self.i, self.j]), float(self.contest.over_seeds.high[self.i, self.j])

    @property
    def testable(self) -> bool:
        """Whether as many categories as differ could give a p below ALPHA after correction."""
        count = self.ahead + self.behind
        return len(self.contest.categories) > 1 and over.smallest_p(count) * self.contest.comparisons < ALPHA

    @cached_property
    def outcome(self) -> Outcome:
        """What may be said of i against j: over categories; where these are too few to tell, over images."""
        if self.i > self.j:
            return MIRRORED.get(self.mirrored.outcome, self.mirrored.outcome)
        if not self.ahead + self.behind:
            return "equal"
        if self.p_corrected < ALPHA:
            return "better" if self.contest.over_categories.lean[self.i, self.j] > 0 else "worse"
        return "alike" if self.testable else self._by_images()

    def _by_images(self) -> Outcome:
        if math.isnan(self.p_images_corrected):
            return "untested"
        if self.p_images_corrected >= ALPHA:
            return "alike on images"
        low, high = self.on_seeds
        nearest = low if self.contest.sign > 0 else -high
        return "unsure of seeds" if nearest <= 0 else "better on images"

    @property
    def standing(self) -> Standing:
        return standing(self.outcome)


@dataclass(frozen=True)
class Contest:
    """Entries that have a value in all the same categories, best mean first, and the names of those left out.

    sign: 1 where a larger value is better, -1 where a smaller one is."""

    dataset: str
    metric: str
    categories: tuple[str, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    sign: int = 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def values(self) -> Floats:
        """(K, C) means over seeds."""
        return np.round([entry.values.mean(axis=1) for entry in self.entries], DIGITS)

    @cached_property
    def ranks(self) -> Floats:
        return over.average_ranks(self.sign * self.values)

    @property
    def comparisons(self) -> int:
        return len(self.entries) * (len(self.entries) - 1) // 2

    @property
    def needed(self) -> int:
        """How many categories have to differ for a p below ALPHA after correction."""
        return over.needed(self.comparisons, ALPHA)

    def pair(self, i: int, j: int) -> Pair:
        return Pair(self, i, j)

    def between(self, one: Mapping[str, str], other: Mapping[str, str]) -> Pair | None:
        """The pair of the contenders of two settings; None where one of them was left out."""
        i, j = (self._places.get(tuple(setting.values())) for setting in (one, other))
        return None if i is None or j is None else self.pair(i, j)

    @cached_property
    def _places(self) -> dict[tuple[str, ...], int]:
        return {tuple(entry.setting.values()): place for place, entry in enumerate(self.entries)}

    @cached_property
    def image_count(self) -> int:
        """Test images of all categories; 0 where they are not the same for all contenders."""
        first = self.entries[0]
        if any("" in entry.images or entry.images != first.images for entry in self.entries):
            return 0
        return sum(len(seeds[0].deviations) for seeds in first.samples if seeds[0])

    @cached_property
    def own_over_images(self) -> Bounds:
        """95 % intervals (K,) over images of each contender's mean over categories."""
        if self._draws is None:
            return Bounds.unknown(len(self.entries))
        return Bounds(*percentiles(self._draws.mean(axis=1)))

    def own_of_category(self, index: int) -> Bounds:
        """95 % intervals (K,) over images of each contender's value in one category."""
        if self._draws is None:
            return Bounds.unknown(len(self.entries))
        return Bounds(*percentiles(self._draws[:, index]))

    @cached_property
    def own_over_seeds(self) -> Bounds:
        """95 % intervals (K,) over seeds of each contender."""
        intervals = [seed_interval(entry.values) for entry in self.entries]
        return Bounds(np.array([float(low) for low, _ in intervals]), np.array([float(high) for _, high in intervals]))

    @cached_property
    def differences(self) -> Floats:
        """(K, K) of the means over categories, row minus column."""
        means: Floats = self.values.mean(axis=1)
        return means[:, None] - means

    def differences_of(self, category: int) -> Floats:
        """(K, K) in one category, row minus column."""
        means: Floats = self.values[:, category]
        return means[:, None] - means

    @cached_property
    def over_categories(self) -> OverCategories:
        count = len(self.entries)
        p, lean = np.full((count, count), np.nan), np.zeros((count, count))
        for i, j in zip(*np.triu_indices(count, 1), strict=True):
            chance, lean[i, j] = over.signed_rank(np.round(self.sign * (self.values[i] - self.values[j]), DIGITS))
            lean[j, i] = -lean[i, j]
            p[i, j] = p[j, i] = chance if len(self.categories) > 1 else math.nan
        ahead = (self.sign * self.values[:, None] > self.sign * self.values).sum(axis=2)
        return OverCategories(ahead=ahead, lean=lean, p=p, corrected=corrected(p))

    @cached_property
    def over_images(self) -> OverImages:
        """Of the means over categories."""
        return self._over_images(self.differences, range(len(self.categories)))

    def over_images_of(self, category: int) -> OverImages:
        """Of one category; the correction is for the pairs of that category."""
        return self._over_images(self.differences_of(category), [category])

    @cached_property
    def over_seeds(self) -> Bounds:
        """Intervals over seeds (K, K) of all differences of contenders that have the same seeds."""
        bounds = Bounds.unknown(len(self.entries), len(self.entries))
        low, high = bounds.low, bounds.high
        for i, one in enumerate(self.entries):
            others = [j for j in range(i + 1, len(self.entries)) if self.entries[j].seeds == one.seeds]
            if others:
                differences = one.values - np.array([self.entries[j].values for j in others])
                low[i, others], high[i, others] = seed_interval(np.round(differences, DIGITS))
                low[others, i], high[others, i] = -high[i, others], -low[i, others]
        return bounds

    @cached_property
    def _draws(self) -> Floats | None:
        """(K, C, DRAWS) the metric of drawn sets of images, mean over seeds; None for a metric of pixels."""
        if self.metric not in DRAWN:
            return None
        which = DRAWN.index(self.metric)
        return np.array([[_mean_draws(s, which) for s in entry.samples] for entry in self.entries])

    def _over_images(self, difference: Floats, chosen: Sequence[int]) -> OverImages:
        """Of the mean over the chosen categories."""
        if self._draws is None or len(self.entries) < 2:
            nothing = np.full(difference.shape, np.nan)
            return OverImages(nothing, nothing, nothing, nothing)
        if self.metric == "i_auroc":
            covariance = sum(self._covariance(c) for c in chosen) / len(chosen) ** 2
            numbers = delong(difference, np.asarray(covariance))
        else:
            numbers = bootstrapped(self._draws[:, chosen].mean(axis=1))
        images = np.array([entry.images for entry in self.entries])[:, chosen]
        same = ((images[:, None] == images) & (images != "")).all(axis=2) & ~np.eye(len(images), dtype=bool)
        low, high, p = (np.where(same, number, np.nan) for number in numbers)
        return OverImages(low=low, high=high, p=p, corrected=corrected(p))

    def _covariance(self, category: int) -> Floats:
        """(K, K) covariance over images of the AUROCs of one category; NaN for contenders with other images."""
        covariance = np.full((len(self.entries),) * 2, np.nan)
        images = np.array([entry.images[category] for entry in self.entries])
        for who in set(images) - {""}:
            own = np.flatnonzero(images == who)
            rows = [np.mean([s.deviations for s in self.entries[k].samples[category] if s], axis=0) for k in own]
            covariance[np.ix_(own, own)] = np.array(rows) @ np.array(rows).T
        return covariance


def against_printed(difference: float, tolerance: float, seeds: tuple[float, float]) -> Outcome:
    """What may be said of a measured value against a printed one, which is the same images' and has no spread.

    difference: measured less printed, of what is better when it is larger. seeds: 95 % interval of it over seeds, NaN
    where it is not known; then the tolerance alone decides. `alike`: within the tolerance."""
    if abs(difference) <= tolerance + 1e-9:
        return "alike"
    ahead = difference > 0
    nearest = seeds[0] if ahead else -seeds[1]
    if nearest <= tolerance:
        return "unsure of seeds"
    return "better" if ahead else "worse"


def _mean_draws(seeds: Sequence[Sample | None], which: int) -> Floats:
    drawn = [sample.draws[which].astype(np.float64) for sample in seeds if sample]
    same = len(drawn) == len(seeds) and len({sample.images for sample in seeds if sample}) == 1
    return np.mean(drawn, axis=0) if same else np.full(DRAWS, np.nan)
