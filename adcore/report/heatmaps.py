"""Galleries coloured at report time, on one scale a run.

The clear end of the scale is the median pixel of normal images and the full end their 99.9 % quantile, medians over
the run's cells: full colour means beyond 999 of 1,000 normal pixels, wherever it stands in a run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adcore.vision.gallery import LIMITS, Entry, Scale


def shared_scale(folders: Iterable[Path]) -> Scale:
    """One colour scale for the galleries of a run: the medians of its cells' normal scales."""
    scales = [_index(folder)[:2] for folder in folders]
    low, high = np.median(np.array(scales), axis=0)
    return float(low), float(high)


def hardest(folders: dict[str, Path], kind: str, limit: int) -> list[tuple[str, Path, Entry]]:
    """(category, folder, entry) of a kind over a run's categories, taking turns: the scores of two categories are
    on different scales, so each gives its hardest first."""
    queues = [[(name, folder, e) for e in _index(folder)[2] if e.kind == kind] for name, folder in folders.items()]
    turns = [item for turn in zip_longest(*queues) for item in turn if item is not None]
    return turns[:limit]


def strip(folder: Path, entry: Entry, scale: Scale) -> bytes:
    """JPEG of an entry: the image, its heat map on the given scale, and the mask's outline where there is a mask."""
    with Image.open(folder / f"{entry.number:02d}.jpg") as opened:
        image = np.asarray(opened.convert("RGB"))
    panels = [image, overlay(image, np.load(folder / "maps.npy", mmap_mode="r")[entry.number], scale)]
    if entry.has_mask:
        with Image.open(folder / f"{entry.number:02d}_mask.png") as opened:
            panels.append(outlined(image, np.asarray(opened) > 127))
    gap = np.full((image.shape[0], 2, 3), 255, np.uint8)
    row = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    return _jpeg(Image.fromarray(row))


def sheet(folders: dict[str, Path], each: int = 6) -> Image.Image:
    """The hardest images of a run's categories (name -> gallery folder) on one page and one scale: a row a kind."""
    scale = shared_scale(folders.values())
    rows = []
    for kind in LIMITS:
        found = [Image.open(io.BytesIO(strip(folder, e, scale))) for _, folder, e in hardest(folders, kind, each)]
        rows.append((f"{kind}s, colours from {scale[0]:.3g} (clear) to {scale[1]:.3g} (full)", found))
    width = max((sum(p.width + 6 for p in found) for _, found in rows), default=0)
    heights = [20 + max((p.height for p in found), default=0) for _, found in rows]
    page = Image.new("RGB", (max(width, 420), sum(heights)), "white")
    top = 0
    for (title, found), height in zip(rows, heights, strict=True):
        ImageDraw.Draw(page).text((4, top + 4), title, fill="black")
        left = 0
        for picture in found:
            page.paste(picture, (left, top + 20))
            left += picture.width + 6
        top += height
    return page


def overlay(image: NDArray[np.uint8], heat: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """Heat map (any size) over an (H, W, 3) uint8 image: clear at the scale's low end, most opaque at its high end."""
    import matplotlib

    low, high = scale
    level = (np.asarray(heat, dtype=np.float32) - low) / max(high - low, 1e-12)
    size = (image.shape[1], image.shape[0])
    level = np.asarray(Image.fromarray(level).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    colour = matplotlib.colormaps["turbo"](level)[..., :3] * 255
    alpha = 0.65 * level[..., None] ** 0.5
    mixed: NDArray[np.uint8] = (image * (1 - alpha) + colour * alpha).round().astype(np.uint8)
    return mixed


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image with the inner border of a mask in magenta."""
    inside = np.pad(mask, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    out = image.copy()
    out[mask & ~core] = (255, 0, 200)
    return out


def _index(folder: Path) -> tuple[float, float, list[Entry]]:
    content = json.loads((folder / "index.json").read_text())
    return content["low"], content["high"], [Entry(**entry) for entry in content["entries"]]


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
