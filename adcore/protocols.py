"""Protocols: which images a model is fitted on, and which it is judged on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from adcore.synthesis import generator

VARIANTS = 32  # of an image in few-shot training (adcore.synthesis.fewshot)

Split = tuple[pd.DataFrame, pd.DataFrame]


class Protocol(BaseModel):
    """Fields are the protocol's options. `split` picks rows of a manifest for one category and seed.

    Training rows may have a column `variant`: which of the made versions of the image is meant, 0 being the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
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


class OneClass(Protocol):
    """A model a category, fitted on that category's normal training images."""

    seeded: ClassVar[bool] = False

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        return _split(frame, category)


class MultiClass(Protocol):
    """One model for all categories of a dataset, judged on each."""

    seeded: ClassVar[bool] = False
    joint: ClassVar[bool] = True

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        return frame[frame.split == "train"], _split(frame, category)[1]


class FewShot(Protocol):
    """A model a category, fitted on `k` of its normal training images, each in 32 versions (turned and mirrored) unless
    `augment` is off. Each of the `draws` is a repeat with a seed of its own: seed x draws + draw."""

    k: PositiveInt
    draws: PositiveInt = 3
    augment: bool = True

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        train, test = _split(frame, category)
        support = self._support(train, category, seed)
        if self.augment:
            support = support.loc[support.index.repeat(VARIANTS)]
            support = support.assign(variant=np.tile(np.arange(VARIANTS), self.k))
        return support, test

    def seeds(self, seed: int) -> tuple[int, ...]:
        return tuple(seed * self.draws + draw for draw in range(self.draws))

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        support = self._support(_split(frame, category)[0], category, seed)
        return [("support", path) for path in support["path"]]

    def _support(self, train: pd.DataFrame, category: str, seed: int) -> pd.DataFrame:
        if len(train) < self.k:
            raise ValueError(f"few-shot: k is {self.k}, but {category} has {len(train)} training images; lower it")
        return _drawn(train, self.k, seed, "few-shot")


class Contaminated(Protocol):
    """A model a category, fitted on its normal images and on a `share` of its anomalous test images, unlabelled; these
    are not judged."""

    share: float = Field(gt=0, lt=1)

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        train, test = _split(frame, category)
        moved = self._moved(test, seed)
        return pd.concat([train, moved]), test.drop(moved.index)

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        moved = self._moved(_split(frame, category)[1], seed)
        return [("moved", path) for path in moved["path"]]

    def _moved(self, test: pd.DataFrame, seed: int) -> pd.DataFrame:
        anomalous = test[test.label == 1]
        return _drawn(anomalous, max(1, round(self.share * len(anomalous))), seed, "contaminated")


def _split(frame: pd.DataFrame, category: str) -> Split:
    rows = frame[frame.category == category]
    return rows[rows.split == "train"], rows[rows.split == "test"]


def _drawn(rows: pd.DataFrame, count: int, seed: int, what: str) -> pd.DataFrame:
    """`count` of the rows, by seed and content: neither names nor the order of the manifest matter."""
    ordered = rows.sort_values(["sha256", "path"])
    order = generator(seed, what).permutation(len(ordered))
    return ordered.iloc[order[:count]]


PROTOCOLS: dict[str, type[Protocol]] = {
    "one-class": OneClass,
    "multi-class": MultiClass,
    "few-shot": FewShot,
    "contaminated": Contaminated,
}
