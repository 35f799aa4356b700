"""Seconds to fit a cell."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class FitSeconds(CellColumn):
    """Seconds to fit a cell."""

    column = Column(
        "fit_s",
        "fit s",
        "mean seconds to fit a cell, feature extraction not counted",
        kind="cost",
        unit="s",
        run="sum",
        shown=("leaderboard", "mlflow"),
        order=20,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.recorded("fit_s")
