"""The same host with and without an enhancer, and the enhancer against its controls, over cells that both have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adcore.core.columns import STAND_IN
from adcore.engine import registry
from adcore.results.contenders import SETTING, ContenderResult
from adcore.results.contests import Contests
from adcore.results.frame import metric_columns
from adcore.results.paired import Paired, paired
from adcore.results.runs import weights_mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOST = tuple(name for name in SETTING if name not in ("dataset", "enhancer_label"))
CELL = ["category", "seed"]


@dataclass(frozen=True)
class Effect:
    """What an enhancer does to one metric of a host on a group of categories (`objects`, `textures`, `all`).

    setting: the host's leaderboard columns. control: `identity`, `random`, or '' for one that is no control.
    controls: label -> kind, of all of the host. bare: whether the plan has the host without an enhancer. over_none:
    against that. over_controls: against every control of it; empty for a control. identical: all metrics of all cells
    equal those of none, to the last bit."""

    dataset: str
    setting: Mapping[str, str]
    host: str
    group: str
    enhancer: str
    control: str
    controls: Mapping[str, str]
    metric: str
    bare: bool
    over_none: Paired
    over_controls: tuple[Paired, ...]
    identical: bool

    @property
    def proven(self) -> bool:
        """Whether it is better than none and than all its controls."""
        against = (self.over_none, *self.over_controls)
        return not self.control and all(one.standing == "better" for one in against)

    def short(self, label: str) -> str:
        """Of a control: `identity`, or the whole label where the plan has two of that kind."""
        kind = self.controls[label]
        return kind if list(self.controls.values()).count(kind) == 1 else label


def compare(
    contests: Contests,
    textures: Mapping[str, Collection[str]],
    controls: Mapping[str, str],
    parts: Mapping[str, Collection[str]] | None = None,
) -> list[Effect]:
    """Effects of every enhancer of a leaderboard, in the order of its rows; none where there is only `none`.

    textures: dataset -> its texture categories, all others are objects. controls: enhancer_label -> `identity` or
    `random` for those that are controls. parts: enhancer_label -> the enhancers in it; a control is one for the chains
    that have all its parts (default: for all)."""
    effects: list[Effect] = []
    for dataset, contenders in contests.contenders.items():
        cells = pd.concat([each.cells for each in contenders]).sort_index()
        groups = _groups(cells, textures.get(dataset, ()))
        for host in _hosts(contests, dataset, contenders, controls, parts or {}):
            for group, categories in groups.items():
                effects += host.effects(group, categories)
    return effects


def _groups(cells: pd.DataFrame, textures: Collection[str]) -> dict[str, list[str]]:
    """Group -> categories; `all` only where there are both kinds."""
    categories = [str(name) for name in cells["category"].unique()]
    objects = [name for name in categories if name not in textures]
    if 0 < len(objects) < len(categories):
        return {"objects": objects, "textures": [name for name in categories if name in textures], "all": categories}
    return {"objects" if objects else "textures": categories}


def _hosts(
    contests: Contests,
    dataset: str,
    contenders: Sequence[ContenderResult],
    controls: Mapping[str, str],
    parts: Mapping[str, Collection[str]],
) -> list[_Host]:
    """The contenders of a dataset by what they have in common but for the enhancer, in the order of the rows."""
    settings: dict[tuple[str, ...], list[ContenderResult]] = {}
    for contender in sorted(contenders, key=lambda each: int(str(each.cells.index[0]))):
        settings.setdefault(tuple(_host_setting(contender).values()), []).append(contender)
    hosts = [_host_setting(each) for each in contenders]
    varying = [key for key in HOST if key != "method_label" and len({host[key] for host in hosts}) > 1]
    return [_Host(contests, dataset, varying, own, controls, parts) for own in settings.values()]


def _host_setting(contender: ContenderResult) -> dict[str, str]:
    """Without the enhancer, whose label says that its weights are stand-ins: the host is the same."""
    setting = {key: contender.setting[key] for key in HOST}
    return setting | {"weights": setting["weights"].removeprefix(STAND_IN)}


class _Host:
    """The contenders of one host on one dataset, laid over each other on its grid of category x seed."""

    def __init__(
        self,
        contests: Contests,
        dataset: str,
        varying: Sequence[str],
        contenders: Sequence[ContenderResult],
        controls: Mapping[str, str],
        parts: Mapping[str, Collection[str]],
    ) -> None:
        self.contests, self.dataset, self.setting = contests, dataset, _host_setting(contenders[0])
        extra = ", ".join(self.setting[key] for key in varying)
        words = [self.setting["method_label"], extra and f"[{extra}]", weights_mark(self.setting["weights"])]
        self.name = " ".join(filter(None, words))
        self.contenders = {each.setting["enhancer_label"]: each for each in contenders}
        cells = pd.concat([each.cells for each in contenders])
        self.grid = cells[CELL].drop_duplicates().sort_values(CELL, ignore_index=True)
        index = pd.MultiIndex.from_frame(self.grid)
        self.values = {
            label: contender.cells.set_index(CELL)[metric_columns(cells)].reindex(index).reset_index(drop=True)
            for label, contender in self.contenders.items()
        }
        self.controls = {label: controls[label] for label in self.contenders if label in controls}
        self.parts = parts
        self.applicable = _applicable(cells)

    def effects(self, group: str, categories: Sequence[str]) -> Iterator[Effect]:
        """Effects on some categories, enhancer by enhancer and metric by metric."""
        for label in self.contenders:
            for metric, having in self.applicable.items():
                inside = self.grid["category"].isin(having.intersection(categories)).to_numpy()
                if label != "none" and inside.any():
                    yield self._effect(label, metric, group, categories, inside)

    def _effect(
        self, label: str, metric: str, group: str, categories: Sequence[str], inside: NDArray[np.bool_]
    ) -> Effect:
        control = self.controls.get(label, "")
        its = [] if control else [name for name in self.controls if self._controls(name, label)]
        bare = "none" in self.contenders
        return Effect(
            self.dataset,
            self.setting,
            self.name,
            group,
            label,
            control,
            self.controls,
            metric,
            bare,
            over_none=self._paired(label, "none", metric, categories, inside),
            over_controls=tuple(self._paired(label, other, metric, categories, inside) for other in its),
            identical=bare and self._identical(label, inside),
        )

    def _controls(self, control: str, label: str) -> bool:
        return set(self.parts.get(control, ())) <= set(self.parts.get(label, ()))

    def _paired(
        self, label: str, other: str, metric: str, categories: Sequence[str], inside: NDArray[np.bool_]
    ) -> Paired:
        with_ = self.values[label][metric].to_numpy()[inside]
        if other not in self.contenders:
            return paired(self.grid[inside], with_, np.full(len(with_), np.nan), other, "incomplete")
        without = self.values[other][metric].to_numpy()[inside]
        contest = self.contests.of(self.dataset, metric, categories)
        pair = contest.between(self.contenders[label].setting, self.contenders[other].setting)
        return paired(self.grid[inside], with_, without, other, pair.outcome if pair else "incomplete")

    def _identical(self, label: str, inside: NDArray[np.bool_]) -> bool:
        differences = (self.values[label] - self.values["none"])[inside].to_numpy()
        present = differences[~np.isnan(differences)]
        return bool(present.size and (present == 0).all())


def _applicable(cells: pd.DataFrame) -> dict[str, set[str]]:
    """Metric -> categories that have it: one without masks lacks pixel metrics, and that is no failure."""
    done = cells[cells["status"] == "ok"]
    counts = done.groupby("category")[[metric for metric in registry.shown_in("enhancers") if metric in cells]].count()
    unknown = set(cells["category"]) - set(done["category"])
    return {str(metric): {*counts.index[counts[metric] > 0], *unknown} for metric in counts if counts[metric].any()}
