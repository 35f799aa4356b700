"""One arm against another over the cells that both have, and what may be concluded from it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from adcore import stats
from adcore.report.summary import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEW = 6  # pairs; below, a bootstrap interval is too narrow more often than it says
Outcome = Literal["better", "worse", "level", "unknown"]


@dataclass(frozen=True)
class Paired:
    """An arm against the arm `other`, over category x seed cells with a value in both.

    without, with_: means over categories of means over seeds, of the other arm and of this one. difference: with_ -
    without; low, high: its 95 % interval, NaN below two pairs. All are fractions. expected: pairs if no cell were
    missing. equal: no pair differs."""

    other: str
    without: float
    with_: float
    difference: float
    low: float
    high: float
    pairs: int
    expected: int
    categories: int
    seeds: int
    equal: bool

    @property
    def outcome(self) -> Outcome:
        """The side of zero that the whole interval is on."""
        if math.isnan(self.low):
            return "unknown"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "level"

    @property
    def text(self) -> str:
        """`+0.80 [0.30, 1.20]` in points, as far as there is something to tell."""
        if not self.pairs:
            return "no pairs"
        interval = "one pair" if math.isnan(self.low) else f"[{100 * self.low:z.2f}, {100 * self.high:z.2f}]"
        return f"{100 * self.difference:+z.2f} {interval}"


def paired(cells: pd.DataFrame, with_: Floats, without: Floats, other: str) -> Paired:
    """Compare two arms. cells: columns category and seed, one row for each cell that both should have; with_, without:
    a value for each row, NaN where it is missing."""
    both = ~np.isnan(with_ - without)
    category, seed = (cells[name].to_numpy()[both] for name in ("category", "seed"))
    difference = (with_ - without)[both]
    low, high = stats.interval(pd.DataFrame({"category": category, "seed": seed, "value": difference}))
    return Paired(
        other,
        _mean(category, without[both]),
        _mean(category, with_[both]),
        _mean(category, difference),
        low,
        high,
        pairs=len(difference),
        expected=len(cells),
        categories=len(set(category)),
        seeds=len(set(seed)),
        equal=bool(len(difference)) and not difference.any(),
    )


def _mean(category: NDArray[Any], values: Floats) -> float:
    """Mean over categories of the mean of each."""
    if not len(values):
        return math.nan
    _, codes, counts = np.unique(category, return_inverse=True, return_counts=True)
    return float((np.bincount(codes, values) / counts).mean())


def verdict(over_none: Paired, controls: Sequence[tuple[str, Paired]]) -> str:
    """What may be said of an enhancer that is no control, as a sentence without a full stop.

    controls: short name of each control, and the enhancer against it."""
    ahead = over_none.outcome == "better"
    short = [(name, against) for name, against in controls if against.outcome != "better"]
    first = conclusion(over_none)
    if over_none.outcome == "unknown":
        return first + caution(over_none)
    if not controls:
        return f"{first}; the plan has no control for it{caution(over_none)}"
    if not short:
        beaten = {1: f"its control {controls[0][0]}", 2: "both controls"}.get(len(controls), "all its controls")
        return first + (" and " if ahead else ", though it beats ") + beaten + caution(over_none)
    its = "its control" + ("s" if len(short) > 1 else "")
    if not ahead:
        return f"{first}; does not beat {its} {_listed(name for name, _ in short)}{caution(over_none)}"
    listed = _listed(f"{name} ({against.text})" for name, against in short)
    return f"{first} ({over_none.text}) but not {its} {listed}{caution(over_none)}"


def _listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def control_verdict(over_none: Paired, kind: str, identical: bool) -> str:
    """What may be said of a control. identical: all metrics of all its pairs equal those of none, to the last bit."""
    if kind != "identity":
        return conclusion(over_none) + caution(over_none)
    if identical:
        return f"identical to none, as it must be{_missing(over_none)}"
    return f"{conclusion(over_none)}; not identical to none{caution(over_none)}"


def conclusion(over_none: Paired) -> str:
    """An arm against none, in the fewest words."""
    if over_none.pairs < 2:
        return "one pair cannot tell" if over_none.pairs else "no pair to compare"
    if over_none.equal:
        return "equal to none in every cell"
    words = {"better": "beats none", "worse": "is worse than none", "level": "cannot be told apart from none"}
    return words[over_none.outcome]


def caution(over_none: Paired) -> str:
    """How far the interval may be trusted."""
    if not 1 < over_none.pairs < FEW:
        return _missing(over_none)
    return f" (only {over_none.pairs} pairs: the interval is a rough one){_missing(over_none)}"


def _missing(over_none: Paired) -> str:
    gone = over_none.expected - over_none.pairs
    return f" ({gone} of {counted(over_none.expected, 'pair', 'pairs')} missing)" if gone else ""
