"""What a protocol is."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from adcore.core.draws import generator

Split = tuple[pd.DataFrame, pd.DataFrame]


class Protocol(BaseModel):
    """Fields are the protocol's options. `split` picks rows of a manifest for one category and seed.

    A new one is one file in this folder with one subclass, named as the file, with hyphens. Training rows may have a
    column `variant`: which of the made versions of the image is meant, 0 being the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    seeded: ClassVar[bool] = True  # False: the split is the same for all seeds, and made once
    joint: ClassVar[bool] = False  # one model for all categories of a dataset

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        """(training rows, test rows). Models whose training rows are the same are fitted once. Raises ValueError."""
        raise NotImplementedError

    def seeds(self, seed: int) -> tuple[int, ...]:
        """The seeds that stand for one of the plan's: several where a protocol is drawn several times."""
        return (seed,)

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        """(role, path) of the images that the seed has picked, for the results: `support` or `moved`."""
        return []


def of_category(frame: pd.DataFrame, category: str) -> Split:
    """A category's training and test rows."""
    rows = frame[frame.category == category]
    return rows[rows.split == "train"], rows[rows.split == "test"]


def drawn(rows: pd.DataFrame, count: int, seed: int, what: str) -> pd.DataFrame:
    """`count` of the rows, by seed and content: neither names nor the order of the manifest matter."""
    ordered = rows.sort_values(["sha256", "path"])
    order = generator(seed, what).permutation(len(ordered))
    return ordered.iloc[order[:count]]
