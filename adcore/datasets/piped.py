"""piped: PIPED, paper with impurities: twelve papers with masks.

Bianconi et al., "A sequential machine vision procedure for assessing paper impurities", Computers in Industry 65, 2014.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from adcore.datasets import _published, layout
from adcore.datasets._folders import folders, images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, Archive, Entry, Facts

DEFECT = "impurity"
_PAPER = re.compile(r"PA_([A-Z]{3}\d\d)_")
_NUMBERS = re.compile(r"(\d+)_(\d+)$")  # sheet and patch, padded with zeros in some papers and not in others


class Piped(_published.Published):
    """As published: PA_*/NoDefects, PA_*/Defects and PA_*/Defects/Ground*, where 0 is the defect; or in MVTec's layout.

    Two spellings of the folder of masks occur (GroundTruth, GroundThruth). Patches come from few sheets, so the first
    two thirds of the sheets are for training and no sheet is on both sides; repeated good images are left out.
    The thirteenth paper, PU_PNG01, has no defects and is not used.
    """

    kind: ClassVar[str] = "piped"
    licence: ClassVar[str] = "CC BY 4.0"
    archive: ClassVar[Archive] = Archive(
        "PIPED-main.zip", "the public repository bianconif/PIPED (download it as a ZIP file)"
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        f"paper_{name}": Facts(train, good, 48, {DEFECT: 48}, (128, 128))
        for name, train, good in (
            ("bdp01", 31, 16),
            ("bft01", 28, 16),
            ("brg01", 32, 15),
            ("brg02", 28, 16),
            ("brg03", 32, 16),
            ("btn01", 32, 16),
            ("flr01", 30, 16),
            ("flr02", 31, 16),
            ("fvn01", 31, 14),
            ("fvn02", 31, 16),
            ("gla01", 31, 15),
            ("zpb01", 32, 16),
        )
    }
    textures: ClassVar[tuple[str, ...]] = tuple(facts)

    def categories_in(self, root: Path) -> dict[str, Path]:
        papers = {f"paper_{match[1].lower()}": f for f in folders(root) if (match := _PAPER.match(f.name))}
        return papers or super().categories_in(root)

    def listed(self, root: Path, folder: Path, category: str) -> Iterable[Entry]:
        if (folder / "train").is_dir():
            return layout.category_entries(root, folder, category)
        return self._as_published(root, folder, category)

    def _as_published(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        truths = [truth for truth in folders(folder / "Defects") if truth.name.startswith("Ground")]
        masks = {_numbers(mask): mask for truth in truths for mask in images(truth)}
        for image in images(folder / "Defects"):
            mask = masks.get(_numbers(image))
            known = relative(mask, root) if mask else ""
            error = "" if mask else f"no mask: none in Defects/Ground* ends in the numbers of {image.name}"
            path = relative(image, root)
            yield Entry(path, category, "test", DEFECT, known, error=error, mask_rule="inverted")
        good = [image for free in folders(folder) if free.name.startswith("NoDefect") for image in images(free)]
        sheets = sorted({_numbers(image)[0] for image in good})
        training = set(sheets[: len(sheets) * 2 // 3])
        for image in good:
            split = "train" if _numbers(image)[0] in training else "test"
            yield Entry(relative(image, root), category, split, GOOD)
        yield from passed_over(root, category, [folder], {*good, *images(folder / "Defects"), *truths})

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Without repeated good images; of two on either side, the training image stays."""
        good = frame[(frame["label"] == 0) & (frame["sha256"] != "")]
        ordered = good.sort_values(["split", "path"], ascending=[False, True])
        return frame.drop(ordered.index[ordered.duplicated(["category", "sha256"])])


def _numbers(path: Path) -> tuple[int, int]:
    """Sheet and patch; (0, 0) where the name holds none."""
    match = _NUMBERS.search(path.stem)
    return (int(match[1]), int(match[2])) if match else (0, 0)
