"""Parameters of the method and of what stands before it."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class TotalParameters(CellColumn):
    """Parameters of the method and of what stands before it."""

    column = Column(
        "total_params",
        "M parameters",
        "millions of parameters of the method, and of the backbone up to the last level read",
        kind="cost",
        unit="M",
        scale=1e6,
        digits=2,
        over="max",
        order=60,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.size.get("total_params")
