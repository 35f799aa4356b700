"""Printed numbers beside ours, as texts of the leaderboard and the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adcore import registry
from adcore.papers.beside import Beside
from adcore.report import verdicts

HEADER = ("method", "class", "metric", "here", "published", "difference", "source", "verdict")
WORDS = ("class", "metric", "source", "verdict")


def texts(comparison: Beside) -> list[str]:
    """As HEADER names them."""
    numbers = [f"{comparison.measured:.1f}", comparison.printed, f"{comparison.difference:+z.1f}"]
    title = registry.column(comparison.metric).title
    words = [comparison.source, verdicts.printed(comparison.judgement)]
    return [comparison.contender, comparison.category, title, *numbers, *words]


def of(comparisons: Iterable[Beside], dataset: str, averaged: bool) -> list[list[str]]:
    """Rows of texts, of averages or of single categories."""
    return [texts(one) for one in comparisons if one.dataset == dataset and one.averaged == averaged]


def shown(comparisons: Sequence[Beside], dataset: str) -> list[list[str]]:
    """Averages, and the single categories of what has none."""
    averages = of(comparisons, dataset, averaged=True)
    told = {(text[0], text[2]) for text in averages}
    return averages + [text for text in of(comparisons, dataset, averaged=False) if (text[0], text[2]) not in told]
