"""Largest F1 of image scores."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._image import ImageRanking
from adcore.metrics._ranking import Ranking, f1_max
from adcore.metrics.base import Metric


class ImageF1Max(Metric[Ranking]):
    """See docs/metrics.md."""

    column = Column(
        "i_f1max",
        "image F1-max",
        "largest F1 over all thresholds on the test scores: an oracle, not a working point",
        order=30,
    )
    reads = ImageRanking

    def value(self, read: Ranking) -> float:
        return f1_max(read)
