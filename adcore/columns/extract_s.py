"""Seconds to extract the features of a cell."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class ExtractSeconds(CellColumn):
    """Seconds to extract the features of a cell."""

    column = Column(
        "extract_s",
        "extract s",
        "mean seconds of a cell in the backbone, shared by the methods that read the same features",
        kind="cost",
        unit="s",
        run="sum",
        shown=(),
        order=10,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.recorded("extract_s")
