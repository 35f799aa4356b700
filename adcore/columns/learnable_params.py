"""Parameters that the method itself trains."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class LearnableParameters(CellColumn):
    """Parameters that the method itself trains."""

    column = Column(
        "learnable_params",
        "M learnable",
        "millions of parameters that the method itself trains",
        kind="cost",
        unit="M",
        scale=1e6,
        digits=2,
        over="max",
        order=50,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.size.get("learnable_params")
