"""Average precision of all pixels."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._pixel import PixelRanking, Pixels
from adcore.metrics._ranking import average_precision
from adcore.metrics.base import Metric


class PixelAp(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "p_ap",
        "pixel AP",
        "average precision over all pixels pooled",
        order=50,
    )
    reads = PixelRanking

    def value(self, read: Pixels) -> float:
        return average_precision(read.ranking)
