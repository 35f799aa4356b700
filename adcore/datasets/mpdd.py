"""mpdd: MPDD, six kinds of painted metal parts with masks.

Jezek et al., "Deep learning-based defect detection of metal parts: evaluating current methods in complex conditions",
ICUMT 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, layout
from adcore.datasets.base import GOOD, Archive, Entry, Facts


class Mpdd(_published.Published):
    """CATEGORY/train/good, CATEGORY/test/DEFECT and CATEGORY/ground_truth/DEFECT/STEM_mask.png."""

    kind: ClassVar[str] = "mpdd"
    good: ClassVar[tuple[str, ...]] = (GOOD,)
    licence: ClassVar[str] = "not stated"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    archive: ClassVar[Archive] = Archive("MPDD.zip", "the link in the README of the public repository stepanje/MPDD")
    facts: ClassVar[Mapping[str, Facts]] = {
        "bracket_black": Facts(289, 32, 47),
        "bracket_brown": Facts(185, 26, 51),
        "bracket_white": Facts(110, 30, 30),
        "connector": Facts(128, 30, 14),
        "metal_plate": Facts(54, 26, 71),
        "tubes": Facts(122, 32, 69),
    }

    def listed(self, root: Path, folder: Path, category: str) -> list[Entry]:
        return layout.category_entries(root, folder, category, layout.Spelling(self.good_folders))
