"""Image AUROC of the test images that have no twin in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column
from adcore.metrics import image_metrics

if TYPE_CHECKING:
    import pandas as pd


class ImageAurocUntwinned(CellColumn):
    """No metric of a plan: it comes with `i_auroc`, and twins may be found later than a cell is computed."""

    column = Column(
        "i_auroc_untwinned",
        "image AUROC without twins",
        "image AUROC over the test images that have no twin in training; empty for a dataset without twins",
        order=15,
    )
    needs = ("i_auroc",)

    def value(self, cell: FinishedCell) -> float | None:
        """None where no category of the dataset has twins, so that means over categories are over all of them."""
        own = {path for category, path in cell.twins if category == cell.names["category"]}
        if not own:
            return cell.metrics["i_auroc"] if cell.twins else None
        kept = cell.images[~cell.images["path"].isin(own)]
        subsets = sorted(set(cell.images["subset"]) - {""})
        parts = [kept[kept["subset"].isin(["", name])] for name in subsets] or [kept]
        return float(np.mean([_image_auroc(part) for part in parts]))


def _image_auroc(images: pd.DataFrame) -> float:
    return image_metrics(images["score"], images["label"])["i_auroc"] if len(images) else float("nan")
