"""A printed table beside what was measured: a row a number, with its difference and a verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from adcore.core.words import counted
from adcore.papers.measured import Found, Lookup, members
from adcore.papers.published import DERIVED, IDENTITY, Names, PublishedError, Table, records
from adcore.papers.targets import AVERAGES, Joiner, Row, Target
from adcore.results.contest import Outcome, against_printed

# What a note says that the paper's own rows give: of an average, of a margin.
RECOMPUTED = re.compile(r"(?:mean of (?:printed rows|logical and structural) |gives [\d.]+-[\d.]+=)(-?\d+(?:\.\d+)?)")
SUSPECT = "suspect cell"
Kind = Literal["within tolerance", "better", "worse", "undecided", "not comparable", "not measured", "not matched", ""]
NOT_COMPARABLE: Kind = "not comparable"
NOT_MEASURED: Kind = "not measured"
NOT_MATCHED: Kind = "not matched"
KINDS: dict[Outcome, Kind] = {
    "alike": "within tolerance",
    "better": "better",
    "worse": "worse",
    "unsure of seeds": "undecided",
}
ORDER: tuple[Kind, ...] = (*KINDS.values(), NOT_COMPARABLE, NOT_MEASURED, NOT_MATCHED)
DECIMALS = 1  # of a measured value that nothing is printed for

Of = Target | str | None  # what a row is of; a reason why it is of nothing; None for a contender that we lack


@dataclass(frozen=True)
class Judgement:
    """What may be said of a measured value beside a printed one; kind "": nothing is to be said.

    reasons: why it cannot be compared. interval: of measured less printed over seeds, in the printed unit, NaN where it
    is not known."""

    kind: Kind
    reasons: tuple[str, ...] = ()
    interval: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class Made:
    """A table that was made: its numbers in the order of the paper, what is missing, and its suites' leaderboards.

    rows: IDENTITY, unit, printed (text, '' where nothing is), value, measured, std, seeds, difference (NaN where there
    is none), judgement, note, selection, ours (whether the contender is one of adcore), derived, lower."""

    stem: str
    profile: str
    rows: pd.DataFrame
    missing: tuple[str, ...] = ()
    boards: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def small(self) -> bool:
        return self.profile == "small"


def make(stem: str, published: pd.DataFrame, names: Names, lookup: Lookup, related: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Made`. published: the printed table. related: all tables of the paper. Raises PublishedError."""
    rows = joined(stem, published, names, related)
    if lookup.small is not None:
        rows = [*((row, of) for row, of in rows if row["category"] in AVERAGES), *_categories(rows, lookup)]
    return pd.DataFrame([_compared(row, of, lookup) for row, of in rows])


def joined(stem: str, published: pd.DataFrame, names: Names, related: pd.DataFrame) -> list[tuple[Row, Of]]:
    """Every row of a printed table with what it is of. Raises PublishedError for a row that names.yaml does not know,
    and for axes that do not tell the rows apart."""
    checked(published, [name for axis in shape(published, names.table(stem)) for name in axis])
    joiner = Joiner(names, related)
    return [(row, joiner.target(stem, row)) for row in records(published)]


def judge(row: Row, found: Found, lower: bool = False) -> Judgement:
    """A measured value beside a printed one, or why nothing can be said of them.

    A printed average or margin that the paper's own rows contradict is held against both; where that matters it is a
    misprint, and the cell cannot be compared. Nor can one whose note calls it suspect."""
    if math.isnan(found.value):
        return Judgement(NOT_MEASURED, found.reasons)
    if found.reasons:
        return Judgement(NOT_COMPARABLE, found.reasons)
    judgement = _against(row["value"], row, found, lower)
    other = RECOMPUTED.search(row["note"])
    contradicted = other and judgement.kind != _against(float(other[1]), row, found, lower).kind
    if contradicted or SUSPECT in row["note"]:
        return Judgement(NOT_COMPARABLE, (f"misprint: {row['note']}",))
    return judgement


def _against(printed: float, row: Row, found: Found, lower: bool) -> Judgement:
    low, high = (end - printed for end in found.interval)
    difference = found.value - printed
    better = (-difference, (-high, -low)) if lower else (difference, (low, high))
    outcome = against_printed(better[0], row["tolerance"], better[1])
    return Judgement(KINDS[outcome], interval=(low, high))


def _compared(row: Row, of: Of, lookup: Lookup) -> dict[str, Any]:
    base = {name: row[name] for name in (*IDENTITY, "unit", "printed", "value", "note", "selection")}
    derived = DERIVED.fullmatch(row["metric"]) is not None
    blank = dict.fromkeys(("measured", "std", "difference"), math.nan) | {"seeds": 0}
    if not isinstance(of, Target):
        judgement = Judgement(NOT_MATCHED, (of,)) if of else Judgement("")
        return base | blank | {"judgement": judgement, "ours": False, "derived": derived, "lower": False}
    found = lookup.find(of)
    if lookup.small is not None and not math.isnan(found.value):
        found = replace(found, reasons=(_stand_in(row, of, found, lookup), *found.reasons))
    compared = bool(row["printed"])
    numbers = {
        "measured": found.value,
        "std": found.std,
        "seeds": found.seeds,
        # Of other data a difference would mean nothing.
        "difference": found.value - row["value"] if compared and lookup.small is None else math.nan,
        "judgement": judge(row, found, of.quantity.lower) if compared else Judgement(""),
    }
    return base | numbers | {"ours": True, "derived": derived, "lower": of.quantity.lower}


def _stand_in(row: Row, target: Target, found: Found, lookup: Lookup) -> str:
    instead = lookup.kind(target.kind) if target.kind else None
    if instead is None:
        return "small profile"
    categories = counted(found.categories, "category", "categories")
    return f"small profile: {categories} of {instead} instead of {row['dataset']}"


def _categories(rows: Sequence[tuple[Row, Of]], lookup: Lookup) -> Iterator[tuple[Row, Of]]:
    """Rows for the categories of the small profile's data, in place of those of the paper; nothing is printed there."""
    done = set()
    for row, of in rows:
        if not isinstance(of, Target) or of.averaged or of.combine == "versus":
            continue
        for dataset, category in _present(of.kind, lookup):
            nothing = {"printed": "", "value": math.nan, "note": "", "selection": ""}
            new = {**row, "dataset": dataset, "category": category, **nothing}
            identity = tuple(new[name] for name in IDENTITY)
            if identity not in done:
                done.add(identity)
                yield new, replace(of, category=category)


def _present(kind: str, lookup: Lookup) -> list[tuple[str, str]]:
    """(dataset, category) of what takes the place of a kind, in the runs."""
    instead, only = lookup.kind(kind), lookup.category(kind)
    found = {
        (spec.name, name): None
        for run in lookup.runs
        for spec in run.plan.datasets
        if spec.of_kind == instead
        for name in members("overall", run.datasets[spec.name], run.table)
        if only in ("", name)
    }
    return list(found)


def best(rows: pd.DataFrame, column: str, apart: Sequence[str] = ()) -> set[int]:
    """Positions of the best values of `column` among those of one dataset, category, metric and `apart`, as far as two
    or more can be compared; differences have no best."""
    found: set[int] = set()
    rows = rows[~rows["derived"]].dropna(subset=column)
    for _, group in rows.groupby(["dataset", "category", "metric", *apart], sort=False):
        values = group[column].round(6)
        if len(group) > 1:
            top = values.min() if group["lower"].any() else values.max()
            found |= {int(str(index)) for index in group.index[values == top]}
    return found


def shape(rows: pd.DataFrame, table: Table) -> tuple[list[str], list[str]]:
    """The fields that are a table's rows and its columns: those of names.yaml, else by what varies. Metrics that are in
    neither stand side by side in a cell."""
    if table.rows:
        return list(table.rows), list(table.columns)
    places, contenders = (
        [name for name in names if rows[name].nunique() > 1]
        for names in (("dataset", "category"), ("setting", "method", "enhancer"))
    )
    if "category" in places:
        return places, contenders or ["method"]
    return [*places, *contenders] or ["method"], ["metric"]


def told_apart(columns: Sequence[str]) -> list[str]:
    """Fields whose values do not compete for the best."""
    return [name for name in columns if name == "setting"] if "metric" in columns else []


def checked(rows: pd.DataFrame, axes: Sequence[str]) -> None:
    """Raise PublishedError unless every number has a place of its own on these axes, metrics apart."""
    twice = rows[rows.duplicated([*dict.fromkeys([*axes, "metric"])])]
    if len(twice):
        where = ", ".join(f"{name} {twice.iloc[0][name]}" for name in IDENTITY[2:])
        raise PublishedError(
            f"names.yaml: on the axes {', '.join(axes)} a cell has several numbers ({where}); add a field"
        )


def count(rows: pd.DataFrame) -> str:
    """`12 within tolerance, 3 worse`, of all judgements."""
    kinds = [judgement.kind for judgement in rows["judgement"]]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in ORDER if kind in kinds) or "no system of ours"
