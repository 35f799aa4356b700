"""The table of enhancers: every host with and without one, and against its controls, as CSV, Markdown and page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.engine import registry
from adcore.report import verdicts
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Cell, Mark, Marked, Table
from adcore.results.effects import Effect

WORDS = ("group", "enhancer", "verdict")
AGAINST = "Against the controls, in points:"
NO_NONE = "nothing to compare with: the plan has no enhancer none"
CAPTION = (
    "Percent; differences in points, over the cells (category x seed) that both sides have. In brackets the 95 % "
    "interval by bootstrap over categories and seeds; of one category it tells of seeds alone, of one seed of "
    "categories alone. The verdict is that of the statistics: the same test of the same two contenders, corrected for "
    "all pairs of contenders on the metric and the group of categories."
)


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
    """The effects of all datasets as Markdown: a table a metric."""
    parts = ["# With and without enhancers", CAPTION]
    for dataset in dict.fromkeys(effect.dataset for effect in effects):
        parts.append(f"## {dataset}")
        parts += [f"### {title}\n\n{_markdown(tables)}" for title, tables in section(effects, dataset).items()] or [
            f"{NO_NONE.capitalize()}."
        ]
    return "\n\n".join(parts) + "\n"


def _markdown(tables: Sequence[Table]) -> str:
    return f"\n\n{AGAINST}\n\n".join(table.markdown() for table in tables)


def section(effects: Sequence[Effect], dataset: str) -> dict[str, list[Table]]:
    """A dataset's effects by the title of the metric, none where there is nothing to compare with: a table of all, and
    one against the controls where there are any."""
    own = [effect for effect in effects if effect.dataset == dataset and effect.bare]
    tables = {}
    for metric in registry.shown_in("enhancers"):
        shown = [effect for effect in own if effect.metric == metric]
        if shown:
            tables[registry.column(metric).title] = [_all(shown), *_against_controls(shown)]
    return tables


def _all(effects: Sequence[Effect]) -> Table:
    """Marked is an enhancer that beats none and all controls, and one that is worse than none."""
    header = ["method", "group", "without", "enhancer", "with", "difference [95 %]", "verdict"]
    return Table(header, [_texts(effect) for effect in effects], WORDS)


def _texts(effect: Effect) -> list[Cell]:
    first = effect.over_none
    without, with_ = (f"{100 * mean:.2f}" if first.pairs else "–" for mean in (first.without, first.with_))
    name = effect.enhancer + (" (control)" if effect.control else "")
    mark: Mark | None = "better" if effect.proven else "worse" if first.standing == "worse" else None
    verdict = Marked(sentence(effect), mark) if mark else sentence(effect)
    return [effect.host, effect.group, without, name, with_, verdicts.difference(first), verdict]


def _against_controls(effects: Sequence[Effect]) -> Iterator[Table]:
    controls = dict.fromkeys(against.other for effect in effects for against in effect.over_controls)
    rows = []
    for effect in effects:
        over = {against.other: verdicts.difference(against) for against in effect.over_controls}
        if over:
            rows.append([effect.host, effect.group, effect.enhancer, *(over.get(name, "–") for name in controls)])
    if controls:
        yield Table(["method", "group", "enhancer", *(f"over {name}" for name in controls)], rows, WORDS)


def sentence(effect: Effect) -> str:
    """What may be said of an enhancer or of a control, without a full stop."""
    if not effect.bare:
        return NO_NONE
    if effect.control:
        return verdicts.control(effect.over_none, effect.control, effect.identical)
    return verdicts.enhancer(effect.over_none, [(effect.short(other.other), other) for other in effect.over_controls])


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
