"""One line per contender: means over categories of means over seeds, and their spread."""

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
from adcore.results.groups import GROUP_BY, PLAIN, weights_mark

SETTING = GROUP_BY[:-1]  # what makes a contender; the seed only repeats it


@dataclass(frozen=True)
class Line:
    """A contender on one dataset. means and stds are fractions (0..1) by metric; cells: its rows, failed ones too."""

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

    def category_means(self, metric: str) -> pd.Series[float]:
        """Mean over seeds for each category."""
        means: pd.Series[float] = self.cells.groupby("category")[metric].mean()
        return means

    def cost(self, name: str) -> float:
        """What the cells of the line make of a column that is no metric: median milliseconds, largest memory, ..."""
        return aggregate(self.cells[name], registry.column(name).over)

    def text(self, column: Column) -> str:
        """A column that is no metric, as it is printed; of one of words those that its cells have."""
        if column.text:
            return ", ".join(sorted(set(self.cells[column.name]) - {""}))
        return column.format(self.cost(column.name))


def aggregate(values: pd.Series[float], how: Aggregate) -> float:
    """One value of those that are there; NaN of none."""
    return float(values.dropna().agg(how)) if values.notna().any() else math.nan


def summarise(table: pd.DataFrame) -> dict[str, list[Line]]:
    """Lines of each dataset, best first; a line with a failed cell is not comparable and comes last."""
    datasets: dict[str, list[Line]] = {}
    for values, cells in table.groupby(list(SETTING), sort=False):
        setting = dict(zip(SETTING, map(str, values), strict=True))
        datasets.setdefault(setting["dataset"], []).append(_line(setting, cells, metric_columns(table)))
    return {dataset: _ranked(lines) for dataset, lines in datasets.items()}


def headline(lines: Sequence[Line]) -> str:
    """The metric that ranks these lines: image AUROC, else pixel AUROC, else the first that has a value."""
    ranking = registry.shown_in("ranking")
    for metric in (*ranking, *lines[0].means):
        if any(not math.isnan(line.means.get(metric, math.nan)) for line in lines):
            return metric
    return ranking[0]


def best(lines: Sequence[Line], metric: str) -> list[Line]:
    """Lines that share the best mean of a metric as it is printed; none where fewer than two can be compared."""
    complete = [line for line in lines if not line.failed]
    marks = leading([line.means.get(metric, math.nan) for line in complete], registry.column(metric))
    return [line for line, mark in zip(complete, marks, strict=True) if mark]


def leading(values: Sequence[float], column: Column) -> list[bool]:
    """Which values are the best as they are printed; none where fewer than two can be compared."""
    ranks = [column.rank(column.rounded(value)) for value in values]
    known = [rank for rank in ranks if not math.isnan(rank)]
    return [bool(len(known) > 1 and rank == max(known)) for rank in ranks]


def applying(lines: Sequence[Line]) -> list[str]:
    """Metrics that some line has a value for."""
    return [m for m in lines[0].means if any(not math.isnan(line.means[m]) for line in lines)]


def shared_and_varying(lines: Sequence[Line]) -> tuple[dict[str, str], list[str]]:
    """Settings that all lines share (for a caption) and those that differ (for columns), method and dataset apart."""
    keys = [key for key in SETTING if key not in ("dataset", "method_label")]
    varying = [key for key in keys if len({line.setting[key] for line in lines}) > 1]
    return {key: lines[0].setting[key] for key in keys if key not in varying}, varying


def _line(setting: dict[str, str], cells: pd.DataFrame, metrics: Sequence[str]) -> Line:
    by_category = cells.groupby("category")[list(metrics)].mean().mean()
    by_seed = cells.groupby("seed")[list(metrics)].mean()
    # With a failed cell the seeds have different categories, and their spread would be that of the categories.
    comparable = len(by_seed) > 1 and bool((cells["status"] == "ok").all())
    stds = by_seed.std(ddof=1) if comparable else pd.Series(np.nan, index=list(metrics))
    return Line(setting, cells, _floats(by_category), _floats(stds))


def _floats(values: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _ranked(lines: list[Line]) -> list[Line]:
    metric = headline(lines)

    def order(line: Line) -> tuple[bool, float, str]:
        value = registry.column(metric).rank(line.means.get(metric, math.nan))
        return line.failed > 0, math.inf if math.isnan(value) else -value, line.name

    return sorted(lines, key=order)
