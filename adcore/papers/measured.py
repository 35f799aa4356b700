"""What a plan has measured for a printed number, and why the two may not be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from adcore.engine import registry
from adcore.engine.cells import setting
from adcore.papers.targets import AVERAGES, PrintedContender, Target
from adcore.results.runs import weights_mark
from adcore.results.seeds import seed_interval

if TYPE_CHECKING:
    from adcore.core.plan import DatasetSpec, Plan
    from adcore.datasets.base import Dataset
    from adcore.engine.bench import Bench
    from adcore.engine.cells import Contender


@dataclass(frozen=True)
class Run:
    """A plan and what is there of it: its leaderboard and latencies. name: of the suite. missing: dataset -> why it has
    no cells."""

    name: str
    plan: Plan
    contenders: Sequence[Contender]
    table: pd.DataFrame
    datasets: Mapping[str, Dataset]
    timings: Sequence[Mapping[str, Any]] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        bench: Bench,
        table: pd.DataFrame,
        missing: Mapping[str, str],
        timings: Sequence[Mapping[str, Any]],
    ) -> Run:
        """A bench, its leaderboard and latencies."""
        datasets = {spec.name: bench.dataset(spec.name) for spec in bench.plan.datasets}
        return cls(name, bench.plan, bench.contenders, table, datasets, timings, missing)


@dataclass(frozen=True)
class Found:
    """A measured value in the printed unit, NaN where there is none; `reasons` are against comparing it, or for its
    absence. std: over seeds. complete: of all categories of an average. categories: how many they are. values: by
    category (index) and seed (columns), of the seeds that have every category."""

    value: float = math.nan
    std: float = math.nan
    seeds: int = 0
    reasons: tuple[str, ...] = ()
    complete: bool = True
    categories: int = 0
    values: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value over seeds; NaN where it is not known."""
        if self.values is None:
            return math.nan, math.nan
        low, high = seed_interval(self.values.to_numpy())
        shift = self.value - float(self.values.to_numpy().mean())
        return float(low) + shift, float(high) + shift

    def less(self, other: Found) -> Found:
        """The difference of two measured values; by seed where both have the same."""
        reasons = tuple(dict.fromkeys((*self.reasons, *other.reasons)))
        values = None
        if self.values is not None and other.values is not None and _same_axes(self.values, other.values):
            values = self.values - other.values
        return Found(
            self.value - other.value, seeds=self.seeds, reasons=reasons, categories=self.categories, values=values
        )

    def less_printed(self, printed: float) -> Found:
        """The margin over a printed value, which has no seeds."""
        values = None if self.values is None else self.values - printed
        return replace(self, value=self.value - printed, std=math.nan, complete=True, values=values)


@dataclass(frozen=True)
class Lookup:
    """Finds measured values in some runs. small: our kind of dataset -> the one in its place, or one category of that
    as KIND/CATEGORY, in the small profile; None in the full one. sizes: rows of flows.efficiency; None: networks were
    not counted."""

    runs: Sequence[Run]
    small: Mapping[str, str] | None = None
    sizes: Sequence[Mapping[str, Any]] | None = ()

    def find(self, target: Target) -> Found:
        """What has been measured for a target; where several contenders fit, the one that differs least."""
        if target.combine == "range":
            return _spread([self._one(target, printed) for printed in target.contenders])
        first, *others = (self._one(target, printed) for printed in target.contenders)
        if target.combine == "delta":
            return first.less(others[0])
        if target.combine == "versus":
            if self.small is not None:
                return Found(reasons=("on other data a margin over a printed value means nothing",))
            return first.less_printed(target.printed)
        return first

    def every(self, target: Target, run: Run) -> list[tuple[str, Contender, Found]]:
        """(dataset, contender, value) of each contender of a run that the target is of, whatever it differs in."""
        printed = target.contenders[0]
        return [
            (spec.name, contender, _on(target, run, spec, contender, _against(printed, run, contender)))
            for spec in run.plan.datasets
            if spec.of_kind == target.kind
            for contender in run.contenders
            if printed.differences(contender) is not None
        ]

    def kind(self, kind: str) -> str | None:
        """The kind of dataset that is read for one of a paper; None: nothing takes its place."""
        if self.small is None:
            return kind
        return self.small[kind].partition("/")[0] if kind in self.small else None

    def category(self, kind: str) -> str:
        """The category that alone takes the place of a kind of dataset of a paper; '': all do."""
        return "" if self.small is None else self.small.get(kind, "").partition("/")[2]

    def _one(self, target: Target, printed: PrintedContender) -> Found:
        source = {"latency": self._latency, "efficiency": self._size}.get(target.quantity.source)
        if source:
            return source(target, printed)
        kind = self.kind(target.kind)
        if kind is None:
            return Found(reasons=(f"nothing takes the place of {target.kind} in the small profile",))
        fitting = self._fitting(printed)
        only = self.category(target.kind)
        found = [
            _on(target, run, spec, contender, against, only)
            for run, contender, against in fitting
            for spec in run.plan.datasets
            if spec.of_kind == kind
        ]
        there = [value for value in found if not math.isnan(value.value)]
        if there:
            return min(there, key=lambda value: len(value.reasons))
        if found:
            return found[0]
        return Found(reasons=(f"no suite has {kind}" if fitting else self._absence(printed),))

    def _fitting(self, printed: PrintedContender) -> list[tuple[Run, Contender, list[str]]]:
        """The contenders that it stands for, with what is against each; in the full profile on its backbone alone."""
        backbone = printed.ours.backbone if self.small is None else printed.ours.small
        return [
            (run, contender, _against(printed, run, contender))
            for run in self.runs
            for contender in run.contenders
            if backbone in (None, contender.backbone.name) and printed.differences(contender) is not None
        ]

    def _absence(self, printed: PrintedContender) -> str:
        if self.small is not None and printed.ours.small == "-":
            return f"nothing takes the place of {printed.ours.backbone} in the small profile"
        return "no suite has this system" if self.runs else "nothing was run"

    def _latency(self, target: Target, printed: PrintedContender) -> Found:
        for run, contender, against in self._fitting(printed):
            labels = {name: contender.names[name] for name in ("method_label", "enhancer_label")}
            labels |= {name: value for name, value in _network(run, contender).items() if name != "weights"}
            for timing in run.timings:
                if labels == {name: timing[name] for name in labels} and not timing["busy"]:
                    milliseconds = timing["latency"]["scopes"][target.quantity.column]["median_ms"]
                    machine = (
                        f"timed on {timing['hardware']} with {timing['threads']} threads, printed for another machine"
                    )
                    return Found(milliseconds * target.quantity.times, reasons=(*against, machine))
        return Found(reasons=("no latency of this system is there",))

    def _size(self, target: Target, printed: PrintedContender) -> Found:
        quantity, ours = target.quantity, printed.ours
        found = []
        for row in self.sizes or ():
            same = row["method_label"] == printed.label and row["backbone"] == ours.backbone
            value = float(row.get(quantity.column, math.nan))
            if same and not math.isnan(value):
                against = [ours.counts[quantity.column]] if quantity.column in ours.counts else []
                if ours.image not in (None, row["image"]):
                    against.append(f"image {row['image']} instead of {ours.image}")
                if quantity.column.startswith("images_per_s"):
                    against.append(f"timed on {row['device']}, printed for another machine")
                found.append(Found(value * quantity.times, reasons=tuple(against)))
        if found:
            return min(found, key=lambda one: len(one.reasons))
        if self.sizes is None:
            return Found(reasons=("sizes are of the paper's own network: the full profile counts them, without data",))
        return Found(reasons=(f"no suite has {printed.label} on {ours.backbone}",))


def _network(run: Run, contender: Contender) -> dict[str, str]:
    """The columns that tell a contender's rows from those on other networks, where the plan has several."""
    return setting(run.plan, contender) if contender.network else {}


def _against(printed: PrintedContender, run: Run, contender: Contender) -> list[str]:
    caveats = [printed.ours.caveat] if printed.ours.caveat and contender.backbone.name == printed.ours.backbone else []
    return [*caveats, *printed.conditions(contender), *(printed.differences(contender) or [])]


def _on(
    target: Target, run: Run, spec: DatasetSpec, contender: Contender, against: Sequence[str], only: str = ""
) -> Found:
    """The mean over the target's categories of the mean over seeds, on one dataset of a run; `only`: on that one."""
    rows = run.table[run.table["dataset"] == spec.name]
    labels = {name: contender.names[name] for name in ("protocol_label", "enhancer_label", "method_label")}
    for name, value in (labels | _network(run, contender)).items():
        rows = rows[rows[name] == value]
    rows = rows[rows["status"] == "ok"]
    if rows.empty:
        return Found(reasons=(run.missing.get(spec.name, f"{run.name} has not been computed"),))
    if target.column not in rows or rows[target.column].isna().all():
        return Found(reasons=(f"{spec.name} has no {target.column}",))
    wanted, done = members(target.category, run.datasets[spec.name], run.table), set(rows["category"])
    wanted = [name for name in wanted if only in ("", name)]
    rows = rows[rows["category"].isin(wanted)].dropna(subset=target.column)
    there = rows["category"].nunique()
    if not there:
        lacking = f"{run.name} has no {', '.join(wanted) or target.category} of {spec.name}"
        return Found(reasons=(run.missing.get(spec.name, lacking),))
    by_category = rows.groupby("category")[target.column].mean()
    by_seed = rows.groupby("seed")[target.column].agg(["mean", "size"])
    reasons = [*filter(None, [target.quantity.caveat]), *against, *_data(spec), *_weights(rows)]
    complete = there == len(wanted)
    if not complete:
        reasons.append(f"{there} of {len(wanted)} categories")
    elif contender.protocol.joint and 0 < len(done) < len(run.datasets[spec.name].facts):
        reasons.append(f"a joint model with {len(done)} of {len(run.datasets[spec.name].facts)} categories")
    if run.plan.evaluate_at == "original" and registry.judged_by_pixel(target.column):
        reasons.append("pixels of the original images, not of the network's input")
    times = target.quantity.times
    whole = by_seed["mean"][by_seed["size"] == len(wanted)]  # a seed that lacks a category has another mean
    std = float(whole.std(ddof=1)) if len(whole) > 1 else math.nan
    values = rows.pivot_table(values=target.column, index="category", columns="seed")[whole.index] * times
    return Found(
        float(by_category.mean()) * times,
        std * times,
        seeds=len(by_seed),
        reasons=tuple(reasons),
        complete=complete,
        categories=there,
        values=values if len(whole) else None,
    )


def members(category: str, dataset: Dataset, table: pd.DataFrame) -> list[str]:
    """The categories that a printed one stands for: itself, or all of the published set, or its textures or objects. Of
    a set without published facts those of the leaderboard."""
    if category not in AVERAGES:
        return [category]
    every = list(dataset.facts) or sorted(set(table["category"][table["dataset"] == dataset.name]))
    if category in ("avg_texture", "avg_object"):
        return [name for name in every if dataset.is_texture(name) == (category == "avg_texture")]
    return every


def _data(spec: DatasetSpec) -> list[str]:
    caps = {"training": spec.max_train, "test": spec.max_test}
    return [f"at most {cap} {split} images" for split, cap in caps.items() if cap is not None]


def _weights(rows: pd.DataFrame) -> list[str]:
    return [mark.strip("()") for mark in sorted({weights_mark(str(name)) for name in rows["weights"]}) if mark]


def _same_axes(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return one.index.equals(other.index) and one.columns.equals(other.columns)


def _spread(found: Sequence[Found]) -> Found:
    values = [one.value for one in found if not math.isnan(one.value)]
    reasons = [reason for one in found for reason in one.reasons if not math.isnan(one.value) or not values]
    if values and len(values) < len(found):
        reasons.append(f"{len(values)} of {len(found)} runs")
    value = max(values) - min(values) if len(values) > 1 else math.nan
    seeds, categories = (max(getattr(one, name) for one in found) for name in ("seeds", "categories"))
    return Found(value, seeds=seeds, reasons=tuple(dict.fromkeys(reasons)), categories=categories)
