"""Leaks: the same picture on both sides of a split, or both good and defective, to the bit or to the eye.

A perceptual hash (pHash of the library imagehash, 16 x 16 bits) survives another exposure, noise and compression. On
our sets a photograph under a third to all of its light, with noise, is mostly within 22 bits of the next exposure, and
different pieces are 24 and more apart, at the median 120: so that most twins are found and hardly anything else. Flat
surfaces without contrast hide twins, and where all pieces look alike it may find too many.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from adcore.images import ChangedError, ImageError, ImageFile, image_files

SIDE = 16  # of a hash, in bits
NEAR = 22  # bits of 256
_ROWS = 512  # of the matrix of distances, at once

Bits = npt.NDArray[np.float32]  # (N, 256), each -1 or 1

_known: dict[str, npt.NDArray[np.bool_]] = {}  # by content: Data Docs ask again for what the page asked


def with_twins(frame: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the path of an image of the same content: `twin`, in the other split; `contradiction`, in the
    same split with the other label; `repeat`, an earlier one in the same split with the same label; "" for none."""
    frame = frame.assign(twin="", contradiction="", repeat="")
    hashed = frame[(frame["sha256"] != "") & frame["split"].isin(["train", "test"])]
    shared = hashed[hashed.duplicated(["category", "sha256"], keep=False)]
    for _, rows in shared.groupby(["category", "sha256"]):
        for row in rows.itertuples():
            other = rows["split"] != row.split
            alike = rows["label"] == row.label
            frame.loc[row.Index, "twin"] = _first(rows["path"][other])
            frame.loc[row.Index, "contradiction"] = _first(rows["path"][~other & ~alike])
            frame.loc[row.Index, "repeat"] = _first(rows["path"][~other & alike & (rows.index < row.Index)])
    return frame


def _first(paths: pd.Series[str]) -> str:
    return "" if paths.empty else str(paths.iloc[0])


def with_lookalikes(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The manifest with the path of the image that looks most alike, at most NEAR bits apart but not the same content:
    `near_train`, for test images; `near_good`, for defective ones, among good ones of the same split; `near_repeat`,
    an earlier one in the same split with the same label; "" for none."""
    frame = frame.assign(near_train="", near_good="", near_repeat="")
    sound = frame[(frame["sha256"] != "") & frame["split"].isin(["train", "test"]) & (frame["width"] > 0)]
    for _, rows in sound.groupby("category"):
        _mark(frame, rows, hashes(image_files(root, rows)))
    return frame


def _mark(frame: pd.DataFrame, rows: pd.DataFrame, bits: Bits) -> None:
    test = (rows["split"] == "test").to_numpy()
    bad = (rows["label"] == 1).to_numpy()
    content = rows["sha256"].to_numpy()
    paths = rows["path"].to_numpy()
    order = np.arange(len(rows))
    for start in range(0, len(rows), _ROWS):
        part = order[start : start + _ROWS]
        distance = (SIDE * SIDE - bits[part] @ bits.T) / 2
        distance[content[part, None] == content[None]] = np.inf
        here, label = test[part, None] == test, bad[part, None] == bad
        relations = {
            "near_train": test[part, None] & ~test,
            "near_good": here & bad[part, None] & ~bad,
            "near_repeat": here & label & (order < part[:, None]),
        }
        for column, related in relations.items():
            among = np.where(related, distance, np.inf)
            nearest = among.argmin(axis=1)
            close = among[np.arange(len(part)), nearest] <= NEAR
            frame.loc[rows.index[part[close]], column] = paths[nearest[close]]


def hashes(files: Sequence[ImageFile]) -> Bits:
    """The perceptual hashes (N, 256) of images, -1 and 1; zeros, which are near nothing, for one that is broken."""
    new = {file.content: file for file in files if file.content not in _known}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        _known.update(zip(new, pool.map(_hash, new.values()), strict=True))
    bits = np.stack([_known[file.content] for file in files]).astype(np.float32)
    return np.where(bits.any(axis=1, keepdims=True), 2 * bits - 1, 0).astype(np.float32)


def _hash(file: ImageFile) -> npt.NDArray[np.bool_]:
    import imagehash

    try:
        image = Image.fromarray(file.decode())
    except ChangedError:
        raise
    except ImageError:
        return np.zeros(SIDE * SIDE, bool)
    found: npt.NDArray[np.bool_] = imagehash.phash(image, hash_size=SIDE).hash.ravel()
    return found
