"""mvtec_loco: MVTec LOCO AD, five scenes with logical and structural anomalies.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.core.names import paired, written
from adcore.datasets import _published
from adcore.datasets._folders import folders, images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, SPLITS, Archive, Entry, Facts
from adcore.vision.masks import CHANNELS, CONFIG, channel_files

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
        if not (folder / CONFIG).is_file():
            error = f"no {CONFIG}: {category} cannot be scored without it"
            yield Entry(relative(folder, root), category, "", GOOD, error=error)
        shots = {i: split for split in SPLITS for d in folders(folder / split) for i in images(d)}
        truths = folders(folder / "ground_truth")
        masks = {mask: f"{defect.name}/{mask.name}" for defect in truths for mask in folders(defect)}
        pairs = paired({image: f"{image.parent.name}/{image.stem}" for image in shots}, masks)
        for image, split in shots.items():
            yield self._entry(root, category, split, image, next(iter(pairs[image]), None))
        for mask in masks.keys() - {mask for pair in pairs.values() for mask in pair}:
            defect = written(mask.parent.name)
            error = f"mask without image: expected test/{defect}/{written(mask.name)}"
            yield Entry(relative(mask, root), category, "", defect, error=error)
        regions = {region for mask in masks for region in channel_files(mask)}
        yield from passed_over(root, category, [*(folder / split for split in SPLITS), *truths], {*shots, *regions})

    def _entry(self, root: Path, category: str, split: str, image: Path, mask: Path | None) -> Entry:
        path, defect = relative(image, root), written(image.parent.name)
        subset = SUBSETS.get(defect, "")
        if mask is not None:
            return Entry(path, category, split, defect, relative(mask, root), subset, mask_rule=CHANNELS)
        missing = split == "test" and defect != GOOD
        error = f"no mask: ground_truth/{defect}/{written(image.stem)} does not exist" if missing else ""
        return Entry(path, category, split, defect, "", subset, error)
