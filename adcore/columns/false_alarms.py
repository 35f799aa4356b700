"""False alarms at the threshold that the plan's `alarms` asks for."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class FalseAlarms(CellColumn):
    """False alarms at a threshold that no test image has decided."""

    column = Column(
        "false_alarms",
        "alarms / 1,000",
        "of 1,000 good test images, those above the threshold that normal images unseen by the model have set for the "
        "plan's `alarms`",
        kind="note",
        unit="per 1,000",
        scale=0.001,
        digits=0,
        order=20,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return cell.alarms.false_alarms / cell.alarms.good if cell.alarms and cell.alarms.good else None
