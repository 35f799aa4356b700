"""Results of contenders: means over categories of means over seeds, and their spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adcore.core.columns import Aggregate, Column
from adcore.engine import registry
from adcore.results.frame import metric_columns
from adcore.results.runs import IDENTITY, PLAIN, weights_mark

SETTING = IDENTITY[:-1]  # what makes a contender; the seed only repeats it


@dataclass(frozen=True)
class ContenderResult:
    """A contender's result on one dataset.

    means and stds are fractions (0..1) by metric; cells: its rows, failed ones too."""

    setting: Mapping[str, str]
    cells: pd.DataFrame
    means: Mapping[str, float]
    stds: Mapping[str, float]

    @property
    def name(self) -> str:
        """Method, and enhancer and protocol where they are not plain, marked where the weights mean nothing."""
        extra = [self.setting[key] for key in ("enhancer_label", "protocol_label") if self.setting[key] not in PLAIN]
        return " ".join(filter(None, [" · ".join([self.setting["method_label"], *extra]), self.mark]))

    @property
    def mark(self) -> str:
        return weights_mark(self.setting["weights"])

    @property
    def seeds(self) -> int:
        return int(self.cells["seed"].nunique())

    @property
    def categories(self) -> int:
        return int(self.cells["category"].nunique())

    @property
    def failed(self) -> int:
        return int((self.cells["status"] != "ok").sum())

    @property
    def first(self) -> pd.Series[Any]:
        """The row of its first seed."""
        row: pd.Series[Any] = self.cells.sort_values("seed").iloc[0]
        return row

    def category_means(self, metric: str) -> pd.Series[float]:
        """Mean over seeds for each category."""
        means: pd.Series[float] = self.cells.groupby("category")[metric].mean()
        return means

    def cost(self, name: str) -> float:
        """What its cells make of a column that is no metric: median milliseconds, largest memory, ..."""
        return aggregate(self.cells[name], registry.column(name).over)

    @property
    def hardware(self) -> str:
        """What its latencies were measured on; more than one of them do not make one value."""
        return self.text(registry.column("hardware"))

    def text(self, column: Column) -> str:
        """A column that is no metric, as it is printed; of one of words those that its cells have."""
        if column.text:
            return ", ".join(sorted(set(self.cells[column.name]) - {""}))
        return column.format(self.cost(column.name))


def aggregate(values: pd.Series[float], how: Aggregate) -> float:
    """One value of those that are there; NaN of none."""
    return float(values.dropna().agg(how)) if values.notna().any() else math.nan


def summarise(table: pd.DataFrame) -> dict[str, list[ContenderResult]]:
    """The contenders of each dataset, best first; a contender with a failed cell is not comparable and comes last."""
    datasets: dict[str, list[ContenderResult]] = {}
    for values, cells in table.groupby(list(SETTING), sort=False):
        setting = dict(zip(SETTING, map(str, values), strict=True))
        datasets.setdefault(setting["dataset"], []).append(_result(setting, cells, metric_columns(table)))
    return {dataset: _ranked(contenders) for dataset, contenders in datasets.items()}


def headline(contenders: Sequence[ContenderResult]) -> str:
    """The metric that ranks these contenders: image AUROC, else pixel AUROC, else the first that has a value."""
    ranking = registry.shown_in("ranking")
    for metric in (*ranking, *contenders[0].means):
        if any(not math.isnan(each.means.get(metric, math.nan)) for each in contenders):
            return metric
    return ranking[0]


def best(contenders: Sequence[ContenderResult], metric: str) -> list[ContenderResult]:
    """Contenders that share the best mean of a metric as it is printed; none where fewer than two can be compared."""
    complete = [each for each in contenders if not each.failed]
    marks = leading([each.means.get(metric, math.nan) for each in complete], registry.column(metric))
    return [each for each, mark in zip(complete, marks, strict=True) if mark]


def leading(values: Sequence[float], column: Column) -> list[bool]:
    """Which values are the best as they are printed; none where fewer than two can be compared."""
    ranks = [column.rank(column.rounded(value)) for value in values]
    known = [rank for rank in ranks if not math.isnan(rank)]
    return [bool(len(known) > 1 and rank == max(known)) for rank in ranks]


def applying(contenders: Sequence[ContenderResult]) -> list[str]:
    """Metrics that some contender has a value for."""
    return [m for m in contenders[0].means if any(not math.isnan(each.means[m]) for each in contenders)]


def shared_and_varying(contenders: Sequence[ContenderResult]) -> tuple[dict[str, str], list[str]]:
    """Settings that all of them share (for a caption) and those that differ (for columns), method and dataset apart."""
    keys = [key for key in SETTING if key not in ("dataset", "method_label")]
    varying = [key for key in keys if len({each.setting[key] for each in contenders}) > 1]
    return {key: contenders[0].setting[key] for key in keys if key not in varying}, varying


def _result(setting: dict[str, str], cells: pd.DataFrame, metrics: Sequence[str]) -> ContenderResult:
    by_category = cells.groupby("category")[list(metrics)].mean().mean()
    by_seed = cells.groupby("seed")[list(metrics)].mean()
    # With a failed cell the seeds have different categories, and their spread would be that of the categories.
    comparable = len(by_seed) > 1 and bool((cells["status"] == "ok").all())
    stds = by_seed.std(ddof=1) if comparable else pd.Series(np.nan, index=list(metrics))
    return ContenderResult(setting, cells, _floats(by_category), _floats(stds))


def _floats(values: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _ranked(contenders: list[ContenderResult]) -> list[ContenderResult]:
    metric = headline(contenders)

    def order(contender: ContenderResult) -> tuple[bool, float, str]:
        value = registry.column(metric).rank(contender.means.get(metric, math.nan))
        return contender.failed > 0, math.inf if math.isnan(value) else -value, contender.name

    return sorted(contenders, key=order)
