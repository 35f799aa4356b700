"""The cells of a leaderboard that a paper prints a number for, beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from adcore.papers import published
from adcore.papers.measured import Lookup, Run
from adcore.papers.tables import Judgement, judge
from adcore.papers.targets import Joiner, Row, Target
from adcore.results.runs import PLAIN

if TYPE_CHECKING:
    from adcore.engine.cells import Contender


@dataclass(frozen=True)
class Beside:
    """A measured mean over seeds, and over the categories of an average, and what a paper prints; both in percent.
    reasons: how many there are against comparing them."""

    dataset: str
    contender: str
    category: str
    averaged: bool
    metric: str
    measured: float
    printed: str
    difference: float
    source: str
    judgement: Judgement
    reasons: int


def compare(run: Run, folder: Path = published.FOLDER) -> list[Beside]:
    """Every printed number of a plan's datasets and contenders that it has measured, averages of all categories.

    Where a paper prints one several times, or for several conditions, that to which least can be objected. None where
    `folder` is not there.

    Raises PublishedError for a file that cannot be used."""
    if not folder.is_dir():
        return []
    names = published.names(folder)
    kinds = {spec.of_kind for spec in run.plan.datasets}
    wanted = [name for name, kind in names.datasets.items() if kind in kinds]
    if not wanted:
        return []
    found: dict[tuple[str, ...], Beside] = {}
    for stem in published.stems(folder):
        table = published.table(stem, folder)
        table = table[table["dataset"].isin(wanted) & table["method"].isin(list(names.systems))]
        for one in _of_table(stem, table, Joiner(names), run):
            key = one.dataset, one.contender, one.category, one.metric, one.source.partition(",")[0]
            if key not in found or one.reasons < found[key].reasons:
                found[key] = one
    return sorted(found.values(), key=lambda one: (one.dataset, one.contender, not one.averaged))


def _of_table(stem: str, table: pd.DataFrame, joiner: Joiner, run: Run) -> Iterable[Beside]:
    for row in published.records(table):
        if published.DERIVED.fullmatch(row["metric"]):
            continue
        target = joiner.target(stem, row)
        if not isinstance(target, Target) or target.quantity.source != "leaderboard":
            continue
        for dataset, contender, value in Lookup([run]).every(target, run):
            if value.complete and not math.isnan(value.value):
                yield Beside(
                    dataset,
                    _name(contender),
                    target.category,
                    target.averaged,
                    target.column,
                    value.value,
                    row["printed"],
                    value.value - row["value"],
                    _source(row),
                    judge(row, value, target.quantity.lower),
                    len(value.reasons),
                )


def _name(contender: Contender) -> str:
    extra = [contender.names[name] for name in ("enhancer_label", "protocol_label")]
    return " · ".join([contender.names["method_label"], *(label for label in extra if label not in PLAIN)])


def _source(row: Row) -> str:
    return f"{row['paper']}, {row['table']}"
