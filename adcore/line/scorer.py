"""A finished cell applied to image files, as the benchmark applied it to its test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

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
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


@dataclass(frozen=True)
class Scored:
    """An image and what was found in it. pixels (H, W, 3), as it is on the disk; window: rows and columns of it that
    the network saw; raw (h, w): the method's map; smooth: that at the size of the network's input."""

    pixels: UInt8Array
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


class Scorer:
    """A cell's fitted model, the scale of its heat maps, and its thresholds.

    image, map: None where no unseen normal images could be had for them."""

    def __init__(self, bench: Bench, cell: Cell) -> None:
        """Fits the model again where its fit is gone, and calibrates it where it is not yet."""
        self.cell = cell
        if cell.calibration_key:
            bench.calibrator.calibrate(cell, silent)
        self.calibration: Calibration | None = calibrated.read(bench.store, cell)
        self.image, self.map = self._thresholds()
        self.method, self.reader = bench.computer.ready(cell)
        self.rule = bench.dataset(cell.category.dataset).spec.pixels.text
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
        """What was found in each file, in order, or why it cannot be read.

        In batches as the benchmark's: of the same files in the same order the bits are the same."""
        for loaded in ahead(files, self._loaded, BATCH):
            good = [each for each in loaded if not isinstance(each, ImageError)]
            found = iter(self._batch(good) if good else [])
            for each in loaded:
                yield each if isinstance(each, ImageError) else next(found)

    def _loaded(self, file: ImageFile) -> tuple[UInt8Array, UInt8Array] | ImageError:
        """The image, and as the network sees it."""
        image = self.cell.image
        try:
            return file.decode(), file.load(image.resize, image.size)
        except ImageError as error:
            return error

    @torch.inference_mode()
    def _batch(self, loaded: Sequence[tuple[UInt8Array, UInt8Array]]) -> list[Scored]:
        seen: Any = self.reader(torch.from_numpy(np.stack([seen for _, seen in loaded])))
        raw, given = self.method.score(seen)
        smooth = postprocess(raw, self.method.context.image_size, self.method.smoothing)
        scores = image_scores(smooth, given)
        arrays = zip(raw.float().cpu().numpy(), smooth.cpu().numpy(), scores.float().cpu().tolist(), strict=True)
        image = self.cell.image
        return [
            Scored(pixels, crop_box(pixels.shape[0], pixels.shape[1], image.resize, image.size), *each)
            for (pixels, _), each in zip(loaded, arrays, strict=True)
        ]
