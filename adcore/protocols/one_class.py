"""One model a category."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from adcore.protocols import base


class OneClass(base.Protocol):
    """A model a category, fitted on that category's normal training images."""

    name: ClassVar[str] = "one-class"
    seeded: ClassVar[bool] = False

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> base.Split:
        return base.of_category(frame, category)
