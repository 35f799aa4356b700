"""Misses at the threshold that the plan's `alarms` asks for."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class Misses(CellColumn):
    """Misses at a threshold that no test image has decided."""

    column = Column(
        "misses",
        "misses / 1,000",
        "of 1,000 defective test images, those that are not above the threshold that normal images unseen by the model "
        "have set for the plan's `alarms`",
        kind="note",
        unit="per 1,000",
        scale=0.001,
        digits=0,
        better="lower",
        order=21,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.alarms.misses / cell.alarms.bad if cell.alarms and cell.alarms.bad else None
