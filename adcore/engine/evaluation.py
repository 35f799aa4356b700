"""Raw maps and image scores by a fitted method; from them metrics, per-image table and curves of one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from adcore import metrics
from adcore.core.contracts import FeatureSource, ImageSource, Method, Progress
from adcore.engine import registry
from adcore.metrics.base import Images, Masked, Metric, Regions, Scored, values
from adcore.vision.images import crop_box
from adcore.vision.maps import image_scores, postprocess
from adcore.vision.masks import CHANNELS, MaskFile, kind_of

if TYPE_CHECKING:
    from adcore.core.plan import ImageSpec

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]
Item = TypeVar("Item", bound=npt.NDArray[Any])
KEPT = 1e9  # bytes of smoothed maps, and of masks: 3,800 images of 256 pixels
CURVE_STEP = 8  # every eighth pixel of a row and column draws the pixel curves; the metrics take them all


@torch.inference_mode()
def score(method: Method, source: FeatureSource | ImageSource, progress: Progress) -> tuple[Floats, Floats]:
    """Raw maps (N, h, w) at the method's own grid and image scores (N,), both float32, in the order of `source`.

    Raises ValueError where the method gives a value that is not finite.
    """
    maps: list[Floats] = []
    scores: list[Floats] = []
    done = 0
    for batch in source:
        raw, given = method.score(batch)
        smooth = postprocess(raw, method.context.image_size, method.smoothing)
        scored = image_scores(smooth, given)
        if not (torch.isfinite(raw).all() and torch.isfinite(scored).all()):
            raise ValueError(f"method {method.name} gave a score that is not finite")
        maps.append(raw.float().cpu().numpy())
        scores.append(scored.float().cpu().numpy())
        done += len(raw)
        progress(done / len(source))
    return np.concatenate(maps), np.concatenate(scores)


@dataclass(frozen=True)
class Judged:
    """What a cell is judged on: raw maps (N, h, w), image scores (N,), the test rows of the manifest, and how.

    keep: bytes of smoothed maps that stay in memory, and as many of masks."""

    maps: Floats
    scores: Floats
    rows: pd.DataFrame
    root: Path
    image: ImageSpec
    sigma: float
    at: Literal["input", "original"]
    keep: float = KEPT

    def only(self, chosen: npt.NDArray[np.bool_]) -> Judged:
        """Some of the images; their maps and masks are those that this one keeps."""
        part = replace(self, maps=self.maps[chosen], scores=self.scores[chosen], rows=self.rows[chosen])
        places = np.flatnonzero(chosen)
        part.__dict__["smoothed"] = Lazy(len(places), lambda index: self.smoothed[places[index]])
        part.__dict__["masks"] = Lazy(len(places), lambda index: self.masks[places[index]])
        return part

    @cached_property
    def smoothed(self) -> Sequence[Floats]:
        """The smoothed maps, (H, W) at the resolution of the judgement, each made once as far as there is room."""
        return Lazy(len(self.rows), self.smooth, self.keep)

    @cached_property
    def masks(self) -> Sequence[Masks]:
        """The masks (H, W), likewise."""
        return Lazy(len(self.rows), self.mask, self.keep)

    @property
    def has_masks(self) -> bool:
        return bool((self.rows["mask"] != "").any())

    def smooth(self, index: int) -> Floats:
        """The smoothed map of one image, (H, W) at the resolution of the judgement."""
        size = self.image.size
        smooth = postprocess(torch.from_numpy(self.maps[index : index + 1]), (size, size), self.sigma)
        if self.at == "original":
            rows, columns = self.window(index)
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            smooth = torch.nn.functional.interpolate(smooth[None], shape, mode="bilinear", align_corners=False)[0]
        return smooth[0].numpy()

    def mask(self, index: int) -> Masks:
        """The mask of one image at the resolution of the judgement; all False for an image without one."""
        file = self.mask_file(index)
        if self.at == "input":
            size = self.image.size
            return file.seen(self.image.resize, size) if file else np.zeros((size, size), bool)
        rows, columns = self.window(index)
        if file:
            return file.whole()[rows, columns]
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)

    def regions(self, index: int) -> npt.NDArray[np.integer[Any]]:
        """The defect regions (C, H, W) of one image in its own pixels, as far as the network saw them."""
        rows, columns = self.window(index)
        file = self.mask_file(index)
        if not file:
            return np.zeros((0, rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        seen = file.regions()[:, rows, columns]
        return seen[seen.any(axis=(1, 2))]

    def mask_file(self, index: int) -> MaskFile | None:
        """The file of an image's mask; None where it has none."""
        row = self.rows.iloc[index]
        return MaskFile.of(self.root, row.to_dict()) if row["mask"] else None

    @property
    def saturating(self) -> list[int]:
        """The images whose masks sPRO takes: folders of regions, explained in a config."""
        return [index for index, rule in enumerate(self.rows["mask_rule"]) if kind_of(rule) == CHANNELS]

    def window(self, index: int) -> tuple[slice, slice]:
        row = self.rows.iloc[index]
        return crop_box(int(row["height"]), int(row["width"]), self.image.resize, self.image.size)


def evaluate(judged: Judged) -> dict[str, float]:
    """Every metric of a cell. Named test subsets (column `subset`; good images belong to each) are scored apart, under
    `METRIC_SUBSET`, and averaged."""
    every = registry.metrics()
    subsets = sorted(set(judged.rows["subset"]) - {""})
    if not subsets:
        return _metrics(every, judged)
    parts = {name: _metrics(every, judged.only(judged.rows["subset"].isin(["", name]).to_numpy())) for name in subsets}
    means = {metric: float(np.mean([part[metric] for part in parts.values()])) for metric in every}
    return means | {f"{metric}_{name}": value for name, part in parts.items() for metric, value in part.items()}


def _metrics(every: Mapping[str, Metric[Any]], judged: Judged) -> dict[str, float]:
    return values(every, list(_images(judged)))


def _images(judged: Judged) -> Iterator[Images]:
    """The test images in each way that they can be seen."""
    yield Scored(judged.scores, judged.rows["label"].to_numpy())
    count = len(judged.rows)
    if judged.has_masks:
        yield Masked(judged.smoothed, judged.masks)
    if judged.saturating:  # whatever the judgement's resolution, that of the masks: thresholds are in their pixels
        full = replace(judged, at="original")
        explained = judged.mask_file(judged.saturating[0])
        yield Regions(Lazy(count, full.smooth), Lazy(count, full.regions), explained.config() if explained else None)


def rules() -> dict[str, Any]:
    """What the numbers depend on beside the images, recorded with every cell; docs/metrics.md."""
    return {"ties": "mid-rank"} | {
        name: rule for metric in registry.metrics().values() for name, rule in metric.rules.items()
    }


def curves(judged: Judged) -> dict[str, dict[str, list[float]]]:
    """ROC and precision-recall curves for plots: `image`, and `pixel` (of a grid of pixels) where there are masks."""
    drawn = {"image": metrics.curves(judged.scores, judged.rows["label"].to_numpy())}
    if judged.has_masks:
        grid = (slice(CURVE_STEP // 2, None, CURVE_STEP),) * 2
        scores = np.concatenate([smooth[grid].ravel() for smooth in judged.smoothed])
        masks = np.concatenate([mask[grid].ravel() for mask in judged.masks])
        drawn["pixel"] = metrics.curves(scores, masks)
    return drawn


def table(judged: Judged) -> pd.DataFrame:
    """Per image: path, label, defect, subset, score."""
    found = judged.rows[["path", "label", "defect", "subset"]].reset_index(drop=True)
    return found.assign(score=judged.scores)


class Lazy(Sequence[Item]):
    """A sequence of arrays that are made when asked for, and kept as far as they fit into `keep` bytes."""

    def __init__(self, length: int, make: Callable[[int], Item], keep: float = 0) -> None:
        self.length = length
        self.make = make
        self.free = keep
        self.kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not 0 <= index < self.length:
            raise IndexError(index)
        if index in self.kept:
            return self.kept[int(index)]
        item = self.make(int(index))
        if item.nbytes <= self.free:
            self.free -= item.nbytes
            self.kept[int(index)] = item
        return item
