"""Calibrations in the store: what unseen normal images scored, and the threshold that follows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from adcore.core.conformal import Alarms, Calibration
from adcore.core.store import Store
from adcore.engine.cells import Cell

FILE = "scores.parquet"  # category, score, peak: a row an image


def read(store: Store, cell: Cell) -> Calibration | None:
    """That of a cell's category; None where it is not there."""
    if not cell.calibration_key or not store.has("calibration", cell.calibration_key):
        return None
    rows = pd.read_parquet(store.path("calibration", cell.calibration_key) / FILE)
    # A model of one category has scored that alone, be it under the name of another category of the same images.
    joint = cell.train["category"].nunique() > 1
    own = rows[rows["category"] == cell.category.name] if joint else rows
    return Calibration(own["score"].to_numpy(np.float64), own["peak"].to_numpy(np.float64))


def alarms(store: Store, cell: Cell) -> Alarms | None:
    """What became of the threshold on the test images of a finished cell; None where there is none."""
    calibration = read(store, cell)
    if calibration is None or cell.alarms is None or not len(calibration):
        return None
    images = pd.read_parquet(store.path("cell", cell.key) / "images.parquet")
    return Alarms.of(calibration, cell.alarms, images["score"], images["label"])
