"""autovi: AutoVI, six inspections on the assembly lines of a car factory, with masks a region.

Carvalho et al., "Detecting Visual Anomalies in an Industrial Environment: Unsupervised Methods Put to the Test on the
AutoVI Dataset", Computers in Industry, 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.datasets import _published, _regions
from adcore.datasets.base import Archive, Entry, Facts

SMALL, LARGE = (400, 400), (1000, 750)


class Autovi(_published.Published):
    """CATEGORY/{train,test}/DEFECT/STEM.png, and CATEGORY/ground_truth/DEFECT/STEM/ with a mask a region.

    The grey value of a region is explained in CATEGORY/defects_config.json, as in MVTec LOCO AD. The paper's table and
    counts of copies disagree on pipe_clip and pipe_staple, so that what they disagree on is not checked.
    """

    kind: ClassVar[str] = "autovi"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    archive: ClassVar[Archive] = Archive(
        "AutoVI",
        "Zenodo, record 10459003: unpack its six zip files, one a category, into one folder and give that with --from",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "engine_wiring": Facts(285, 285, 322, size=SMALL),
        "pipe_clip": Facts(195, size=SMALL),
        "pipe_staple": Facts(size=SMALL),
        "tank_screw": Facts(318, 318, 95, size=LARGE),
        "underbody_pipes": Facts(161, 161, 184, size=LARGE),
        "underbody_screw": Facts(373, 374, 18, size=LARGE),
    }

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        return _regions.category_entries(root, folder, category, {})
