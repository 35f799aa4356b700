"""mvtec_3d: the photographs of MVTec 3D-AD; the depth (xyz) is not used.

Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly Detection and Localization", VISAPP 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, layout
from adcore.datasets.base import GOOD, Archive, Entry, Facts


class Mvtec3d(_published.Published):
    """CATEGORY/{train,validation,test}/DEFECT/rgb/STEM.png, with its mask in CATEGORY/test/DEFECT/gt/STEM.png.

    The validation images are not used.
    """

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
        for split in ("train", "test"):
            for defect in layout.folders(folder / split):
                masks = {path.stem: path for path in layout.images(defect / "gt")}
                for image in layout.images(defect / "rgb"):
                    mask = masks.pop(image.stem, None)
                    missing = mask is None and split == "test" and defect.name != GOOD
                    error = f"no mask: test/{defect.name}/gt/{image.stem}.png does not exist" if missing else ""
                    known = layout.relative(mask, root) if mask else ""
                    path = layout.relative(image, root)
                    yield Entry(path, category, split, defect.name, known, error=error, mask_rule="levels")
                for stem, mask in masks.items():
                    error = f"mask without image: expected test/{defect.name}/rgb/{stem}"
                    yield Entry(layout.relative(mask, root), category, "", defect.name, error=error)
