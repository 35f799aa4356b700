"""Leaks: the same piece on both sides of a split, or both good and defective, to the bit or to the eye.

Twins to the bit have one SHA-256. Twins to the eye are photographs of one piece, under whatever light:
`adcore.kernels.likeness` tells them from photographs of pieces that are made alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from adcore.datasets.base import SPLITS, VALIDATION
from adcore.vision.images import ChangedError, ImageError, ImageFile, image_files

if TYPE_CHECKING:
    from adcore.kernels.likeness import Kin

Related = Callable[["pd.Series[Any]", pd.DataFrame], dict[str, str]]  # an image, those like it -> column, path

_known: dict[tuple[str, ...], list[Kin]] = {}  # by content: Data Docs ask again for what the page asked


def with_twins(frame: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the path of an image of the same content: `twin`, in test for one of training and the other way
    round; `calibrator`, in validation for one of either; `contradiction`, in the same split with the other label;
    `repeat`, an earlier one in the same split with the same label; and `parted`, that of an image of the same group in
    an earlier split; "" for none."""
    frame = frame.assign(twin="", calibrator="", contradiction="", repeat="", parted="")
    for _, rows in frame[(frame["group"] != "") & frame["split"].isin(SPLITS)].groupby(["category", "group"]):
        for place, split in enumerate(SPLITS):
            earlier = rows["path"][rows["split"].isin(SPLITS[:place])]
            frame.loc[rows.index[rows["split"] == split], "parted"] = _first(earlier)
    hashed = frame[(frame["sha256"] != "") & frame["split"].isin(SPLITS)]
    shared = hashed[hashed.duplicated(["category", "sha256"], keep=False)]
    for _, rows in shared.groupby(["category", "sha256"]):
        for row in rows.itertuples():
            other = rows["split"] != row.split
            alike = rows["label"] == row.label
            aside = rows["split"] == VALIDATION
            if row.split != VALIDATION:  # a pair is told at its image of training or test
                frame.loc[row.Index, "twin"] = _first(rows["path"][other & ~aside])
                frame.loc[row.Index, "calibrator"] = _first(rows["path"][aside])
            frame.loc[row.Index, "contradiction"] = _first(rows["path"][~other & ~alike])
            frame.loc[row.Index, "repeat"] = _first(rows["path"][~other & alike & (rows.index < row.Index)])
    return frame


def _first(paths: pd.Series[str]) -> str:
    return "" if paths.empty else str(paths.iloc[0])


def with_lookalikes(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The manifest with the path of the image that most likely shows the same piece and has not the same content:
    `near_train`, for test images; `near_good`, for defective ones, among good ones of the same split; `near_repeat`,
    an earlier one in the same split with the same label; `near_calibrator`, in validation, for an image of training or
    test; "" for none.

    Validation images are compared apart: what is found between training and test does not depend on them."""
    frame = frame.assign(near_train="", near_good="", near_repeat="", near_calibrator="")
    sound = frame[(frame["sha256"] != "") & frame["split"].isin(SPLITS) & (frame["width"] > 0)]
    for _, rows in sound.groupby("category"):
        aside = rows["split"] == VALIDATION
        _mark(frame, root, rows[~aside], "test", _lookalikes)
        if aside.any() and not aside.all():
            _mark(frame, root, rows, VALIDATION, _calibrators)
    return frame


def _mark(frame: pd.DataFrame, root: Path, rows: pd.DataFrame, side: str, related: Related) -> None:
    """Write into the frame what is near the images of one category, of which those of one split are on one side."""
    for place, kin in enumerate(_kin(root, rows, side) if len(rows) else []):
        if len(kin.alike):
            for column, path in related(rows.iloc[place], rows.iloc[kin.alike]).items():
                frame.loc[rows.index[place], column] = path


def _calibrators(own: pd.Series[Any], others: pd.DataFrame) -> dict[str, str]:
    """The first validation image of others that shows the same piece as an image of training or test."""
    aside = (others["split"] == VALIDATION) & (others["sha256"] != own["sha256"])
    return {} if own["split"] == VALIDATION else {"near_calibrator": _first(others["path"][aside])}


def _lookalikes(own: pd.Series[Any], others: pd.DataFrame) -> dict[str, str]:
    """The first of others that show the same piece as an image, by how they are related."""
    others = others[others["sha256"] != own["sha256"]]
    here, same = others["split"] == own["split"], others["label"] == own["label"]
    related = {"near_repeat": here & same & (others.index < own.name)}
    if own["split"] == "test":
        related["near_train"] = ~here
    if own["label"] == 1:
        related["near_good"] = here & ~same
    return {column: _first(others["path"][chosen]) for column, chosen in related.items()}


def _kin(root: Path, rows: pd.DataFrame, side: str) -> list[Kin]:
    """What is near the images of one category, in their order; those of the split `side` are on one side."""
    from adcore.kernels.likeness import SIDE, likeness  # SciPy, which a validated set does without

    files = image_files(root, rows)
    content = (*(file.content for file in files), *rows["split"], side)
    if content not in _known:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            pictures = np.stack(list(pool.map(partial(_picture, side=SIDE), files)))
        _known[content] = likeness(pictures, (rows["split"] == side).to_numpy())
    return _known[content]


def _picture(file: ImageFile, side: int) -> npt.NDArray[np.uint8]:
    """A small grey picture; of one flat shade, which is like nothing, for an image that is broken."""
    try:
        image = Image.fromarray(file.decode()).convert("L")
    except ChangedError:
        raise
    except ImageError:
        return np.zeros((side, side), np.uint8)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
