"""magnetic_tile: photographs of magnetic tiles, each under up to six exposures, with masks.

Huang et al., "Surface defect saliency of magnetic tile", The Visual Computer 36, 2020.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from adcore.datasets import _published
from adcore.datasets._folders import images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, Archive, Entry, Facts

NAME = "magnetic_tile"
FREE = "MT_Free"
DEFECTS = {
    "MT_Blowhole": "blowhole",
    "MT_Break": "break",
    "MT_Crack": "crack",
    "MT_Fray": "fray",
    "MT_Uneven": "uneven",
}
TRAIN = 0.75  # of the tiles without any defect
_EXPOSURE = re.compile(r"^exp\d+_")


class MagneticTile(_published.Published):
    """MT_Free/Imgs and MT_DEFECT/Imgs hold each STEM.jpg beside its mask STEM.png; STEM is expN_num_TILE.

    expN_num_TILE is exposure N of a tile, so the split is by tile: all exposures are on one side. A tile with any
    defect is for test; of the others, three quarters in the order of a hash are for training. The masks are grey and
    read at 127. Four images of uneven tiles have an empty mask and are left out.
    """

    kind: ClassVar[str] = "magnetic_tile"
    licence: ClassVar[str] = "not stated"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    textures: ClassVar[tuple[str, ...]] = (NAME,)
    archive: ClassVar[Archive] = Archive(
        "Magnetic-tile-defect-datasets.-master.zip",
        "the public repository abin24/Magnetic-tile-defect-datasets. (download it as a ZIP file)",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        NAME: Facts(
            defective=388, defects={"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 99}
        )  # and 952 good ones
    }

    def categories_in(self, root: Path) -> dict[str, Path]:
        return {NAME: root} if (root / FREE).is_dir() else {}

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        spoilt: set[str] = set()
        for name, defect in DEFECTS.items():
            for image in _photographs(folder / name / "Imgs"):
                spoilt.add(tile(image))
                mask = image.with_suffix(".png")
                known = relative(mask, root) if mask.is_file() else ""
                error = "" if known else f"no mask: {name}/Imgs/{mask.name} does not exist"
                path = relative(image, root)
                yield Entry(path, category, "test", defect, known, error=error, mask_rule="half")
        good = _photographs(folder / FREE / "Imgs")
        training = _first({tile(image) for image in good} - spoilt)
        for image in good:
            split = "train" if tile(image) in training else "test"
            yield Entry(relative(image, root), category, split, GOOD)
        parents = [folder / name for name in (FREE, *DEFECTS)]
        paired = {
            file for parent in parents for file in images(parent / "Imgs") if file.suffix.lower() in (".jpg", ".png")
        }
        yield from passed_over(root, category, parents, paired)

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Without the images whose mask marks nothing: they are neither good nor can their defect be judged."""
        return frame[~frame["error"].str.startswith("mask is empty")]


def tile(image: Path) -> str:
    """What the exposures of one tile have in common."""
    return _EXPOSURE.sub("", image.stem)


def _photographs(folder: Path) -> list[Path]:
    return [path for path in images(folder) if path.suffix.lower() == ".jpg"]


def _first(tiles: set[str]) -> set[str]:
    ranked = sorted(tiles, key=lambda name: (hashlib.sha256(name.encode()).hexdigest(), name))
    return set(ranked[: round(TRAIN * len(ranked))])
