"""The layout of MVTec AD: CATEGORY/train/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT/STEM_mask.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adcore.datasets.base import GOOD, Entry

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm")
_SUFFIX = "_mask"


def folders(path: Path) -> list[Path]:
    """The sub-folders, sorted, without hidden ones."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if path.is_dir() else []


def images(path: Path) -> list[Path]:
    """The image files of a folder, sorted, by extension in any case; hidden files and others are passed over."""
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))


def category_entries(root: Path, folder: Path, category: str) -> list[Entry]:
    """List one category in `folder` (below `root`, or `root` itself). Masks are paired by exact stem.

    In a category with a folder ground_truth, a defective image without its mask is an error, and a mask without its
    image as well; a category without that folder has image labels only.
    """
    truth = folder / "ground_truth"
    unused = {mask for defect in folders(truth) for mask in images(defect)}
    entries: list[Entry] = []
    for image, split in _images_of(folder):
        defect = image.parent.name
        masks = _masks_of(truth / defect, image.stem, unused) if split == "test" else []
        unused -= set(masks[:1])
        missing = split == "test" and defect != GOOD and truth.is_dir() and not masks
        error = f"no mask: ground_truth/{defect}/{image.stem}{_SUFFIX}.png does not exist" if missing else ""
        mask = _relative(masks[0], root) if masks else ""
        entries.append(Entry(_relative(image, root), category, split, defect, mask, error=error))
    entries += [_orphan(mask, folder, root, category) for mask in unused]
    if not entries:
        error = "empty category: no images in train/good or test"
        entries = [Entry(_relative(folder, root), category, "", GOOD, error=error)]
    return sorted(entries, key=lambda entry: entry.path)


def _images_of(folder: Path) -> Iterator[tuple[Path, str]]:
    for split in ("train", "test"):
        for defect in folders(folder / split):
            for image in images(defect):
                yield image, split


def _masks_of(folder: Path, stem: str, among: set[Path]) -> list[Path]:
    return sorted(mask for mask in among if mask.parent == folder and mask.stem == stem + _SUFFIX)


def _orphan(mask: Path, folder: Path, root: Path, category: str) -> Entry:
    defect, stem = mask.parent.name, mask.stem.removesuffix(_SUFFIX)
    if stem == mask.stem:
        error = f"mask without image: expected a name like {stem}{_SUFFIX}"
    elif any(image.stem == stem for image in images(folder / "test" / defect)):
        error = f"second mask: another one also belongs to test/{defect}/{stem}"
    else:
        error = f"mask without image: expected test/{defect}/{stem}"
    return Entry(_relative(mask, root), category, "", defect, error=error)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
