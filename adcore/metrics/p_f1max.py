"""Largest F1 of all pixels."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._pixel import PixelRanking, Pixels
from adcore.metrics._ranking import f1_max
from adcore.metrics.base import Metric


class PixelF1Max(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "p_f1max",
        "pixel F1-max",
        "largest F1 over all pixel thresholds: an oracle",
        order=60,
    )
    reads = PixelRanking

    def value(self, read: Pixels) -> float:
        return f1_max(read.ranking)
