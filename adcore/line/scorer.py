"""A finished cell applied to image files, as the benchmark applied it to its test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from adcore.core.arrays import UInt8Array
from adcore.core.conformal import Calibration, Threshold, p_values
from adcore.core.contracts import silent
from adcore.core.prefetch import ahead
from adcore.engine import calibrated
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.features.extractor import BATCH
from adcore.report.heatmaps import shared_scale
from adcore.vision.gallery import Scale
from adcore.vision.images import ImageError, ImageFile, crop_box
from adcore.vision.maps import image_scores, postprocess

Floats = npt.NDArray[np.float32]
LONGEST = 1024  # pixels of the longer side of an image that is kept: of a whole line's, all of each would be too much
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


@dataclass(frozen=True)
class Scored:
    """An image and what was found in it. pixels (., ., 3): the image, its longer side at most LONGEST; size: height and
    width of the image itself; window: rows and columns of that that the network saw; raw (h, w): the method's map;
    smooth: that at the size of the network's input."""

    pixels: UInt8Array
    size: tuple[int, int]
    window: tuple[slice, slice]
    raw: Floats
    smooth: Floats
    score: float

    def area(self, threshold: float) -> float:
        """Share of the map above a threshold."""
        return float((self.smooth > threshold).mean())

    def boxes(self, threshold: float) -> list[Box]:
        """Around each connected part of the map above a threshold, in pixels of the image; the highest part first."""
        from scipy import ndimage

        parts, _ = ndimage.label(self.smooth > threshold, structure=np.ones((3, 3)))
        found = [(float(self.smooth[place].max()), place) for place in ndimage.find_objects(parts)]
        return [self._box(*place) for _, place in sorted(found, key=lambda each: -each[0])]

    def _box(self, rows: slice, columns: slice) -> Box:
        spans = []
        for seen, part, side in zip(self.window, (rows, columns), self.smooth.shape, strict=True):
            each = (seen.stop - seen.start) / side
            spans.append((seen.start + int(part.start * each), seen.start + int(np.ceil(part.stop * each))))
        (top, bottom), (left, right) = spans
        return left, top, right, bottom


@dataclass(frozen=True)
class _Once(ImageFile):
    """A file that is read and decoded once, whatever is asked of it."""

    @cached_property
    def _pixels(self) -> UInt8Array:
        return super().decode()

    def decode(self) -> UInt8Array:
        return self._pixels


class Scorer:
    """A cell's fitted model, the scale of its heat maps, and its thresholds.

    image, map: None where no unseen normal images could be had for them."""

    def __init__(self, bench: Bench, cell: Cell) -> None:
        """Fits the model again where its fit is gone, and its gallery; calibrates it where it is not yet."""
        self.cell = cell
        if cell.calibration_key:
            bench.computer.calibrate(cell, silent)
        self.calibration: Calibration | None = calibrated.read(bench.store, cell)
        self.image, self.map = self._thresholds()
        self.method, self.reader = bench.computer.ready(cell)
        self.rule = bench.dataset(cell.category.dataset).spec.pixels.text
        if not bench.store.has("gallery", cell.gallery_key):  # other code makes it by now
            bench.computer.score(cell, silent)
            bench.computer.evaluate(cell)
        self.scale: Scale = shared_scale([bench.store.path("gallery", cell.gallery_key)])

    def _thresholds(self) -> tuple[Threshold | None, Threshold | None]:
        found, wanted = self.calibration, self.cell.alarms
        if found is None or wanted is None or not len(found):
            return None, None
        return Threshold.of(found.scores, wanted), Threshold.of(found.peaks, wanted)

    def p_value(self, score: float) -> float:
        """Conformal; NaN without a calibration."""
        return float("nan") if self.calibration is None else float(p_values([score], self.calibration.scores)[0])

    def scored(self, files: Sequence[ImageFile]) -> Iterator[Scored | ImageError]:
        """What was found in each file, in order, or why it cannot be read or has no finite score.

        In batches as the benchmark's: of the same files in the same order the bits are the same."""
        for loaded in ahead(files, self._loaded, BATCH):
            good = [each for each in loaded if not isinstance(each, ImageError)]
            found = iter(self._batch(good) if good else [])
            for each in loaded:
                yield each if isinstance(each, ImageError) else next(found)

    def _loaded(self, file: ImageFile) -> _Loaded | ImageError:
        image, once = self.cell.image, _Once(file.path, file.sha256, file.rule)
        try:
            pixels = once.decode()
            return _Loaded(_shrunk(pixels), pixels.shape[:2], once.load(image.resize, image.size))
        except ImageError as error:
            return error

    @torch.inference_mode()
    def _batch(self, loaded: Sequence[_Loaded]) -> list[Scored | ImageError]:
        seen: Any = self.reader(torch.from_numpy(np.stack([each.seen for each in loaded])))
        raw, given = self.method.score(seen)
        smooth = postprocess(raw, self.method.context.image_size, self.method.smoothing)
        scores = image_scores(smooth, given)
        finite = (torch.isfinite(raw).flatten(1).all(1) & torch.isfinite(scores)).tolist()
        arrays = zip(raw.float().cpu().numpy(), smooth.cpu().numpy(), scores.float().cpu().tolist(), strict=True)
        image = self.cell.image
        return [
            Scored(each.pixels, each.size, crop_box(*each.size, image.resize, image.size), *found)
            if sound
            else ImageError(f"method {self.method.name} gave a score that is not finite")
            for each, found, sound in zip(loaded, arrays, finite, strict=True)
        ]


class _Loaded(NamedTuple):
    """As in `Scored`; seen: the image as the network sees it."""

    pixels: UInt8Array
    size: tuple[int, int]
    seen: UInt8Array


def _shrunk(pixels: UInt8Array) -> UInt8Array:
    """An image whose longer side is at most LONGEST."""
    share = LONGEST / max(pixels.shape)
    if share >= 1:
        return pixels
    height, width = (max(1, round(share * side)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height)))
