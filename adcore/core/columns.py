"""What a column of the leaderboard is, and the columns that tell which cell a row is of.

Metrics bring theirs in adcore/metrics/, all others in adcore/columns/; the whole table is
`adcore.engine.registry.columns`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["place", "name", "setting", "seed", "metric", "note", "cost", "record"]
Place = Literal["leaderboard", "console", "ranking", "categories", "statistics", "enhancers", "mlflow"]
Aggregate = Literal["mean", "median", "max", "sum"]

KINDS: Sequence[Kind] = get_args(Kind)  # in which the leaderboard has them
LAST = 1000  # the order of a column that says nothing of it
STAND_IN = "stand-in, "  # in the column `weights` before their name, where some only stand in for the right ones


@dataclass(frozen=True)
class Column:
    """A column. name: in leaderboard.csv and in a row. title: in a header. meaning: in one sentence, without a period.

    kind: place and name say what a cell is of; a setting makes a contender, which a seed repeats; a metric is compared;
    a note belongs to a metric or a data set, a cost to the machine; a record says where the cell lies.
    unit: `%` shows a fraction as percent; of any other, a value over `scale` is in it. digits: behind the point.
    better: which end of it, of a metric. over: how cells of a contender become one value; run: how those of an MLflow
    run do, where not so.
    shown: where, beside leaderboard.csv. The first one of `ranking` that has a value orders the contenders; it and
    those of `categories` have a table by category in the report.
    order: among those of its kind, then by name. text: it holds words.
    """

    name: str
    title: str
    meaning: str
    kind: Kind = "metric"
    unit: str = "%"
    scale: float = 1.0
    digits: int = 1
    better: Literal["higher", "lower"] = "higher"
    over: Aggregate = "mean"
    run: Aggregate | None = None
    shown: tuple[Place, ...] = ("leaderboard",)
    order: int = LAST
    text: bool = False

    def __post_init__(self) -> None:
        if "enhancers" in self.shown and self.unit != "%":
            raise ValueError(f"column {self.name}: the table of enhancers is in percent; leave it out of `shown`")

    @property
    def heading(self) -> str:
        """The title, with a mark where the best is the lowest."""
        return f"{self.title} ↓" if self.kind == "metric" and self.better == "lower" else self.title

    def value(self, stored: float) -> float:
        """A stored value in the column's unit."""
        return 100 * stored if self.unit == "%" else stored / self.scale

    def format(self, stored: float, std: float = math.nan) -> str:
        """`98.4`, `98.4 ± 0.2`, or a dash where it does not apply."""
        spread = "" if math.isnan(std) else f" ± {self.value(std):,.{self.digits}f}"
        if self.kind == "cost" and 0 < self.value(stored) < 0.5 * 10**-self.digits:  # not nothing, however small
            return f"{self.value(stored):.1g}{spread}"
        return "–" if math.isnan(stored) else f"{self.value(stored):,.{self.digits}f}{spread}"

    def fine(self, stored: float, sign: str = "") -> str:
        """A value or a difference of two with one digit more, a dash where it is not known. sign: `+` shows it."""
        return "–" if math.isnan(stored) else f"{self.value(stored):{sign}z.{self.digits + 1}f}"

    def interval(self, low: float, high: float) -> str:
        """`[0.30, 1.20]`, with one digit more than values; a dash where it is not known."""
        return "–" if math.isnan(low + high) else f"[{self.fine(low)}, {self.fine(high)}]"

    @property
    def steps(self) -> str:
        """What a difference is counted in, with a blank before it: points of a metric in percent."""
        return " points" if self.unit == "%" else f" {self.unit}" if self.unit else ""

    def rounded(self, stored: float) -> float:
        """A stored value as far as it is printed, in the column's unit; NaN stays."""
        return stored if math.isnan(stored) else round(self.value(stored), self.digits)

    def rank(self, stored: float) -> float:
        """Largest where the column is best."""
        return stored if self.better == "higher" else -stored

    def of(self, subset: str) -> Column:
        """The same of a named subset of the test images."""
        name, title = f"{self.name}_{subset}", f"{self.title} ({subset})"
        meaning = f"{self.meaning}; of the defects '{subset}' and all normal images"
        return replace(self, name=name, title=title, meaning=meaning, shown=("leaderboard",), order=LAST)


def _fixed(name: str, title: str, kind: Kind, order: int, meaning: str, text: bool = True) -> Column:
    return Column(name, title, meaning, kind, unit="", digits=0, shown=(), order=order, text=text)


FIXED = (
    _fixed("dataset", "dataset", "place", 1, "name of the dataset in the plan"),
    _fixed("category", "category", "place", 2, "category of the dataset"),
    _fixed("protocol", "protocol", "name", 1, "name of the protocol, without its options"),
    _fixed("enhancer", "enhancer", "name", 2, "names of the enhancers in a row, without their options"),
    _fixed("method", "method", "name", 3, "name of the method, without its options"),
    _fixed("protocol_label", "protocol", "setting", 1, "protocol with its options"),
    _fixed("enhancer_label", "enhancer", "setting", 2, "enhancers in a row, with their options"),
    _fixed("method_label", "method", "setting", 3, "method with its options"),
    _fixed("backbone", "backbone", "setting", 4, "network that gives the features, and which of its layers"),
    _fixed("weights", "weights", "setting", 5, "weights of the backbone, and what only stands in for the right ones"),
    _fixed("image", "image", "setting", 6, "pixels of a side, and of the centre crop"),
    _fixed("seed", "seed", "seed", 1, "seed of the protocol, the enhancers and the method", text=False),
    _fixed("key", "key", "record", 1, "key of the cell in the store"),
    _fixed("mlflow_run_id", "MLflow run", "record", 2, "id of the MLflow run that has it"),
    _fixed("status", "status", "record", 3, "ok, or failed where there are no numbers"),
)


def names(*kinds: Kind) -> tuple[str, ...]:
    """Names of the fixed columns of these kinds, in the leaderboard's order."""
    return tuple(column.name for kind in KINDS if kind in kinds for column in FIXED if column.kind == kind)
