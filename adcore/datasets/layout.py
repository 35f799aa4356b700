"""The layout of MVTec AD: CATEGORY/train/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT/STEM_mask.png."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adcore.datasets.base import GOOD, Entry

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm")


@dataclass(frozen=True)
class Spelling:
    """What differs among sets in this layout: the folder of good images, and what a mask's name adds to its image's."""

    good: str = GOOD
    suffix: str = "_mask"


MVTEC = Spelling()


def folders(path: Path) -> list[Path]:
    """The sub-folders, sorted, without hidden ones."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if path.is_dir() else []


def images(path: Path) -> list[Path]:
    """The image files of a folder, sorted, by extension in any case; hidden files and others are passed over."""
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))


def category_entries(root: Path, folder: Path, category: str, spelling: Spelling = MVTEC) -> list[Entry]:
    """List one category in `folder` (below `root`, or `root` itself). Masks are paired by exact stem.

    In a category with a folder ground_truth, a defective image without its mask is an error, and a mask without its
    image as well; a category without that folder has image labels only.
    """
    truth = folder / "ground_truth"
    unused = {mask for defect in folders(truth) for mask in images(defect)}
    entries: list[Entry] = []
    for image, split in _images_of(folder):
        name, stem = image.parent.name, image.stem + spelling.suffix
        masks = sorted(m for m in unused if m.parent == truth / name and m.stem == stem) if split == "test" else []
        unused -= set(masks[:1])
        missing = split == "test" and name != spelling.good and truth.is_dir() and not masks
        error = f"no mask: ground_truth/{name}/{stem}.png does not exist" if missing else ""
        mask = relative(masks[0], root) if masks else ""
        defect = GOOD if name == spelling.good else name
        entries.append(Entry(relative(image, root), category, split, defect, mask, error=error))
    entries += [_orphan(mask, folder, root, category, spelling.suffix) for mask in unused]
    if not entries:
        error = f"empty category: no images in train/{spelling.good} or test"
        entries = [Entry(relative(folder, root), category, "", GOOD, error=error)]
    return sorted(entries, key=lambda entry: entry.path)


def _images_of(folder: Path) -> Iterator[tuple[Path, str]]:
    for split in ("train", "test"):
        for defect in folders(folder / split):
            for image in images(defect):
                yield image, split


def _orphan(mask: Path, folder: Path, root: Path, category: str, suffix: str) -> Entry:
    defect, stem = mask.parent.name, mask.stem.removesuffix(suffix)
    if not mask.stem.endswith(suffix):
        error = f"mask without image: expected a name like {stem}{suffix}"
    elif any(image.stem == stem for image in images(folder / "test" / defect)):
        error = f"second mask: another one also belongs to test/{defect}/{stem}"
    else:
        error = f"mask without image: expected test/{defect}/{stem}"
    return Entry(relative(mask, root), category, "", defect, error=error)


def relative(path: Path, root: Path) -> str:
    """A path as an entry holds it."""
    return path.relative_to(root).as_posix()
