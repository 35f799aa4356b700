"""Multiply-accumulates of an image."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class Macs(CellColumn):
    """Multiply-accumulates of an image."""

    column = Column(
        "macs",
        "GMAC",
        "multiply-accumulates of one image, distances to memories and Gaussians left out",
        kind="cost",
        unit="G",
        scale=1e9,
        digits=2,
        over="max",
        order=70,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.size.get("macs")
