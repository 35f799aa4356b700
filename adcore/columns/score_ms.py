"""Milliseconds an image."""

from __future__ import annotations

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column


class ScoreMilliseconds(CellColumn):
    """Milliseconds an image."""

    column = Column(
        "score_ms",
        "ms / image",
        "median latency at batch 1, from the decoded image to the smoothed map and score, backbone included; none "
        "where the machine was busy",
        kind="cost",
        unit="ms",
        over="median",
        shown=("leaderboard", "console", "mlflow"),
        order=30,
    )

    def value(self, cell: FinishedCell) -> float | None:
        return None if cell.latency.get("busy") else cell.latency.get("median_ms")
