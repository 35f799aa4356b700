"""One model a category, with anomalies among its training images."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from pydantic import Field

from adcore.protocols import base


class Contaminated(base.Protocol):
    """A model a category, fitted on its normal images and on a `share` of its anomalous test images, unlabelled; these
    are not judged. Where images come in groups, whole ones are moved, with the normal images in them."""

    name: ClassVar[str] = "contaminated"
    share: float = Field(gt=0, lt=1)

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> base.Split:
        train, test = base.of_category(frame, category)
        moved = self._moved(test, seed)
        return pd.concat([train, moved]), test.drop(moved.index)

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        moved = self._moved(base.of_category(frame, category)[1], seed)
        return [("moved", path) for path in moved["path"]]

    def _moved(self, test: pd.DataFrame, seed: int) -> pd.DataFrame:
        anomalous = test[test.label == 1]
        count = max(1, round(self.share * len(anomalous)))
        drawn = base.drawn(anomalous, count, seed, "contaminated", exact=False)
        others = test[(test.label != 1) & base.grouping(test).isin(base.grouping(drawn))]
        return pd.concat([drawn, others])
