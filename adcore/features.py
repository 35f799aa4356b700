"""From image files to the feature maps of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adcore import backbones, images

if TYPE_CHECKING:
    from adcore.plan import BackboneSpec, ImageSpec

BATCH = 16


@dataclass(frozen=True)
class Extraction:
    """What decides the features of an image: backbone, its weights, the levels read and the preprocessing."""

    backbone: BackboneSpec
    image: ImageSpec
    levels: tuple[int, ...]


class Extractor:
    """Images (B, 3, H, W), uint8 -> one float32 map (B, C, H', W') per level, on `device`."""

    def __init__(self, extraction: Extraction, device: str) -> None:
        self.device = device
        model = backbones.build(extraction.backbone, extraction.levels, extraction.image.size)
        mean, std = backbones.normalisation(model)
        self.model: Any = model.to(device, memory_format=torch.channels_last)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> list[torch.Tensor]:
        if self.device.startswith("cuda"):
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        scaled = (batch.float() / 255 - self.mean) / self.std
        maps = self.model(scaled.contiguous(memory_format=torch.channels_last))
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        return [features.float().contiguous() for features in maps]


def decoded(paths: Sequence[Path], image: ImageSpec, batch: int = BATCH) -> Iterator[torch.Tensor]:
    """Batches of resized and cropped images (B, 3, H, W), uint8; the next batch is decoded while one is used."""

    def load(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return images.load(path, image.resize, image.size)

    with ThreadPoolExecutor(2) as pool:
        starts = range(0, len(paths), batch)
        ahead = [pool.submit(load, path) for path in paths[:batch]]
        for start in starts:
            current = ahead
            ahead = [pool.submit(load, path) for path in paths[start + batch : start + 2 * batch]]
            yield torch.from_numpy(np.stack([future.result() for future in current]))


def device_of(name: str) -> str:
    """`auto` -> the first CUDA device where there is one, else the CPU; anything else is taken as torch's name."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
