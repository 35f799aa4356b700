"""Which kinds of defects the contenders find."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from adcore.metrics import image_metrics
from adcore.results.runs import CellResult

if TYPE_CHECKING:
    from adcore.results.run import Ranked

COLUMNS = ("dataset", "category", "defect", "contender", "seed", "images", "i_auroc", "found", "key")


def table(ranked: Sequence[Ranked]) -> pd.DataFrame:
    """A row a cell and kind of defect: image AUROC of its images against all good ones; found: their share above the
    plan's threshold, NaN without one."""
    found = [row for each in ranked for cell in each.cells for row in _of(cell, each.name)]
    return pd.DataFrame(found, columns=COLUMNS)


def _of(cell: CellResult, name: str) -> Iterator[dict[str, Any]]:
    images = cell.images
    good = images[images["label"] == 0]
    for defect, bad in images[images["label"] == 1].groupby("defect", sort=True):
        labels = np.r_[np.zeros(len(good), int), np.ones(len(bad), int)]
        auroc = image_metrics(np.r_[good["score"], bad["score"]], labels)["i_auroc"] if len(good) else math.nan
        above = float((bad["score"] > cell.alarms.image.value).mean()) if cell.alarms else math.nan
        place = {key: cell.row[key] for key in ("dataset", "category", "seed", "key")}
        yield {**place, "defect": defect, "contender": name, "images": len(bad), "i_auroc": auroc, "found": above}
