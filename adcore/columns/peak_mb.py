"""Peak memory."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class PeakMegabytes(CellColumn):
    """Peak memory."""

    column = Column(
        "peak_mb",
        "peak MB",
        "largest memory of the process in any step of a cell",
        kind="cost",
        unit="MB",
        digits=0,
        over="max",
        order=40,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.recorded("peak_mb")
