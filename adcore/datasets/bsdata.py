"""bsdata: BSData, spots of a ball screw's spindle photographed while it wears, with outlines of the pitting.

Schlagenhauf and Landwehr, "Industrial machine tool component surface defect dataset", Data in Brief 39, 2021.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.core.names import paired, written
from adcore.datasets import _published
from adcore.datasets._folders import files, images, relative
from adcore.datasets._unread import remark
from adcore.datasets.base import GOOD, Archive, Entry, Facts
from adcore.vision.masks import POLYGONS

NAME = "bsdata"
DEFECT = "pitting"
TRAIN = 0.5  # of the spots
_SPOT = re.compile(r"\d+_\d{12}_(\d{6}_\d{3})_crop_([12])$")  # 01_TIME_SPOT_crop_STATE


class Bsdata(_published.Published):
    """data/STEM.jpg, and label/STEM.json of labelme where something is outlined; STEM is 01_TIME_SPOT_crop_STATE.

    A spot is photographed again and again, so the split is by spot: of half of the spots, in the order of a hash, the
    good images are for training; all images of the others are for test. An image is good without an outline and with
    STATE 2. Left out are images of STATE 1 without an outline, outlined ones of the spots for training, and the other
    spindle, KGT..., of which there are no good ones.
    """

    kind: ClassVar[str] = NAME
    licence: ClassVar[str] = "CC BY-SA 4.0 (as lists of data sets have it)"
    textures: ClassVar[tuple[str, ...]] = (NAME,)
    archive: ClassVar[Archive] = Archive(
        "BSData.zip", "the public repository 2Obe/BSData (clone it, or download it as a ZIP file)"
    )
    facts: ClassVar[Mapping[str, Facts]] = {NAME: Facts()}  # counts are published of all images, and some are left out

    def categories_in(self, root: Path) -> dict[str, Path]:
        return {NAME: root} if all((root / place).is_dir() for place in ("data", "label")) else {}

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        shots, labels = images(folder / "data"), [f for f in files(folder / "label") if f.suffix.lower() == ".json"]
        pairs = paired({image: image.stem for image in shots}, {label: label.stem for label in labels})
        named = {image: match for image in shots if (match := _SPOT.match(image.stem))}
        training = _first({match[1] for match in named.values()})
        for image, match in named.items():
            label, train = next(iter(pairs[image]), None), match[1] in training
            if label is None and match[2] == "2":
                yield Entry(relative(image, root), category, "train" if train else "test", GOOD, group=match[1])
            elif label is not None and not train:
                mask = relative(label, root)
                yield Entry(relative(image, root), category, "test", DEFECT, mask, mask_rule=POLYGONS, group=match[1])
        for label in set(labels) - {label for pair in pairs.values() for label in pair}:
            error = f"mask without image: expected data/{written(label.stem)}.jpg"
            yield Entry(relative(label, root), category, "", DEFECT, error=error)
        for place, read in ((folder / "data", shots), (folder / "label", labels)):
            rest = [file for file in files(place) if file not in read]
            yield from remark(root, category, place, rest, "that are not read")


def _first(spots: set[str]) -> set[str]:
    ranked = sorted(spots, key=lambda spot: (hashlib.sha256(spot.encode()).hexdigest(), spot))
    return set(ranked[: round(TRAIN * len(ranked))])
