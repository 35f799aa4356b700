"""From image files to the feature maps of a frozen backbone, as enhancers left it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adcore.core.arrays import UInt8Array
from adcore.core.contracts import ImageMethod, Level, Levels, Link, Maps, Method, Shape
from adcore.core.devices import to_device
from adcore.core.prefetch import ahead
from adcore.features import backbones
from adcore.vision.fewshot import variant
from adcore.vision.images import ImageFile

if TYPE_CHECKING:
    from adcore.core.plan import BackboneSpec, ImageSpec

BATCH = 16
STUDENT = 1_000_003  # added to the seed of an untrained network, so that none equals a backbone with random weights

Behind = Callable[[Maps], Maps]
Weights = Callable[[str], dict[str, torch.Tensor]]  # the key of a trained enhancer -> its state


@dataclass(frozen=True)
class Extraction:
    """What decides the features of an image: backbone, its weights, the levels read, preprocessing and enhancers.

    `levels` are those that the method asks for; () where the backbone names its layers.
    """

    backbone: BackboneSpec
    image: ImageSpec
    levels: Levels
    links: tuple[Link, ...] = ()

    @property
    def read(self) -> Levels:
        """The levels that the backbone itself has to give."""
        levels = self.levels
        for link in self.links:
            if link.enhancer.on_maps and levels:
                levels = link.made().levels(levels)
        return levels

    @property
    def names(self) -> tuple[str, ...]:
        """One a map: the levels or layers, or plain numbers where an enhancer made the maps from all of them."""
        if any(link.enhancer.on_maps for link in self.links):
            count = len(self.backbone.layers or self.levels)
            for link in self.links:
                count = link.made().outputs(count)
            return tuple(f"map{n}" for n in range(count))
        if self.backbone.layers:
            return tuple(f"layer{n}" for n in self.backbone.layers)
        return tuple(map(_name, self.levels))

    def only(self, names: Sequence[str]) -> Extraction:
        """The extraction of those maps alone, as far as they can be had alone."""
        if names[0].startswith("map"):
            return self
        if self.backbone.layers:
            layers = tuple(n for n in self.backbone.layers if f"layer{n}" in names)
            return replace(self, backbone=self.backbone.model_copy(update={"layers": layers}))
        return replace(self, levels=tuple(level for level in self.levels if _name(level) in names))


def _name(level: Level) -> str:
    return level if isinstance(level, str) else f"level{level}"


class Backbone(torch.nn.Module):
    """A backbone behind its normalisation: images (B, 3, H, W) of 0..255 -> one float32 map (B, C, H', W') per level.

    seed: of weights that are random."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: BackboneSpec, levels: Sequence[Level], size: int, seed: int = 0) -> None:
        super().__init__()
        self.model: Any = backbones.build(spec, levels, size, seed)
        self.channels_last = backbones.channels_last(self.model)
        for name, values in zip(("mean", "std"), backbones.normalisation(self.model), strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, batch: torch.Tensor) -> Maps:
        """Of images on the host or on the weights' device."""
        scaled = (to_device(batch, str(self.mean.device)).float() / 255 - self.mean) / self.std
        maps = self.model(scaled.contiguous(memory_format=torch.channels_last))
        if self.channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        return [features.float().contiguous() for features in maps]


class Extractor:
    """Images (B, 3, H, W), uint8 -> one float32 map (B, C, H', W') per level, on `device`.

    `weights` gives the state of the extraction's enhancers. `behind` are applied to the maps, in order.
    """

    def __init__(self, extraction: Extraction, device: str, weights: Weights | None = None) -> None:
        self.device = device
        self.size = extraction.image.size
        self.levels = extraction.read
        self.spec = extraction.backbone
        self.network = Backbone(self.spec, self.levels, self.size)
        self.network.to(device).to(memory_format=torch.channels_last)
        self.model: Any = self.network.model
        self.mean, self.std = self.network.mean, self.network.std
        self.behind: list[Behind] = []
        self._shapes: dict[int, list[Shape]] = {}  # by how many stand behind the maps
        self.added = torch.nn.ModuleList()
        for link in extraction.links:
            assert weights is not None
            link.made().apply(self, weights(link.key), extraction.levels)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> Maps:
        return self.maps(batch)

    def add(self, module: torch.nn.Module, behind: Behind) -> None:
        """Put a module behind the maps; `behind` is how it is called."""
        self.added.append(module)
        self.behind.append(behind)

    def maps(self, batch: torch.Tensor, behind: Sequence[Behind] | None = None) -> Maps:
        """As a call, with gradients where they are wanted; `behind` in place of all that stands behind the maps."""
        maps: Maps = self.network(batch)
        for enhance in self.behind if behind is None else behind:
            maps = enhance(maps)
        return maps

    def untrained(self, seed: int) -> Backbone:
        """The same network with random weights of their own, its parameters to be learned."""
        random = self.spec.model_copy(update={"weights": "random", "sha256": None})
        network = Backbone(random, self.levels, self.size, STUDENT + seed)
        network.to(self.device).to(memory_format=torch.channels_last)
        network.requires_grad_(True)
        return network

    def shapes(self) -> list[Shape]:
        """(C, H, W) of each map; a pass of the network, once for all that stands behind it."""
        count = len(self.behind)
        if count not in self._shapes:
            blank = torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)
            self._shapes[count] = [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self(blank)]
        return list(self._shapes[count])


class Pixels:
    """In place of the extractor for a method that is given images: they themselves, on `device`."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return to_device(batch, self.device)


def reader(method: type[Method], extractor: Callable[[], Extractor], device: str) -> Extractor | Pixels:
    """What turns decoded images (B, 3, H, W), uint8, into what the method reads."""
    return Pixels(device) if issubclass(method, ImageMethod) else extractor()


def decoded(
    files: Sequence[ImageFile], image: ImageSpec, batch: int = BATCH, variants: Sequence[int] = ()
) -> Iterator[torch.Tensor]:
    """Batches of resized and cropped images (B, 3, H, W), uint8; the next batch is decoded while one is used.

    variants: for each image which of its few-shot versions is wanted; none: the images themselves. Raises ImageError
    for a file that cannot be read or that no longer holds what it has to.
    """

    def load(item: tuple[ImageFile, int]) -> UInt8Array:
        pixels = item[0].load(image.resize, image.size)
        return variant(pixels, item[1]) if item[1] else pixels

    for loaded in ahead(list(zip(files, variants or [0] * len(files), strict=True)), load, batch):
        yield torch.from_numpy(np.stack(loaded))
