"""vad: the Valeo Anomaly Dataset, one part from a production line, with image labels only.

Baitieva et al., "Supervised Anomaly Detection for Complex Industrial Images", CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.core.names import written
from adcore.datasets import _published
from adcore.datasets._folders import folders, images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, Archive, Entry, Facts

NAME = "vad"


class Vad(_published.Published):
    """train/{good,bad} and test/{good,bad,bad_unseen_defects}. The defective training images are not used."""

    kind: ClassVar[str] = NAME
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    note: ClassVar[str] = "image labels only"
    archive: ClassVar[Archive] = Archive("vad.zip", "the link in the README of the public repository abc-125/vad")
    facts: ClassVar[Mapping[str, Facts]] = {NAME: Facts(2000, 1000, 1000)}

    def categories_in(self, root: Path) -> dict[str, Path]:
        parts = ("train/good", "test/bad")
        here = [place for place in (root, root / NAME) if all((place / part).is_dir() for part in parts)]
        return {NAME: here[0]} if here else {}

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        known = {folder / "train/bad"}
        shots = [("train", image) for image in images(folder / "train" / GOOD)]
        shots += [("test", image) for kind in folders(folder / "test") for image in images(kind)]
        for split, image in shots:
            yield Entry(relative(image, root), category, split, written(image.parent.name))
        read = {*known, *(image for _, image in shots)}
        yield from passed_over(root, category, [folder / "train", folder / "test"], read)
