"""btad: BTAD, three products of a factory with masks.

Mishra et al., "VT-ADL: A Vision Transformer Network for Image Anomaly Detection and Localization", ISIE 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, layout
from adcore.datasets.base import Archive, Entry, Facts


class Btad(_published.Published):
    """CATEGORY/train/ok, CATEGORY/test/{ok,ko}, CATEGORY/ground_truth/ko; images and masks may be bmp or png.

    1,799 training images in all; sources disagree on which of 02 and 03 has 1,000 of them and which 399.
    """

    kind: ClassVar[str] = "btad"
    good: ClassVar[tuple[str, ...]] = ("ok",)
    licence: ClassVar[str] = "CC BY-SA 4.0 (README of its authors)"
    archive: ClassVar[Archive] = Archive(
        "btad.zip",
        "the README of the public repository pankajmishra000/VT-ADL",
        ("https://avires.dimi.uniud.it/papers/btad/btad.zip",),
        "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "01": Facts(400, 21, 49, {"ko": 49}, (1600, 1600)),
        "02": Facts(None, 30, 200, {"ko": 200}, (600, 600)),
        "03": Facts(None, 400, 41, {"ko": 41}, (800, 600)),
    }

    def listed(self, root: Path, folder: Path, category: str) -> list[Entry]:
        return layout.category_entries(root, folder, category, layout.Spelling(self.good_folders, suffix=""))
