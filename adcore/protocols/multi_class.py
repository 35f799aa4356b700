"""One model for all categories of a dataset."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from adcore.protocols import base


class MultiClass(base.Protocol):
    """One model for all categories of a dataset, judged on each."""

    name: ClassVar[str] = "multi-class"
    seeded: ClassVar[bool] = False
    joint: ClassVar[bool] = True

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> base.Split:
        return frame[frame.split == "train"], base.of_category(frame, category)[1]
