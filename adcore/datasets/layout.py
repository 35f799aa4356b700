"""The layout of MVTec AD: CATEGORY/train/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT/STEM_mask.png, and
where a set has it CATEGORY/validation/good."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from adcore.core.names import composed, paired, written
from adcore.datasets._folders import LITTER_FOLDERS, files, files_below, folders, images, relative
from adcore.datasets._unread import is_picture, passed_over, remark
from adcore.datasets.base import GOOD, SPLITS, Entry

PLACES = (*SPLITS, "ground_truth")


@dataclass(frozen=True)
class Spelling:
    """What differs among sets in this layout: the folders of good images, and what a mask's name adds to that of its
    image."""

    good: tuple[str, ...] = (GOOD,)
    suffix: str = "_mask"

    def defect(self, folder: Path) -> str:
        """The defect of the images in a folder, as written; GOOD for none."""
        is_good = composed(folder.name) in map(composed, self.good)
        return GOOD if is_good else written(folder.name)


MVTEC = Spelling()


def category_entries(root: Path, folder: Path, category: str, spelling: Spelling = MVTEC) -> list[Entry]:
    """List one category in `folder` (below `root`, or `root` itself). Masks are paired by stem.

    In a category with a folder ground_truth, a defective image without its mask is an error, and a mask without its
    image as well; a category without that folder has image labels only. Files that are not read are passed over with a
    remark.
    """
    truth = folder / "ground_truth"
    shots = list(_images_of(folder))
    masks = {mask: f"{mask.parent.name}/{mask.stem}" for defect in folders(truth) for mask in images(defect)}
    tested = {image: f"{image.parent.name}/{image.stem}{spelling.suffix}" for image, split in shots if split == "test"}
    pairs = paired(tested, masks)
    owners = {pair[0]: image for image, pair in reversed(pairs.items()) if pair}
    entries: list[Entry] = []
    for image, split in shots:
        defect, mask = spelling.defect(image.parent), next(iter(pairs.get(image, [])), None)
        error = ""
        if mask is not None and owners[mask] != image:
            mine, other = relative(mask, folder), relative(owners[mask], folder)
            mask, error = None, f"no mask: {mine} belongs to {other}; give each image a name of its own"
        elif mask is None and split == "test" and defect != GOOD and truth.is_dir():
            error = f"no mask: ground_truth/{written(tested[image])}.png does not exist"
        path = relative(image, root)
        entries.append(Entry(path, category, split, defect, relative(mask, root) if mask else "", error=error))
    entries += [_orphan(mask, folder, root, category, spelling) for mask in masks if mask not in owners]
    unread = passed_over(root, category, [folder / place for place in PLACES], {*masks, *(i for i, _ in shots)})
    remarks = list(unread)
    if not entries:
        error = f"empty category: no images in train/{spelling.good[0]} or test"
        error += f" ({remarks[0].path}: {remarks[0].error})" if remarks else ""
        entries = [Entry(relative(folder, root), category, "", GOOD, error=error)]
    entries += remarks
    return sorted(entries, key=lambda entry: entry.path)


def _images_of(folder: Path) -> Iterator[tuple[Path, str]]:
    for split in SPLITS:
        for defect in folders(folder / split):
            for image in images(defect):
                yield image, split


def _orphan(mask: Path, folder: Path, root: Path, category: str, spelling: Spelling) -> Entry:
    stem, place = written(mask.stem.removesuffix(spelling.suffix)), written(mask.parent.name)
    if not mask.stem.endswith(spelling.suffix):
        error = f"mask without image: expected a name like {stem}{spelling.suffix}"
    elif any(written(image.stem) == stem for image in images(folder / "test" / mask.parent.name)):
        error = f"second mask: another one also belongs to test/{place}/{stem}"
    else:
        error = f"mask without image: expected test/{place}/{stem}"
    return Entry(relative(mask, root), category, "", spelling.defect(mask.parent), error=error)


def unknown_places(root: Path, category: str, folder: Path, ours: Collection[Path]) -> Iterator[Entry]:
    """A remark for images of a category that lie in none of its splits, nor in folders of ours."""
    loose = [file for file in files(folder) if is_picture(file)]
    yield from remark(root, category, folder, loose, "beside train and test; move them into a folder of these")
    for place in folders(folder):
        if place.name not in PLACES and place not in ours:
            pictures = [file for file in files_below(place) if is_picture(file)]
            yield from remark(root, category, place, pictures, f"in a folder that is none of {', '.join(PLACES)}")


def is_category(folder: Path) -> bool:
    """Whether a folder has train or test in it, and is no litter; False for one that nobody may look into."""
    try:
        return folder.name not in LITTER_FOLDERS and any(below.name in ("train", "test") for below in folders(folder))
    except OSError:
        return False
