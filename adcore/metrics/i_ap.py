"""Average precision of image scores."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._image import ImageRanking
from adcore.metrics._ranking import Ranking, average_precision
from adcore.metrics.base import Metric


class ImageAp(Metric[Ranking]):
    """See docs/metrics.md."""

    column = Column(
        "i_ap",
        "image AP",
        "area under the image precision-recall curve as a step function (average precision)",
        order=20,
    )
    reads = ImageRanking

    def value(self, read: Ranking) -> float:
        return average_precision(read)
