"""Printed numbers beside ours, as texts of the leaderboard and the report."""

from __future__ import annotations

from collections.abc import Iterable

from adcore.engine import registry
from adcore.papers.beside import Beside
from adcore.report import verdicts
from adcore.report.table import Table

HEADER = ("method", "class", "metric", "here", "published", "difference", "source", "verdict")
WORDS = ("class", "metric", "source", "verdict")


def table(comparisons: Iterable[Beside]) -> Table:
    """A row a comparison."""
    return Table(HEADER, [_texts(one) for one in comparisons], WORDS)


def _texts(comparison: Beside) -> list[str]:
    numbers = [f"{comparison.measured:.1f}", comparison.printed, f"{comparison.difference:+z.1f}"]
    title = registry.column(comparison.metric).title
    words = [comparison.source, verdicts.printed(comparison.judgement)]
    return [comparison.contender, comparison.category, title, *numbers, *words]


def of(comparisons: Iterable[Beside], dataset: str, averaged: bool) -> Table:
    """Those of averages or of single categories."""
    return table(one for one in comparisons if one.dataset == dataset and one.averaged == averaged)


def shown(comparisons: Iterable[Beside], dataset: str) -> Table:
    """Averages, and the single categories of what has none."""
    own = [one for one in comparisons if one.dataset == dataset]
    averages = [one for one in own if one.averaged]
    known = {(one.contender, one.metric) for one in averages}
    return table([*averages, *(one for one in own if not one.averaged and (one.contender, one.metric) not in known)])
