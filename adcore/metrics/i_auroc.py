"""Area under the ROC curve of image scores."""

from __future__ import annotations

from adcore.core.columns import Column
from adcore.metrics._image import ImageRanking
from adcore.metrics._ranking import Ranking, auroc
from adcore.metrics.base import Metric


class ImageAuroc(Metric[Ranking]):
    """See docs/metrics.md."""

    column = Column(
        "i_auroc",
        "image AUROC",
        "probability that a defective image scores higher than a normal one; ties count half",
        shown=("leaderboard", "console", "ranking", "statistics", "enhancers", "mlflow"),
        order=10,
    )
    reads = ImageRanking

    def value(self, read: Ranking) -> float:
        return auroc(read)
