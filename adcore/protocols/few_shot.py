"""One model a category, of a few images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from adcore.protocols import base

VARIANTS = 32  # of an image in few-shot training (adcore.vision.fewshot)


class FewShot(base.Protocol):
    """A model a category, fitted on `k` of its normal training images, each in 32 versions (turned and mirrored) unless
    `augment` is off. Each of the `draws` is a repeat with a seed of its own: seed x draws + draw."""

    name: ClassVar[str] = "few-shot"
    k: PositiveInt
    draws: PositiveInt = 3
    augment: bool = True

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> base.Split:
        train, test = base.of_category(frame, category)
        support = self._support(train, category, seed)
        if self.augment:
            support = support.loc[support.index.repeat(VARIANTS)]
            support = support.assign(variant=np.tile(np.arange(VARIANTS), self.k))
        return support, test

    def seeds(self, seed: int) -> tuple[int, ...]:
        return tuple(seed * self.draws + draw for draw in range(self.draws))

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        support = self._support(base.of_category(frame, category)[0], category, seed)
        return [("support", path) for path in support["path"]]

    def _support(self, train: pd.DataFrame, category: str, seed: int) -> pd.DataFrame:
        if len(train) < self.k:
            raise ValueError(f"few-shot: k is {self.k}, but {category} has {len(train)} training images; lower it")
        return base.drawn(train, self.k, seed, "few-shot")
