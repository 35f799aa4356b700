"""The contests of a leaderboard: its contenders laid on a grid of category and seed, and compared on each metric."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adcore.engine import registry
from adcore.results.contenders import ContenderResult, applying, headline, shared_and_varying, summarise
from adcore.results.contest import DIGITS, Contest, Entry, Samples
from adcore.results.images import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Contests:
    """The contests of a leaderboard, each made when it is first asked for. table: as `leaderboard.frame` makes it.

    Without samples there are no intervals over images."""

    def __init__(self, table: pd.DataFrame, samples: Samples = dict) -> None:
        self.table = table
        self._read = samples
        self._made: dict[tuple[str, str, frozenset[str] | None], Contest] = {}
        self._grids: dict[tuple[str, frozenset[str] | None], list[_Grid]] = {}

    @cached_property
    def contenders(self) -> dict[str, list[ContenderResult]]:
        """Dataset -> its contenders, best first."""
        return summarise(self.table)

    def of(self, dataset: str, metric: str, categories: Collection[str] | None = None) -> Contest:
        """A dataset's contenders on a metric, on all categories that have it or on some of them.

        A contender with a failed cell, or without a value in a category where another has one, is left out; of a metric
        that nobody has there are no entries."""
        own = {name for each in self.contenders[dataset] for name in each.cells["category"]}
        chosen = None if categories is None or own <= set(categories) else frozenset(categories)
        place = dataset, metric, chosen
        if place not in self._made:
            self._made[place] = _contest(dataset, metric, self._gridded(dataset, chosen))
        return self._made[place]

    def head(self, dataset: str) -> Contest:
        """The contest of the metric that ranks a dataset's contenders."""
        return self.of(dataset, headline(self.contenders[dataset]))

    @cached_property
    def by_metric(self) -> dict[str, dict[str, Contest]]:
        """Dataset -> metric -> contest, of the metrics that some contender can be compared on."""
        every = {name: {m: self.of(name, m) for m in applying(own)} for name, own in self.contenders.items()}
        return {name: {m: one for m, one in found.items() if one.entries} for name, found in every.items()}

    @cached_property
    def _samples(self) -> Mapping[str, Sample]:
        return self._read()

    def _gridded(self, dataset: str, categories: frozenset[str] | None) -> list[_Grid]:
        if (dataset, categories) not in self._grids:
            contenders = self.contenders[dataset]
            named = zip(contenders, unique_names(contenders), strict=True)
            grids = [_Grid.of(contender, name, categories, lambda: self._samples) for contender, name in named]
            self._grids[dataset, categories] = [grid for grid in grids if len(grid.cells)]
        return self._grids[dataset, categories]


@dataclass(frozen=True)
class _Grid:
    """The cells of a contender by category and seed; rows: (C, S) row of `cells`, -1 where there is none."""

    name: str
    setting: Mapping[str, str]
    failed: bool
    cells: pd.DataFrame
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: NDArray[np.intp]
    samples: Samples

    @classmethod
    def of(cls, contender: ContenderResult, name: str, categories: frozenset[str] | None, samples: Samples) -> _Grid:
        cells = contender.cells
        if categories is not None:
            cells = cells[cells["category"].isin(list(categories))]
        category, own = pd.factorize(cells["category"])
        seed, seeds = pd.factorize(cells["seed"], sort=True)
        rows = np.full((len(own), len(seeds)), -1)
        rows[category, seed] = np.arange(len(cells))
        failed = bool((cells["status"] != "ok").any())
        return cls(name, contender.setting, failed, cells, tuple(own), tuple(map(int, seeds)), rows, samples)

    def values(self, metric: str) -> dict[str, Floats]:
        """(S,) by category, for the categories with any value."""
        column = np.append(self.cells[metric].to_numpy(dtype=np.float64), np.nan)
        by_category = dict(zip(self.categories, column[self.rows], strict=True))
        return {category: values for category, values in by_category.items() if not np.isnan(values).all()}

    def keys(self, categories: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The keys of the cells of these categories, by seed; '' where there is none."""
        keys = [*self.cells["key"].tolist(), ""]
        rows = dict(zip(self.categories, self.rows, strict=True))
        return tuple(tuple(keys[row] for row in rows[category]) for category in categories)


def _contest(dataset: str, metric: str, grids: Sequence[_Grid]) -> Contest:
    values = [grid.values(metric) for grid in grids]
    categories = tuple(dict.fromkeys(category for own in values for category in own))
    entries, left_out = [], []
    for grid, own in zip(grids, values, strict=True):
        if grid.failed or not own or len(own) < len(categories) or np.isnan(list(own.values())).any():
            left_out.append(grid.name)
            continue
        matrix = np.array([own[category] for category in categories])
        keys = grid.keys(categories)
        entries.append(Entry(grid.name, grid.setting, grid.seeds, matrix, keys, grid.samples))
    sign = 1 if registry.column(metric).better == "higher" else -1
    ranked = tuple(sorted(entries, key=lambda entry: -sign * round(entry.mean, DIGITS)))
    return Contest(dataset, metric, categories, ranked, tuple(left_out), sign)


def leader(table: pd.DataFrame, dataset: str, category: str) -> ContenderResult | None:
    """The contender that is ahead on a category alone, of the rows of a leaderboard; None where it has no rows."""
    own = table[(table["dataset"] == dataset) & (table["category"] == category)]
    return None if own.empty else Contests(own).contenders[dataset][0]


def unique_names(contenders: Sequence[ContenderResult]) -> list[str]:
    """Names of contenders, with the settings in which they differ where a name alone stands for several."""
    names = [each.name for each in contenders]
    _, varying = shared_and_varying(contenders)
    full = [f"{each.name} [{', '.join(each.setting[key] for key in varying)}]" for each in contenders]
    return [long if names.count(name) > 1 else name for name, long in zip(names, full, strict=True)]
