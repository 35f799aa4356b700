"""Area under the ROC curve of all pixels."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._pixel import PixelRanking, Pixels
from adcore.metrics._ranking import auroc
from adcore.metrics.base import Metric


class PixelAuroc(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "p_auroc",
        "pixel AUROC",
        "as image AUROC, over all pixels of all test images pooled",
        shown=("leaderboard", "console", "ranking", "statistics", "enhancers", "mlflow"),
        order=40,
    )
    reads = PixelRanking

    def value(self, read: Pixels) -> float:
        return auroc(read.ranking)
