"""What a column of the leaderboard is made of, that is no metric: the records of a finished cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from adcore.core.columns import Column
from adcore.core.conformal import Alarms

NUMBERS = ("extract_s", "fit_s", "evaluate_s", "peak_mb")  # of what is recorded with a cell


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell; its files are read when asked for.

    names: its settings, by column. metrics: its numbers by name, None where one does not apply. meta: what was recorded
    with them: extract_s, fit_s, evaluate_s, peak_mb; and versions, platform, git_commit, hardware, judged. latency:
    median_ms, p95_ms and scopes, `size`, hardware, and whether that was busy; empty where they were not measured.
    folder: of its artifact. twins: (category, path) of the test images of its data set that have a twin in training.
    alarms: of the threshold that the plan asks for, None where it asks for none.
    """

    names: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    meta: Mapping[str, Any]
    latency: Mapping[str, Any]
    folder: Path
    twins: Collection[tuple[str, str]] = ()
    alarms: Alarms | None = None

    def recorded(self, name: str) -> float | None:
        """A number of `meta`; None where it does not apply. Raises ValueError where there is none of that name."""
        if name not in NUMBERS:
            raise ValueError(f"a cell has no record '{name}'; known: {', '.join(NUMBERS)}")
        number: float | None = self.meta[name]
        return number

    @property
    def size(self) -> Mapping[str, int]:
        """learnable_params, total_params and macs; empty where they were not counted."""
        counts: Mapping[str, int] = self.latency.get("size", {})
        return counts

    @cached_property
    def images(self) -> pd.DataFrame:
        """Per-image scores: path, label, defect, score, subset."""
        return pd.read_parquet(self.folder / "images.parquet")


class CellColumn(ABC):
    """A column of the leaderboard. needs: metrics without which it is left out."""

    column: ClassVar[Column]
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def value(self, cell: FinishedCell) -> float | str | None:
        """What stands in the row of a cell, text only where the column says so; None where it does not apply."""
