"""What the evaluation server of MVTec AD 2 takes: an anomaly image for each image without public truth.

FOLDER/anomaly_images/OBJECT/SPLIT/STEM.tiff, 16-bit floats; where thresholds are given,
FOLDER/anomaly_images_thresholded/OBJECT/SPLIT/STEM.png, 0 and 255; both of the size of their image.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from adcore.core.disk import write_file
from adcore.core.names import located
from adcore.datasets.base import DataError
from adcore.datasets.mvtec_ad_2 import MvtecAd2

MAPS, THRESHOLDED = "anomaly_images", "anomaly_images_thresholded"

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


def write(
    dataset: MvtecAd2,
    folder: Path,
    maps: Iterable[tuple[str, npt.ArrayLike]],
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write a submission into a new folder.

    maps: path, as `dataset.private` has it, and raw map (h, w) of each image; a map covers its whole image and is
    brought to its size, bilinearly. thresholds: by object; a pixel above it is anomalous. The server wants all objects.
    Raises DataError for a folder that holds something, a map that is none, a threshold that is missing, and, once the
    others are written, images without a map.
    """
    wanted = dataset.private()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"submission: {folder} is there already and not empty; name a new folder")
    unset = sorted(set(wanted.values()) - set(thresholds)) if thresholds is not None else []
    if unset:
        raise DataError(f"submission: no threshold for {', '.join(unset)}; give one for each object, or none at all")
    left = dict(wanted)
    for path, values in maps:
        if path not in wanted:
            raise DataError(
                f"submission: {path} is no image without public truth; `private` of the data set lists them"
            )
        if path not in left:
            raise DataError(f"submission: there are two maps for {path}; give one")
        whole = _sized(values, located(dataset.root, path), path)
        category = left.pop(path)
        write_file(folder / MAPS / PurePosixPath(path).with_suffix(".tiff"), tiff(_halves(whole, path)))
        if thresholds is not None:
            marked = _png(whole > thresholds[category])
            write_file(folder / THRESHOLDED / PurePosixPath(path).with_suffix(".png"), marked)
    if left:
        more = f" and {len(left) - 1} more have" if len(left) > 1 else " has"
        raise DataError(f"submission: {next(iter(left))}{more} no map; the server takes nothing that is not whole")


def _sized(values: npt.ArrayLike, file: Path, path: str) -> Floats:
    """A raw map in float32, at the size of its image."""
    given = np.asarray(values, np.float32)
    if given.ndim != 2 or not given.size or not np.isfinite(given).all():
        raise DataError(f"submission: the map of {path} must be (h, w) and finite, and has the shape {given.shape}")
    with Image.open(file) as image:
        size = image.size
    if given.shape == size[::-1]:
        return given
    return np.asarray(Image.fromarray(given).resize(size, Image.Resampling.BILINEAR))


def _halves(values: Floats, path: str) -> Halves:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        most, mend = np.finfo(np.float16).max, "divide all maps, and thresholds, by one number"
        raise DataError(f"submission: the map of {path} goes beyond {most:g}, where float16 ends; {mend}")
    return halves


def tiff(values: Halves) -> bytes:
    """A grey TIFF of one strip, 16-bit floats, uncompressed: Pillow writes none."""
    data = np.ascontiguousarray(values, "<f2").tobytes()
    height, width = values.shape
    short, long = 3, 4
    offset = 8 + 2 + 9 * 12 + 4  # behind the header, and the directory with its nine entries
    entries = (
        (256, long, width),
        (257, long, height),
        (258, short, 16),  # bits
        (259, short, 1),  # uncompressed
        (262, short, 1),  # 0 is black
        (273, long, offset),
        (277, short, 1),  # channels
        (279, long, len(data)),
        (339, short, 3),  # floats
    )
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


def _png(marked: npt.NDArray[np.bool_]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(marked.astype(np.uint8) * np.uint8(255)).save(stream, "PNG")
    return stream.getvalue()
