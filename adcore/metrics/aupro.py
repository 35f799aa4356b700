"""Area under the per-region overlap curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from adcore.core.columns import Column
from adcore.metrics._pixel import PixelRanking, Pixels
from adcore.metrics._pro import area_under_pro
from adcore.metrics.base import Metric

FPR_LIMIT = 0.3


class Aupro(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "aupro",
        "AUPRO",
        "area under the per-region overlap curve up to a false positive rate of 0.3, divided by that limit",
        shown=("leaderboard", "console", "categories", "statistics", "enhancers", "mlflow"),
        order=70,
    )
    rules: ClassVar[Mapping[str, Any]] = {"fpr_limit": FPR_LIMIT, "connectivity": 8}
    reads = PixelRanking

    def value(self, read: Pixels) -> float:
        return area_under_pro(read.ranking, read.weights, FPR_LIMIT)
