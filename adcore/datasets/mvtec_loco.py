"""mvtec_loco: MVTec LOCO AD, five scenes with logical and structural anomalies.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, layout
from adcore.datasets.base import GOOD, Archive, Entry, Facts
from adcore.masks import CHANNELS, CONFIG

LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"
SUBSETS = {LOGICAL: "logical", STRUCTURAL: "structural"}


def _facts(train: int, good: int, logical: int, structural: int, size: tuple[int, int]) -> Facts:
    return Facts(train, good, logical + structural, {LOGICAL: logical, STRUCTURAL: structural}, size)


class MvtecLoco(_published.Published):
    """CATEGORY/{train,validation,test}/DEFECT/STEM.png; CATEGORY/ground_truth/DEFECT/STEM/ holds a mask a region.

    The grey value of a region is explained in CATEGORY/defects_config.json. The validation images are not used.
    The paper prints 354 training images of splicing_connectors (1,772 in all); the archive holds 360.
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
        "breakfast_box": _facts(351, 102, 83, 90, (1600, 1280)),
        "juice_bottle": _facts(335, 94, 142, 94, (800, 1600)),
        "pushpins": _facts(372, 138, 91, 81, (1700, 1000)),
        "screw_bag": _facts(360, 122, 137, 82, (1600, 1100)),
        "splicing_connectors": _facts(360, 119, 108, 85, (1700, 850)),
    }

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        if not (folder / CONFIG).is_file():
            error = f"no {CONFIG}: {category} cannot be scored without it"
            yield Entry(layout.relative(folder, root), category, "", GOOD, error=error)
        truth = folder / "ground_truth"
        unused = {mask for defect in layout.folders(truth) for mask in layout.folders(defect)}
        for split in ("train", "test"):
            for defect in layout.folders(folder / split):
                for image in layout.images(defect):
                    mask = truth / defect.name / image.stem
                    unused.discard(mask)
                    yield self._entry(root, category, split, image, mask)
        for mask in sorted(unused):
            error = f"mask without image: expected test/{mask.parent.name}/{mask.name}"
            yield Entry(layout.relative(mask, root), category, "", mask.parent.name, error=error)

    def _entry(self, root: Path, category: str, split: str, image: Path, mask: Path) -> Entry:
        path, defect = layout.relative(image, root), image.parent.name
        if mask.is_dir():
            known = layout.relative(mask, root)
            return Entry(path, category, split, defect, known, SUBSETS.get(defect, ""), mask_rule=CHANNELS)
        missing = split == "test" and defect != GOOD
        error = f"no mask: ground_truth/{defect}/{mask.name} does not exist" if missing else ""
        return Entry(path, category, split, defect, "", SUBSETS.get(defect, ""), error)
