"""mtl_ad: MTL AD, embossed leather of three kinds; from a copy of your own, since no public source is known.

The paper that brings SBM and PFAM (docs/papers/sbm-pfam.md) presents it, with images larger than 900 x 900.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, layout
from adcore.datasets.base import GOOD, Archive, Entry, Facts


class MtlAd(_published.Published):
    """Read in the layout of MVTec AD, which is an assumption: neither its layout nor its counts are public."""

    kind: ClassVar[str] = "mtl_ad"
    good: ClassVar[tuple[str, ...]] = (GOOD,)
    licence: ClassVar[str] = "not stated"
    consent: ClassVar[bool] = True
    note: ClassVar[str] = "no public copy is known"
    show_images: ClassVar[bool] = False
    textures: ClassVar[tuple[str, ...]] = ("lychee", "ostrich", "pearlfish")
    archive: ClassVar[Archive] = Archive(
        "mtl_ad.zip", "its authors, those of the paper of SBM-PFAM (no public source is known)"
    )
    facts: ClassVar[Mapping[str, Facts]] = {name: Facts() for name in textures}

    def listed(self, root: Path, folder: Path, category: str) -> list[Entry]:
        return layout.category_entries(root, folder, category, layout.Spelling(self.good_folders))
