"""What a latency was measured on."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class Hardware(CellColumn):
    """What a latency was measured on."""

    column = Column(
        "hardware",
        "measured on",
        "card, or processor and cores, that the latency was measured on; that of a busy machine is left out until the "
        "plan is run when it is quieter",
        kind="cost",
        shown=("leaderboard", "console"),
        order=35,
        text=True,
    )

    def value(self, cell: FinishedCell) -> str | None:
        if not cell.latency:
            return None
        return f"{cell.latency['hardware']}{', busy' * cell.latency['busy']}"
