"""mvtec_3d: the photographs of MVTec 3D-AD; the depth (xyz) is not used.

Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly Detection and Localization", VISAPP 2022.
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


class Mvtec3d(_published.Published):
    """CATEGORY/{train,validation,test}/DEFECT/rgb/STEM.png, with its mask in CATEGORY/test/DEFECT/gt/STEM.png."""

    kind: ClassVar[str] = "mvtec_3d"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    note: ClassVar[str] = "photographs only"
    show_images: ClassVar[bool] = False
    archive: ClassVar[Archive] = Archive(
        "mvtec_3d_anomaly_detection.tar.xz",
        "the page 'MVTec 3D-AD' among the research datasets of MVTec Software GmbH",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "bagel": Facts(244, 22, 88),
        "cable_gland": Facts(223, 21, 87),
        "carrot": Facts(286, 27, 132),
        "cookie": Facts(210, 28, 103),
        "dowel": Facts(288, 26, 104),
        "foam": Facts(236, 20, 80),
        "peach": Facts(361, 26, 106),
        "potato": Facts(300, 22, 92),
        "rope": Facts(298, 32, 69),
        "tire": Facts(210, 25, 87),
    }

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        for split in SPLITS:
            for place in folders(folder / split):
                shots, masks = images(place / "rgb"), images(place / "gt")
                pairs = paired({image: image.stem for image in shots}, {mask: mask.stem for mask in masks})
                defect = written(place.name)
                for image, pair in pairs.items():
                    missing = not pair and split == "test" and defect != GOOD
                    error = f"no mask: test/{defect}/gt/{written(image.stem)}.png does not exist" if missing else ""
                    path, truth = relative(image, root), relative(pair[0], root) if pair else ""
                    yield Entry(path, category, split, defect, truth, error=error, mask_rule="levels")
                for mask in set(masks) - {mask for pair in pairs.values() for mask in pair}:
                    error = f"mask without image: expected test/{defect}/rgb/{written(mask.stem)}"
                    yield Entry(relative(mask, root), category, "", defect, error=error)
                yield from passed_over(root, category, [place], {*shots, *masks, place / "xyz"})
