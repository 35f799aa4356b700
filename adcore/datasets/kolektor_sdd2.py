"""kolektor_sdd2: KolektorSDD2, one surface of a product with masks.

Bozic et al., "Mixed supervision for surface-defect detection: from weakly to fully supervised learning", Computers in
Industry 129, 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from adcore.datasets import _published
from adcore.datasets._folders import images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, Archive, Entry, Facts

NAME = "kolektor_sdd2"
DEFECT = "defect"
_IMAGE, _MASK = re.compile(r"\d+$"), re.compile(r"\d+_GT$")


class KolektorSdd2(_published.Published):
    """{train,test}/NUMBER.png, each beside its mask NUMBER_GT.png, which marks nothing where the image is good.

    The defective training images are not used.
    """

    kind: ClassVar[str] = NAME
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    textures: ClassVar[tuple[str, ...]] = (NAME,)
    archive: ClassVar[Archive] = Archive(
        "KolektorSDD2.zip",
        "the page 'KolektorSDD2' of the Visual Cognitive Systems Laboratory, University of Ljubljana",
    )
    facts: ClassVar[Mapping[str, Facts]] = {NAME: Facts(2085, 894, 110, {DEFECT: 110})}

    def categories_in(self, root: Path) -> dict[str, Path]:
        there = all((root / split).is_dir() for split in ("train", "test")) and any((root / "test").glob("*_GT.png"))
        return {NAME: root} if there else {}

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        """All images as defective: which are good, their masks tell (`arrange`)."""
        read: set[Path] = set()
        for split in ("train", "test"):
            files = images(folder / split)
            masks = {file.stem.removesuffix("_GT"): file for file in files if _MASK.match(file.stem)}
            for image in (file for file in files if _IMAGE.match(file.stem)):
                mask = masks.pop(image.stem, None)
                known = relative(mask, root) if mask else ""
                error = "" if mask else f"no mask: {split}/{image.stem}_GT.png does not exist"
                yield Entry(relative(image, root), category, split, DEFECT, known, error=error, mask_rule="levels")
                read |= {image, *([mask] if mask else [])}
            for stem, mask in masks.items():
                error = f"mask without image: expected {split}/{stem}.png"
                yield Entry(relative(mask, root), category, "", DEFECT, error=error)
                read.add(mask)
        yield from passed_over(root, category, [folder], read)

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        """An image whose mask marks nothing is good, and has no mask; without the sound defective training images."""
        frame = frame.copy()
        good = frame["error"].str.startswith("mask is empty")
        frame.loc[good, "label"] = 0
        frame.loc[good, "defect"] = GOOD
        frame.loc[good, ["mask", "mask_rule", "mask_sha256", "error"]] = ""
        return frame[(frame["split"] != "train") | good | (frame["error"] != "")]
