"""Numbers that papers print: published/*.csv, and published/names.yaml, which joins their spellings with ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adcore.core import shipped
from adcore.core.plan import Choice

FOLDER = shipped.folder("published")
NAMES = "names.yaml"
DERIVED = re.compile(r"(delta|margin|range)_(.+?)(?:_(?:vs|over)_(.+))?")  # metrics that are differences
CHECKS = "average_checks"  # of printed averages: no table
IDENTITY = ("paper", "table", "dataset", "setting", "method", "enhancer", "category", "metric")
COLUMNS = (*IDENTITY, "value", "unit", "note")
SELECTIONS = {  # how a printed number was picked among those of its training; README.md beside the files names sources
    "untrained": "nothing is trained in epochs that could be picked from",
    "last": "of the last epoch",
    "test": "of the epoch that was best on the test images",
    "test by metric": "of the epoch that was best on the test images, another one for each metric",
    "unknown": "not known",
    "": "not said",
}
POINTS = ("%", "pp")
TOLERANCE = 0.5  # points; of other units percent of the printed value


class PublishedError(Exception):
    """A file of published numbers cannot be used; the message names the file, the place and the mend."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(Strict):
    """Where a measured number stands: a column of that file, or a scope of latency.csv; `times` makes it the printed
    unit. `lower` is better. `caveat`: why it is not what was printed."""

    column: str
    source: Literal["leaderboard", "latency", "efficiency"] = "leaderboard"
    times: float = 100.0
    lower: bool = False
    caveat: str | None = None


class Ours(Strict):
    """A part of what a printed row stands for here; the comments of names.yaml tell each key."""

    method: str | None = None
    options: dict[str, Any] = {}
    enhancer: str | None = None
    protocol: Annotated[Choice | None, BeforeValidator(lambda v: {"name": v} if isinstance(v, str) else v)] = None
    backbone: str | None = None
    layers: tuple[int | str, ...] | None = None
    image: str | None = None
    small: str | None = None
    caveat: str | None = None
    counts: dict[str, str] = {}
    versus: Ours | None = None
    spread: Annotated[dict[str, list[Any]], Field(max_length=1)] = {}

    def then(self, other: Ours) -> Ours:
        """Both; what `other` says replaces what this says."""
        said = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=said | {"options": {**self.options, **other.options}})


class Table(Strict):
    """How a table is made; without `suites`, from those that are named as it is. sizes: the suites whose networks are
    counted for it, where they are others than those of the full profile. systems: what a method stands for in this
    table beyond what it is elsewhere."""

    suites: tuple[str, ...] | None = None
    small: tuple[str, ...] | None = None
    sizes: tuple[str, ...] | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    as_: Ours = Field(Ours(), alias="as")
    systems: dict[str, Ours] = {}
    metrics: dict[str, Quantity] = {}

    def plans(self, stem: str, profile: str) -> tuple[str, ...]:
        """Names of the suites to run for a profile, full or small."""
        if profile == "small":
            return (f"{stem}-small",) if self.small is None else self.small
        return (stem,) if self.suites is None else self.suites

    def sized(self, stem: str) -> tuple[str, ...]:
        """Names of the suites whose networks are counted for its sizes."""
        return self.plans(stem, "full") if self.sizes is None else self.sizes


class Unmatched(Strict):
    """Rows that stand for nothing that can be measured here, and why."""

    where: Annotated[dict[str, str], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class Names(Strict):
    """names.yaml."""

    datasets: dict[str, str]
    categories: dict[str, dict[str, str]] = {}
    small: dict[str, str] = {}
    metrics: dict[str, Quantity]
    systems: dict[str, Ours]
    absent: tuple[str, ...] = ()
    enhancers: dict[str, Ours]
    settings: dict[str, Ours]
    tables: dict[str, Table] = {}
    unmatched: tuple[Unmatched, ...] = ()

    def table(self, stem: str) -> Table:
        return self.tables.get(stem, Table())

    def why_unmatched(self, row: Mapping[str, Any]) -> str:
        """The reason that is listed for a row, or ''."""
        fits = (entry for entry in self.unmatched if all(row[name] == value for name, value in entry.where.items()))
        return next((entry.reason for entry in fits), "")


def stems(folder: Path = FOLDER) -> list[str]:
    """Names of all tables, Table 2 before Table 10."""

    def order(stem: str) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", stem)]

    return sorted((path.stem for path in folder.glob("*.csv") if path.stem != CHECKS), key=order)


def table(stem: str, folder: Path = FOLDER) -> pd.DataFrame:
    """A printed table, a row a number: IDENTITY, unit, note and selection as text, `printed` as it was printed, `value`
    and `tolerance` (both in the printed unit) as float64. Raises PublishedError."""
    path = folder / f"{stem}.csv"
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise PublishedError(
            f"cannot read {path}: {error.strerror or error}; known: {', '.join(stems(folder))}"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise PublishedError(f"{path} is not a CSV file: {error}") from None
    if not isinstance(found.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise PublishedError(f"{path}: lines have more fields than the header; quote texts, and print 97.5, not 97,5")
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise PublishedError(f"{path} lacks the columns {', '.join(missing)}; README.md beside it tells what they hold")
    twice = found[found.duplicated(list(IDENTITY))]
    if len(twice):
        raise PublishedError(f"{path}, line {twice.index[0] + 2}: this cell stands in it twice; remove one")
    values = [_number(text, path, line) for line, text in enumerate(found["value"], start=2)]
    given, selection = (_optional(found, name) for name in ("tolerance", "selection"))
    for line, word in enumerate(selection, start=2):
        if word not in SELECTIONS:
            listed = ", ".join(filter(None, SELECTIONS))
            raise PublishedError(f"{path}, line {line}: selection '{word}' is none of {listed}")
    rows = found[list(COLUMNS)].rename(columns={"value": "printed"}).assign(value=values, selection=selection)
    allowed = [
        _number(text, path, line) if text else usual
        for line, (text, usual) in enumerate(zip(given, _tolerances(rows), strict=True), start=2)
    ]
    return rows.assign(tolerance=allowed)


def _optional(found: pd.DataFrame, name: str) -> pd.Series[str]:
    return found[name] if name in found else pd.Series("", index=found.index)


def _tolerances(rows: pd.DataFrame) -> list[float]:
    """TOLERANCE, but at most half of what the paper claims: of a printed difference, and of the least one that it
    prints between two settings or enhancers of a method. Else a claim of 0.18 points would hold whatever is measured.
    Never less than half a unit in the last printed place, since no print tells more."""
    usual = [
        TOLERANCE * (1.0 if u in POINTS else abs(v) / 100) for u, v in zip(rows["unit"], rows["value"], strict=True)
    ]
    claims = [
        abs(value) if DERIVED.fullmatch(metric) else nearest
        for value, metric, nearest in zip(rows["value"], rows["metric"], _nearest(rows), strict=True)
    ]
    places = [text.partition(".")[2] for text in rows["printed"]]
    return [
        max(min(most, claim / 2), 0.5 * 10.0 ** -len(place))
        for most, claim, place in zip(usual, claims, places, strict=True)
    ]


def _nearest(rows: pd.DataFrame) -> list[float]:
    """How far the nearest other value of the same method is, on the same data by that metric; inf: there is none."""
    groups = rows.groupby(["dataset", "category", "metric", "method"])["value"].agg(list)
    keys = zip(rows["dataset"], rows["category"], rows["metric"], rows["method"], strict=True)
    others = [groups[key] for key in keys]
    return [
        min((abs(value - other) for other in group if other != value), default=math.inf)
        for value, group in zip(rows["value"], others, strict=True)
    ]


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, by column."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def names(folder: Path = FOLDER) -> Names:
    """names.yaml of a folder. Raises PublishedError."""
    path = folder / NAMES
    try:
        return Names.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PublishedError(f"cannot read {path}: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise PublishedError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
        raise PublishedError(f"{path}: {'; '.join(mistakes)}") from None


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PublishedError(f"{path}, line {line}: '{text}' is not a number; give it as printed, without its unit")
    return value
