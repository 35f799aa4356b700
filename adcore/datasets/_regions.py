"""The layout of MVTec LOCO AD: CATEGORY/SPLIT/DEFECT/STEM.png, and CATEGORY/ground_truth/DEFECT/STEM/ with a mask a
region, whose grey value is explained in CATEGORY/defects_config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from adcore.core.names import paired, written
from adcore.datasets._folders import folders, images, relative
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, SPLITS, Entry
from adcore.vision.masks import CHANNELS, CONFIG, channel_files


def category_entries(root: Path, folder: Path, category: str, subsets: Mapping[str, str]) -> Iterator[Entry]:
    """List one category; `subsets` tells the subset of a folder of defects, where it has one."""
    if not (folder / CONFIG).is_file():
        error = f"no {CONFIG}: {category} cannot be scored without it"
        yield Entry(relative(folder, root), category, "", GOOD, error=error)
    shots = {i: split for split in SPLITS for d in folders(folder / split) for i in images(d)}
    truths = folders(folder / "ground_truth")
    masks = {mask: f"{defect.name}/{mask.name}" for defect in truths for mask in folders(defect)}
    pairs = paired({image: f"{image.parent.name}/{image.stem}" for image in shots}, masks)
    for image, split in shots.items():
        defect = written(image.parent.name)
        yield _entry(root, category, split, image, next(iter(pairs[image]), None), subsets.get(defect, ""))
    for mask in masks.keys() - {mask for pair in pairs.values() for mask in pair}:
        defect = written(mask.parent.name)
        error = f"mask without image: expected test/{defect}/{written(mask.name)}"
        yield Entry(relative(mask, root), category, "", defect, error=error)
    regions = {region for mask in masks for region in channel_files(mask)}
    parents = [*(folder / split for split in SPLITS), *truths]
    yield from passed_over(root, category, parents, {*shots, *regions})


def _entry(root: Path, category: str, split: str, image: Path, mask: Path | None, subset: str) -> Entry:
    path, defect = relative(image, root), written(image.parent.name)
    if mask is not None:
        return Entry(path, category, split, defect, relative(mask, root), subset, mask_rule=CHANNELS)
    missing = split == "test" and defect != GOOD
    error = f"no mask: ground_truth/{defect}/{written(image.stem)} does not exist" if missing else ""
    return Entry(path, category, split, defect, "", subset, error)
