"""mvtec_ad_2: MVTec AD 2, eight objects under several lights; most of its test images have no public truth.

Heckler-Kram et al., "The MVTec AD 2 Dataset: Advanced Scenarios for Unsupervised Anomaly Detection", arXiv 2503.21622.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from adcore.core.names import paired, written
from adcore.datasets import _published
from adcore.datasets._folders import folders, images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, VALIDATION, Archive, DataError, Entry, Facts

PUBLIC, TRUTH = "test_public", "ground_truth"
PRIVATE = ("test_private", "test_private_mixed")
PLACES = {"train": "train", VALIDATION: VALIDATION, PUBLIC: "test"}  # folder -> split


class MvtecAd2(_published.Published):
    """OBJECT/{train,validation}/good, OBJECT/test_public/{good,bad} and OBJECT/test_public/ground_truth/bad.

    The images of OBJECT/test_private and OBJECT/test_private_mixed lie in these folders themselves. What they show is
    known to the owners' server alone, so that they are in no manifest: `private` lists them, to be predicted. Images of
    one number in a folder are one scene under several lights, and a group.
    """

    kind: ClassVar[str] = "mvtec_ad_2"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    consent: ClassVar[bool] = True
    show_images: ClassVar[bool] = False
    textures: ClassVar[tuple[str, ...]] = ("fabric",)
    archive: ClassVar[Archive] = Archive(
        "mvtec_ad_2.tar.gz",
        "the page 'MVTec AD 2' among the research datasets of MVTec Software GmbH, which asks to fill in a form",
    )
    facts: ClassVar[Mapping[str, Facts]] = {  # the paper's counts could not be confirmed
        name: Facts()
        for name in ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
    }

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        truth = folder / PUBLIC / TRUTH
        shots = {i: split for place, split in PLACES.items() for d in _kinds(folder / place) for i in images(d)}
        masks = {mask: f"{kind.name}/{mask.stem}" for kind in folders(truth) for mask in images(kind)}
        judged = {i: f"{i.parent.name}/{i.stem}_mask" for i, split in shots.items() if split == "test"}
        pairs = paired(judged, masks)
        for image, split in shots.items():
            defect, mask = written(image.parent.name), next(iter(pairs.get(image, [])), None)
            missing = split == "test" and defect != GOOD and mask is None
            error = f"no mask: {PUBLIC}/{TRUTH}/{written(judged[image])}.png does not exist" if missing else ""
            known = relative(mask, root) if mask else ""
            scene = f"{relative(image.parent, folder)}/{written(image.stem.partition('_')[0])}"
            yield Entry(relative(image, root), category, split, defect, known, error=error, group=scene)
        for mask in masks.keys() - {mask for pair in pairs.values() for mask in pair}:
            defect, stem = written(mask.parent.name), written(mask.stem.removesuffix("_mask"))
            error = f"mask without image: expected {PUBLIC}/{defect}/{stem}"
            yield Entry(relative(mask, root), category, "", defect, error=error)
        yield from passed_over(root, category, [*(folder / place for place in PLACES), truth], {*shots, *masks, truth})

    def private(self) -> dict[str, str]:
        """The images without public truth, as a manifest would have their paths, each with its object; sorted.

        Raises DataError where an object has none."""
        root, found = self.root.resolve(), dict[str, str]()
        for category, folder in self.categories_in(root).items():
            if self.spec.categories is not None and category not in self.spec.categories:
                continue
            for name in PRIVATE:
                files = images(folder / name)
                if not files:
                    mend = "they come with the archive; take a whole copy, or list other objects in `categories`"
                    raise DataError(f"dataset {self.name}: {folder / name} holds no images; {mend}")
                found |= {relative(file, root): category for file in files}
        return dict(sorted(found.items()))


def _kinds(place: Path) -> list[Path]:
    """The folders of images of one place, by what they show."""
    return [folder for folder in folders(place) if folder.name != TRUTH]
