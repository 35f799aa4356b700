"""Protocols: which images a model is fitted on, and which it is judged on."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, ConfigDict


class Protocol(BaseModel):
    """Fields are the protocol's options. `split` picks rows of a manifest for one category and seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seeded: ClassVar[bool] = True  # False: the split is the same for all seeds, and made once

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(training rows, test rows). Models whose training rows are the same are fitted once."""
        raise NotImplementedError


class OneClass(Protocol):
    """A model a category, fitted on that category's normal training images."""

    seeded: ClassVar[bool] = False

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        rows = frame[frame.category == category]
        return rows[rows.split == "train"], rows[rows.split == "test"]


PROTOCOLS: dict[str, type[Protocol]] = {"one-class": OneClass}
