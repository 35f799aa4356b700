"""Bad parts found at two percent of false alarms."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._image import ImageRanking
from adcore.metrics._ranking import Ranking
from adcore.metrics.base import Metric

PARTS = 50  # one of so many may be on the wrong side


class BadFound(Metric[Ranking]):
    """See docs/metrics.md."""

    column = Column(
        "pb2",
        "PB2",
        "share of defective images that are found at the best threshold with at most 2 % false alarms: an oracle, "
        "whose threshold the test images set",
        shown=(),
        order=40,
    )
    reads = ImageRanking

    def value(self, read: Ranking) -> float:
        allowed = PARTS * read.fp <= read.n_normal
        return float(read.tp[allowed].max(initial=0) / read.n_anomalous)
