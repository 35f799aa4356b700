"""mvtec_ad: MVTec AD, five textures and ten objects with masks.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from adcore.core.contracts import Threshold
from adcore.datasets import _published, layout
from adcore.datasets.base import GOOD, Archive, Entry, Facts
from adcore.vision import foreground


def _facts(train: int, good: int, side: int, **defects: int) -> Facts:
    return Facts(train, good, sum(defects.values()), defects, (side, side))


class MvtecAd(_published.Published):
    """CATEGORY/train/good, CATEGORY/test/DEFECT and CATEGORY/ground_truth/DEFECT/STEM_mask.png."""

    kind: ClassVar[str] = "mvtec_ad"
    good: ClassVar[tuple[str, ...]] = (GOOD,)
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    textures: ClassVar[tuple[str, ...]] = ("carpet", "grid", "leather", "tile", "wood")
    thresholds: ClassVar[Mapping[str, Threshold]] = foreground.MVTEC_AD
    archive: ClassVar[Archive] = Archive(
        "mvtec_anomaly_detection.tar.xz", "the page 'MVTec AD' among the research datasets of MVTec Software GmbH"
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "bottle": _facts(209, 20, 900, broken_large=20, broken_small=22, contamination=21),
        "cable": _facts(
            *(224, 58, 1024),
            bent_wire=13,
            cable_swap=12,
            combined=11,
            cut_inner_insulation=14,
            cut_outer_insulation=10,
            missing_cable=12,
            missing_wire=10,
            poke_insulation=10,
        ),
        "capsule": _facts(219, 23, 1000, crack=23, faulty_imprint=22, poke=21, scratch=23, squeeze=20),
        "carpet": _facts(280, 28, 1024, color=19, cut=17, hole=17, metal_contamination=17, thread=19),
        "grid": _facts(264, 21, 1024, bent=12, broken=12, glue=11, metal_contamination=11, thread=11),
        "hazelnut": _facts(391, 40, 1024, crack=18, cut=17, hole=18, print=17),
        "leather": _facts(245, 32, 1024, color=19, cut=19, fold=17, glue=19, poke=18),
        "metal_nut": _facts(220, 22, 700, bent=25, color=22, flip=23, scratch=23),
        "pill": _facts(
            *(267, 26, 800),
            color=25,
            combined=17,
            contamination=21,
            crack=26,
            faulty_imprint=19,
            pill_type=9,
            scratch=24,
        ),
        "screw": _facts(
            *(320, 41, 1024), manipulated_front=24, scratch_head=24, scratch_neck=25, thread_side=23, thread_top=23
        ),
        "tile": _facts(230, 33, 840, crack=17, glue_strip=18, gray_stroke=16, oil=18, rough=15),
        "toothbrush": _facts(60, 12, 1024, defective=30),
        "transistor": _facts(213, 60, 1024, bent_lead=10, cut_lead=10, damaged_case=10, misplaced=10),
        "wood": _facts(247, 19, 1024, color=8, combined=11, hole=10, liquid=10, scratch=21),
        "zipper": _facts(
            *(240, 32, 1024),
            broken_teeth=19,
            combined=16,
            fabric_border=17,
            fabric_interior=16,
            rough=17,
            split_teeth=18,
            squeezed_teeth=16,
        ),
    }

    def listed(self, root: Path, folder: Path, category: str) -> list[Entry]:
        return layout.category_entries(root, folder, category, layout.Spelling(self.good_folders))
