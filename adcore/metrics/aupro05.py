"""Area under the per-region overlap curve, up to few false positives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from adcore.core.columns import Column
from adcore.metrics._pixel import PixelRanking, Pixels
from adcore.metrics._pro import area_under_pro
from adcore.metrics.base import Metric

FPR_LIMIT = 0.05


class Aupro05(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "aupro05",
        "AUPRO 0.05",
        "area under the per-region overlap curve up to a false positive rate of 0.05, divided by that limit",
        order=75,
    )
    rules: ClassVar[Mapping[str, Any]] = {"fpr_limit_05": FPR_LIMIT}
    reads = PixelRanking

    def value(self, read: Pixels) -> float:
        return area_under_pro(read.ranking, read.weights, FPR_LIMIT)
