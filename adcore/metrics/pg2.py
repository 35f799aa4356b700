"""Good parts passed at two percent of misses."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._image import ImageRanking
from adcore.metrics._ranking import Ranking
from adcore.metrics.base import Metric
from adcore.metrics.pb2 import PARTS


class GoodPassed(Metric[Ranking]):
    """See docs/metrics.md."""

    column = Column(
        "pg2",
        "PG2",
        "share of good images that pass at the best threshold with at most 2 % misses: an oracle, whose threshold the "
        "test images set",
        shown=(),
        order=41,
    )
    reads = ImageRanking

    def value(self, read: Ranking) -> float:
        allowed = PARTS * (read.n_anomalous - read.tp) <= read.n_anomalous
        return float(1 - read.fp[allowed].min() / read.n_normal)
