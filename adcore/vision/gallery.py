"""The gallery artifact of a cell: its hardest images, with uncoloured maps and the cell's normal quantiles.

A heat map stretched image by image makes good parts look red, so nothing is coloured before the scale of a whole run
is known (adcore/report/heatmaps.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128  # pixels of a thumbnail's longer side
GRID = 64  # side of a stored map (float32)
LIMITS = {"hardest normal": 4, "hardest defect": 4, "typical defect": 2}
Scale = tuple[float, float]


@dataclass(frozen=True)
class Entry:
    """One image of a gallery. rank: 0 is the hardest of its kind; outranked: share of images of the other class that
    are on its wrong side (defects that score no higher than this normal image, normals no lower than this defect)."""

    kind: str
    rank: int
    path: str
    score: float
    outranked: float
    has_mask: bool
    number: int


def make_gallery(
    folder: Path,
    images: Sequence[NDArray[np.uint8]],
    maps: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    paths: Sequence[str],
    masks: Sequence[NDArray[np.bool_ | np.integer]] | None = None,
) -> None:
    """Write a cell's gallery into an existing folder: index.json, maps.npy, NN.jpg and NN_mask.png.

    images: (H, W, 3) uint8 network inputs and maps: (H, W) float32 after smoothing; only the chosen images are
    indexed, so a lazy sequence will do. labels: 1 for defective. masks: (H, W), non-zero on defects.
    """
    bad = np.asarray(labels).astype(bool)
    low, high = normal_scale(maps[int(i)] for i in np.flatnonzero(~bad))
    entries: list[Entry] = []
    thumbs: list[NDArray[np.float32]] = []
    for kind, rank, index in chosen(scores, bad):
        number = len(entries)
        mask = masks[index] if masks is not None and bad[index] else None
        _thumbnail(images[index]).save(folder / f"{number:02d}.jpg", quality=85)
        if mask is not None:
            picture = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
            # whatever a pixel holds of the defect marks it, so that small ones are seen
            _shrunk(picture).point([0] + [255] * 255).save(folder / f"{number:02d}_mask.png")
        grid = Image.fromarray(np.asarray(maps[index], dtype=np.float32)).resize((GRID, GRID), Image.Resampling.BOX)
        thumbs.append(np.asarray(grid))
        wrong = _outranked(scores, bad, index)
        entries.append(Entry(kind, rank, paths[index], float(scores[index]), wrong, mask is not None, number))
    np.save(folder / "maps.npy", np.stack(thumbs) if thumbs else np.zeros((0, GRID, GRID), np.float32))
    index_json = {"low": low, "high": high, "entries": [asdict(entry) for entry in entries]}
    (folder / "index.json").write_text(json.dumps(index_json, indent=1))


def normal_scale(maps: Iterable[NDArray[np.float32]]) -> Scale:
    """Median and 99.9 % quantile of the pixels of normal images' maps, every fourth row and column; (0, 1) for none."""
    sampled = [np.asarray(m)[::4, ::4].ravel() for m in maps]  # copies: no map stays
    if not sampled:
        return 0.0, 1.0
    low, high = np.quantile(np.concatenate(sampled), [0.5, 0.999])
    return float(low), float(high)


def chosen(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> list[tuple[str, int, int]]:
    """(kind, rank, image index): normals with the highest scores, defects with the lowest, some from the middle."""
    normal, defect = np.flatnonzero(~labels), np.flatnonzero(labels)
    hard_normal = normal[np.argsort(-scores[normal], kind="stable")]
    hard_defect = defect[np.argsort(scores[defect], kind="stable")]
    rest = hard_defect[LIMITS["hardest defect"] :]
    orders = {"hardest normal": hard_normal, "hardest defect": hard_defect, "typical defect": rest[len(rest) // 2 :]}
    return [(kind, rank, int(i)) for kind, order in orders.items() for rank, i in enumerate(order[: LIMITS[kind]])]


def _outranked(scores: NDArray[np.floating], labels: NDArray[np.bool_], index: int) -> float:
    others = scores[labels != labels[index]]
    if others.size == 0:
        return 0.0
    wrong = others >= scores[index] if labels[index] else others <= scores[index]
    return float(wrong.mean())


def _thumbnail(image: NDArray[np.uint8]) -> Image.Image:
    return _shrunk(Image.fromarray(np.ascontiguousarray(image)))


def _shrunk(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return image
