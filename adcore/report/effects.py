"""The same host with and without an enhancer, and the enhancer against its controls, over cells that both have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from adcore.report.groups import weights_mark
from adcore.report.leaderboard import grid, write_atomic
from adcore.report.paired import Paired, control_verdict, paired, verdict
from adcore.report.summary import SETTING, TITLES, metric_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = ("i_auroc", "p_auroc", "aupro")
HOST = tuple(name for name in SETTING if name not in ("dataset", "enhancer_label"))
CELL = ["category", "seed"]
STAND_IN = "stand-in, "  # before the weights of a row whose enhancer has weights that are not the right ones
NO_NONE = "nothing to compare with: the plan has no enhancer none"
CAPTION = (
    "Percent; differences in points, over the cells (category x seed) that both sides have. In brackets the 95 % "
    "interval by bootstrap over categories and seeds; of one category it tells of seeds alone, of one seed of "
    "categories alone. An enhancer beats another arm where all of the interval is above zero; with no effect at all "
    "that happens by chance in about one comparison of forty, and more often with few pairs."
)


@dataclass(frozen=True)
class Effect:
    """What an enhancer does to one metric of a host on a group of categories (`objects`, `textures`, `all`).

    setting: the host's leaderboard columns. control: `identity`, `random`, or '' for an arm that is no control.
    over_none: against the bare host. over_controls: against every control of the plan; empty for a control."""

    dataset: str
    setting: Mapping[str, str]
    host: str
    group: str
    enhancer: str
    control: str
    metric: str
    over_none: Paired
    over_controls: tuple[Paired, ...]
    verdict: str


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


def compare(
    table: pd.DataFrame,
    textures: Mapping[str, Collection[str]],
    controls: Mapping[str, str],
    parts: Mapping[str, Collection[str]] | None = None,
) -> list[Effect]:
    """Effects of every enhancer of a leaderboard frame, in the order of its rows; none where there is only `none`.

    textures: dataset -> its texture categories, all others are objects. controls: enhancer_label -> `identity` or
    `random` for the arms that are controls. parts: enhancer_label -> the enhancers in it; a control is one for the arms
    that have all its parts (default: for all)."""
    found: list[Effect] = []
    # Stand-in weights are the enhancer's, and its label says so: the host is the same.
    table = table.assign(weights=table["weights"].str.removeprefix(STAND_IN))
    for dataset, cells in table.groupby("dataset", sort=False):
        varying = [key for key in HOST if key != "method_label" and cells[key].nunique() > 1]
        groups = _groups(cells, textures.get(str(dataset), ()))
        for values, own in cells.groupby(list(HOST), sort=False):
            setting = dict(zip(HOST, map(str, values), strict=True))
            host = _Host(str(dataset), setting, varying, own, controls, parts or {})
            for group, categories in groups.items():
                found += host.effects(group, categories)
    return found


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
    own = [effect for effect in effects if effect.dataset == dataset and effect.verdict != NO_NONE]
    found = []
    for metric in METRICS:
        shown = [effect for effect in own if effect.metric == metric]
        controls = dict.fromkeys(against.other for effect in shown for against in effect.over_controls)
        if shown:
            found.append(Table(TITLES[metric], tuple(controls), tuple(_texts(effect, controls) for effect in shown)))
    return found


def _texts(effect: Effect, controls: Iterable[str]) -> EffectTexts:
    first = effect.over_none
    without, with_ = (f"{100 * mean:.2f}" if first.pairs else "–" for mean in (first.without, first.with_))
    proven = not effect.control and all(p.outcome == "better" for p in (first, *effect.over_controls))
    mark = "better" if proven else "worse" if first.outcome == "worse" else ""
    against = {paired.other: paired.text for paired in effect.over_controls}
    over = tuple(against.get(name, "–") for name in controls) if against else ()
    name = effect.enhancer + (" (control)" if effect.control else "")
    return EffectTexts(effect.host, effect.group, name, without, with_, first.text, over, effect.verdict, mark)


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
            "verdict": effect.verdict if against is effect.over_none else "",
        }


def _groups(cells: pd.DataFrame, textures: Collection[str]) -> dict[str, list[str]]:
    """Group -> categories; `all` only where there are both kinds."""
    categories = [str(name) for name in cells["category"].unique()]
    objects = [name for name in categories if name not in textures]
    if 0 < len(objects) < len(categories):
        return {"objects": objects, "textures": [name for name in categories if name in textures], "all": categories}
    return {"objects" if objects else "textures": categories}


class _Host:
    """The arms of one host on one dataset, laid over each other on its grid of category x seed."""

    def __init__(
        self,
        dataset: str,
        setting: dict[str, str],
        varying: Sequence[str],
        cells: pd.DataFrame,
        controls: Mapping[str, str],
        parts: Mapping[str, Collection[str]],
    ) -> None:
        extra = ", ".join(setting[key] for key in varying)
        words = [setting["method_label"], extra and f"[{extra}]", weights_mark(setting["weights"])]
        self.dataset, self.setting, self.name = dataset, setting, " ".join(filter(None, words))
        self.grid = cells[CELL].drop_duplicates().sort_values(CELL, ignore_index=True)
        index = pd.MultiIndex.from_frame(self.grid)
        self.arms = {
            str(label): arm.set_index(CELL)[metric_columns(cells)].reindex(index).reset_index(drop=True)
            for label, arm in cells.groupby("enhancer_label", sort=False)
        }
        self.controls = {label: controls[label] for label in self.arms if label in controls}
        self.parts = parts
        self.applicable = _applicable(cells)

    def effects(self, group: str, categories: Sequence[str]) -> Iterator[Effect]:
        """Effects on some categories, enhancer by enhancer and metric by metric."""
        for label in self.arms:
            for metric, having in self.applicable.items():
                inside = self.grid["category"].isin(having.intersection(categories)).to_numpy()
                if label != "none" and inside.any():
                    yield self._effect(label, metric, group, inside)

    def _effect(self, label: str, metric: str, group: str, inside: NDArray[np.bool_]) -> Effect:
        control = self.controls.get(label, "")
        over_none = self._paired(label, "none", metric, inside)
        its = [] if control else [name for name in self.controls if self._controls(name, label)]
        others = tuple(self._paired(label, other, metric, inside) for other in its)
        if "none" not in self.arms:
            text = NO_NONE
        elif control:
            text = control_verdict(over_none, control, self._identical(label, inside))
        else:
            text = verdict(over_none, [(self._short(other.other), other) for other in others])
        return Effect(self.dataset, self.setting, self.name, group, label, control, metric, over_none, others, text)

    def _controls(self, control: str, label: str) -> bool:
        return set(self.parts.get(control, ())) <= set(self.parts.get(label, ()))

    def _paired(self, label: str, other: str, metric: str, inside: NDArray[np.bool_]) -> Paired:
        missing = np.full(len(self.grid), np.nan)
        values = [self.arms[name][metric].to_numpy() if name in self.arms else missing for name in (label, other)]
        return paired(self.grid[inside], values[0][inside], values[1][inside], other)

    def _identical(self, label: str, inside: NDArray[np.bool_]) -> bool:
        differences = (self.arms[label] - self.arms["none"])[inside].to_numpy()
        known = differences[~np.isnan(differences)]
        return bool(known.size and (known == 0).all())

    def _short(self, label: str) -> str:
        """`identity`, or the whole label where the plan has two controls of that kind."""
        kind = self.controls[label]
        return kind if list(self.controls.values()).count(kind) == 1 else label


def _applicable(cells: pd.DataFrame) -> dict[str, set[str]]:
    """Metric -> categories that have it: one without masks lacks pixel metrics, and that is no failure."""
    done = cells[cells["status"] == "ok"]
    counts = done.groupby("category")[[metric for metric in METRICS if metric in cells]].count()
    unknown = set(cells["category"]) - set(done["category"])
    return {str(metric): {*counts.index[counts[metric] > 0], *unknown} for metric in counts if counts[metric].any()}
