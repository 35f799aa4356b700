"""generated: a small set with pixel masks in the layout of MVTec AD, made on this machine. A demo, never a benchmark.

Two textures are crops of CC0 photographs, one is leather that carries a stamped shape (in the spirit of MTL AD), two
categories are drawn objects. Every image depends on its name alone, to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from adcore.core.disk import write_file
from adcore.datasets import folder
from adcore.datasets._drawing import Array, generator, png, quantised
from adcore.datasets._scenes import SCENES
from adcore.datasets.base import GOOD, Progress

VERSION = "2"  # raise it with any change of the images: sets of an older version are then replaced
TRAIN, TEST_GOOD, PER_DEFECT = 40, 15, 8
VISIBLE = 6  # grey levels: what changes less is no defect
SMALLEST = 12  # pixels of a defect

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One image of the set. `index` counts within the defect and sets its strength."""

    category: str
    split: str
    defect: str
    index: int

    @property
    def path(self) -> str:
        return f"{self.category}/{self.split}/{self.defect}/{self.index:03d}.png"

    @property
    def mask_path(self) -> str:
        return f"{self.category}/ground_truth/{self.defect}/{self.index:03d}_mask.png"

    @property
    def paths(self) -> list[str]:
        return [self.path] if self.defect == GOOD else [self.path, self.mask_path]


class Generated(folder.Folder):
    """Five categories of 40 training images, 15 good test images and 4 kinds of defects with 8 images each."""

    kind: ClassVar[str] = "generated"
    folder: ClassVar[str] = "generated"
    textures: ClassVar[tuple[str, ...]] = ("brick", "gravel", "leather")
    licence: ClassVar[str] = "CC0 (sources: brick and gravel of scikit-image)"
    note: ClassVar[str] = "a demo, never a benchmark"

    def fetch(self, progress: Progress) -> None:
        version = self.root / "version.txt"
        fresh = version.is_file() and version.read_text() == VERSION
        todo = list(pictures())
        for done, picture in enumerate(todo, start=1):
            if not fresh or not all((self.root / path).is_file() for path in picture.paths):
                for path, content in render(picture).items():
                    write_file(self.root / path, content)
            progress(done, len(todo))
        if not fresh:
            known = {self.root / path for picture in todo for path in picture.paths}
            for stale in set(self.root.glob("*/*/*/*.png")) - known:
                stale.unlink(missing_ok=True)
            write_file(version, VERSION.encode())


def pictures() -> Iterator[Picture]:
    """Every image of the set."""
    for category, scene in SCENES.items():
        counts = [("train", GOOD, TRAIN), ("test", GOOD, TEST_GOOD)]
        counts += [("test", defect, PER_DEFECT) for defect in scene.defects]
        for split, defect, count in counts:
            for index in range(count):
                yield Picture(category, split, defect, index)


def render(picture: Picture) -> dict[str, bytes]:
    """The files of an image, relative path to PNG: RGB, and for a defect its mask (0 and 255)."""
    good = quantised(_scene(picture, "", 0.0))
    if picture.defect == GOOD:
        return {picture.path: png(good)}
    tries = (_spoilt(picture, attempt) for attempt in itertools.count())
    bad = next(image for image in tries if _changed(good, image).sum() >= SMALLEST)  # wear on a flat brick is not seen
    mask = _changed(good, bad)
    image = np.where(mask[..., None], bad, good)
    return {picture.path: png(image), picture.mask_path: png(mask.astype(np.uint8) * np.uint8(255))}


def _spoilt(picture: Picture, attempt: int) -> Pixels:
    """The image with its defect, (SIZE, SIZE, 3)."""
    scene = SCENES[picture.category]
    strength = (picture.index + 0.5) / PER_DEFECT
    surface = scene.defects[picture.defect]
    if surface is None:
        return quantised(_scene(picture, picture.defect, strength))
    rng = generator(picture.path, "defect", attempt)
    return quantised(surface(_scene(picture, "", 0.0), scene.place(rng), rng, strength))


def _scene(picture: Picture, fault: str, strength: float) -> Array:
    return SCENES[picture.category].draw(generator(picture.path), picture.split, fault, strength)


def _changed(good: Pixels, bad: Pixels) -> npt.NDArray[np.bool_]:
    """Where the defect is visible, small holes closed."""
    visible = np.abs(good.astype(np.int16) - bad).max(axis=2) >= VISIBLE
    image = Image.fromarray(visible.astype(np.uint8) * np.uint8(255))
    return np.asarray(image.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))) > 0
