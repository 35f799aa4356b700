"""mvtec_loco: MVTec LOCO AD, five scenes with logical and structural anomalies.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, _regions
from adcore.datasets.base import Archive, Entry, Facts

LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"
SUBSETS = {LOGICAL: "logical", STRUCTURAL: "structural"}


def _facts(train: int, validation: int, good: int, logical: int, structural: int, size: tuple[int, int]) -> Facts:
    defects = {LOGICAL: logical, STRUCTURAL: structural}
    return Facts(train, good, logical + structural, defects, size, validation)


class MvtecLoco(_published.Published):
    """CATEGORY/{train,validation,test}/DEFECT/STEM.png; CATEGORY/ground_truth/DEFECT/STEM/ holds a mask a region.

    The grey value of a region is explained in CATEGORY/defects_config.json.
    The paper prints 354 training images of splicing_connectors (1,772 in all) and 304 validation images in all; the
    archive holds 360 and 305.
    """

    kind: ClassVar[str] = "mvtec_loco"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    archive: ClassVar[Archive] = Archive(
        "mvtec_loco_anomaly_detection.tar.xz",
        "the page 'MVTec LOCO AD' among the research datasets of MVTec Software GmbH",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "breakfast_box": _facts(351, 62, 102, 83, 90, (1600, 1280)),
        "juice_bottle": _facts(335, 54, 94, 142, 94, (800, 1600)),
        "pushpins": _facts(372, 69, 138, 91, 81, (1700, 1000)),
        "screw_bag": _facts(360, 60, 122, 137, 82, (1600, 1100)),
        "splicing_connectors": _facts(360, 60, 119, 108, 85, (1700, 850)),
    }

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        return _regions.category_entries(root, folder, category, SUBSETS)
