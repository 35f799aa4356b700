"""The table of enhancers: every host with and without one, and against its controls, as CSV, Markdown and page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adcore import registry
from adcore.report import verdicts
from adcore.report.leaderboard import grid, write_atomic
from adcore.results.effects import Effect

NO_NONE = "nothing to compare with: the plan has no enhancer none"
CAPTION = (
    "Percent; differences in points, over the cells (category x seed) that both sides have. In brackets the 95 % "
    "interval by bootstrap over categories and seeds; of one category it tells of seeds alone, of one seed of "
    "categories alone. The verdict is that of the statistics: the same test of the same two contenders, corrected for "
    "all pairs of contenders on the metric and the group of categories."
)


@dataclass(frozen=True)
class EffectTexts:
    """One row of a table. over: against each control, empty for a control. mark: `better` for an enhancer that beats
    none and all controls, `worse` for one that is worse than none, else ''."""

    host: str
    group: str
    enhancer: str
    without: str
    with_: str
    difference: str
    over: tuple[str, ...]
    verdict: str
    mark: str


@dataclass(frozen=True)
class Table:
    """Effects on one metric of a dataset; controls: enhancer labels of the controls that something is held against."""

    title: str
    controls: tuple[str, ...]
    rows: tuple[EffectTexts, ...]


def write(folder: Path, effects: Sequence[Effect]) -> None:
    """Write enhancers.csv (fractions, one row a comparison) and enhancers.md; without effects remove old ones."""
    targets = [folder / "enhancers.csv", folder / "enhancers.md"]
    if not effects:
        for path in targets:
            path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for effect in effects for row in _rows(effect)]
    write_atomic(targets[0], pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    write_atomic(targets[1], markdown(effects))


def markdown(effects: Sequence[Effect]) -> str:
    """The effects of all datasets as Markdown: a table a metric, and one against the controls where there are any."""
    parts = ["# With and without enhancers", CAPTION]
    for dataset in dict.fromkeys(effect.dataset for effect in effects):
        parts.append(f"## {dataset}")
        tables = section(effects, dataset)
        parts += [f"### {table.title}\n\n{_grids(table)}" for table in tables] or [f"{NO_NONE.capitalize()}."]
    return "\n\n".join(parts) + "\n"


def section(effects: Sequence[Effect], dataset: str) -> list[Table]:
    """A dataset's effects as texts for a page, a table a metric; none where there is nothing to compare with."""
    own = [effect for effect in effects if effect.dataset == dataset and effect.bare]
    tables = []
    for metric in registry.shown_in("enhancers"):
        shown = [effect for effect in own if effect.metric == metric]
        controls = dict.fromkeys(against.other for effect in shown for against in effect.over_controls)
        if shown:
            rows = tuple(_texts(effect, controls) for effect in shown)
            tables.append(Table(registry.column(metric).title, tuple(controls), rows))
    return tables


def sentence(effect: Effect) -> str:
    """What may be said of an enhancer or of a control, without a full stop."""
    if not effect.bare:
        return NO_NONE
    if effect.control:
        return verdicts.control(effect.over_none, effect.control, effect.identical)
    return verdicts.enhancer(effect.over_none, [(effect.short(other.other), other) for other in effect.over_controls])


def _texts(effect: Effect, controls: Iterable[str]) -> EffectTexts:
    first = effect.over_none
    without, with_ = (f"{100 * mean:.2f}" if first.pairs else "–" for mean in (first.without, first.with_))
    mark = "better" if effect.proven else "worse" if first.standing == "worse" else ""
    against = {paired.other: verdicts.difference(paired) for paired in effect.over_controls}
    over = tuple(against.get(name, "–") for name in controls) if against else ()
    name = effect.enhancer + (" (control)" if effect.control else "")
    texts = without, with_, verdicts.difference(first)
    return EffectTexts(effect.host, effect.group, name, *texts, over, sentence(effect), mark)


def _grids(table: Table) -> str:
    words = ("group", "enhancer", "verdict")
    header = ["method", "group", "without", "enhancer", "with", "difference [95 %]", "verdict"]
    body = [[r.host, r.group, r.without, r.enhancer, r.with_, r.difference, r.verdict] for r in table.rows]
    if not table.controls:
        return grid(header, body, words)
    against = [[r.host, r.group, r.enhancer, *r.over] for r in table.rows if r.over]
    over = grid(["method", "group", "enhancer", *(f"over {name}" for name in table.controls)], against, words)
    return f"{grid(header, body, words)}\n\nAgainst the controls, in points:\n\n{over}"


def _rows(effect: Effect) -> Iterator[dict[str, Any]]:
    for against in (effect.over_none, *effect.over_controls):
        yield {
            "dataset": effect.dataset,
            **effect.setting,
            "group": effect.group,
            "enhancer_label": effect.enhancer,
            "control": effect.control,
            "metric": effect.metric,
            "against": against.other,
            "without": against.without,
            "with": against.with_,
            "difference": against.difference,
            "low": against.low,
            "high": against.high,
            "pairs": against.pairs,
            "expected_pairs": against.expected,
            "categories": against.categories,
            "seeds": against.seeds,
            "outcome": against.outcome,
            "verdict": sentence(effect) if against is effect.over_none else "",
        }
