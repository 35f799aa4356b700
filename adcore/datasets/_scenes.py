"""What the generated set shows: photographed textures, stamped leather, and two drawn objects."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adcore.datasets import _defects
from adcore.datasets._drawing import (
    SIZE,
    Array,
    around,
    between,
    clouds,
    direction,
    disc,
    filled,
    grain,
    line,
    paint,
    soft,
    turned,
)
from adcore.datasets.base import DataError

# malformed shapes, each at strength 0 and at strength 1
RING_GAP = (8.0, 45.0)  # degrees missing of the ring stamped in leather
STAR_BEND = (3.0, 13.0)  # pixels by which one point of the star is too short
NUT_CHIP = (6.0, 16.0)  # pixels broken off a corner
NUT_SHIFT = (1.5, 6.0)  # pixels by which the bore is off its centre
PILL_DENT = (4.0, 12.0)  # radius in pixels of the bite out of the rim
PILL_IMPRINT = (2.0, 9.0)  # pixels missing of a bar of the imprint

TRAIN_COLUMNS, TEST_COLUMNS = (0, 344), (352, 512)  # of the photographs: train and test share no pixel


@dataclass(frozen=True)
class Scene:
    """`draw(rng, split, fault, strength)` -> (SIZE, SIZE, 3); a defect without a surface function is a drawn fault.

    Surface defects lie between `reach` pixels from the middle of the image.
    """

    draw: Callable[[np.random.Generator, str, str, float], Array]
    reach: tuple[int, int]
    defects: dict[str, _defects.Surface | None]

    def place(self, rng: np.random.Generator) -> Array:
        return SIZE / 2 + int(rng.integers(self.reach[0], self.reach[1] + 1)) * direction(int(rng.integers(360)))


@functools.cache
def _photograph(name: str) -> Array:
    """A CC0 photograph of the scikit-image wheel, (512, 512) grey."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("dataset generated: its textures come with scikit-image; run `pip install scikit-image`")
    with Image.open(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.png") as image:
        return np.asarray(image.convert("L"), dtype=np.float64)


def _texture(name: str, tint: tuple[float, float, float], rng: np.random.Generator, split: str) -> Array:
    """A crop of a photograph, tinted, under varying light."""
    left, right = TRAIN_COLUMNS if split == "train" else TEST_COLUMNS
    x, y = int(rng.integers(left, right - SIZE + 1)), int(rng.integers(0, 512 - SIZE + 1))
    crop = _photograph(name)[y : y + SIZE, x : x + SIZE]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    light = between(0.92, 1.08, rng.random())
    image: Array = crop[..., None] * np.array(tint) * light + grain(rng, 2)
    return image


def brick(rng: np.random.Generator, split: str, fault: str, strength: float) -> Array:
    return _texture("brick", (1.25, 0.95, 0.85), rng, split)


def gravel(rng: np.random.Generator, split: str, fault: str, strength: float) -> Array:
    return _texture("gravel", (0.96, 1.0, 1.05), rng, split)


def leather(rng: np.random.Generator, split: str, fault: str, strength: float) -> Array:
    """Pebbled leather with a ring and a star stamped into it."""
    pebbles = _pebbles(rng, 6)
    shade = between(0.92, 1.06, rng.random()) * (0.72 + 0.28 * pebbles + 0.12 * clouds(rng, 32))
    image = shade[..., None] * np.array([146.0, 92.0, 58.0]) + grain(rng, 2)
    centre = SIZE / 2 + rng.integers(-5, 6, 2).astype(np.float64)
    angle, corner = int(rng.integers(-8, 9)), int(rng.integers(5))
    bent = between(*STAR_BEND, strength) if fault == "bent_star" else 0.0
    gap = between(*RING_GAP, strength) if fault == "broken_ring" else 0.0
    stamp = np.maximum(_star(centre, angle, corner, bent), _ring(centre, angle + 72 * corner + 36, gap))
    edge = stamp - np.roll(stamp, (1, 1), axis=(0, 1))  # light from the lower right
    stamped: Array = image * (1 - 0.34 * stamp[..., None]) - 26 * edge[..., None]
    return stamped


def _pebbles(rng: np.random.Generator, cell: int) -> Array:
    """Cellular noise: 0 in the creases, 1 on the pebbles (Worley, SIGGRAPH 1996: second less first distance)."""
    count = SIZE // cell + 4
    y, x = np.indices((SIZE, SIZE))
    offsets = rng.integers(0, cell * 8, (2, count, count)) / 8
    first = second = np.full((SIZE, SIZE), 1e9)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            row, column = y // cell + 1 + down, x // cell + 1 + across
            dy = (row - 1) * cell + offsets[0, row, column] - y
            dx = (column - 1) * cell + offsets[1, row, column] - x
            distance = np.sqrt(dy * dy + dx * dx)
            first, second = np.minimum(first, distance), np.minimum(second, np.maximum(first, distance))
    share: Array = np.minimum((second - first) / (0.4 * cell), 1.0)
    return share


def _star(centre: Array, angle: int, corner: int, bent: float) -> Array:
    radii = [22.0, 9.0] * 5
    radii[2 * corner] -= bent
    return filled(around(centre, radii, angle))


def _ring(centre: Array, start: int, gap: float) -> Array:
    whole = np.maximum(disc(centre, 33) - disc(centre, 29), 0)
    half = int(np.rint(gap / 2))
    wedge = np.array([centre, centre + 45 * direction(start - half), centre + 45 * direction(start + half)])
    return np.maximum(whole - filled(wedge), 0) if gap else whole


def nut(rng: np.random.Generator, split: str, fault: str, strength: float) -> Array:
    """A hexagonal nut from above, at any angle."""
    centre = SIZE / 2 + rng.integers(-6, 7, 2).astype(np.float64)
    angle, corner, radius = int(rng.integers(60)), int(rng.integers(6)), between(45.0, 48.0, rng.random())
    light = between(0.9, 1.1, rng.random())
    image = 44 + 14 * clouds(rng, 16)[..., None] * np.array([1.0, 1.02, 1.06])
    brushed = 132 + 30 * np.roll(clouds(rng, 4), 3, axis=0)[..., None] * np.array([1.0, 1.0, 1.03])
    image = paint(image, _hexagon(centre, radius, angle, corner, fault, strength), 0.86 * brushed)
    image = paint(image, _hexagon(centre, radius, angle, corner, fault, strength) * disc(centre, 40), brushed)
    shift = between(*NUT_SHIFT, strength) if fault == "off_centre" else 0.0
    bore = centre + shift * direction(60 * corner + angle)
    image = paint(image, disc(bore, 25), (96, 96, 99))
    image = paint(image, np.maximum(disc(bore, 23) - disc(bore, 22), 0), (150, 150, 152))
    return paint(image, disc(bore, 20), (38, 39, 41)) * light + grain(rng, 2)


def _hexagon(centre: Array, radius: float, angle: int, corner: int, fault: str, strength: float) -> Array:
    cover = filled(around(centre, [radius] * 6, angle))
    if fault != "chip":
        return cover
    tip = centre + (radius + 2) * direction(angle + 60 * corner)
    size = between(*NUT_CHIP, strength)
    return np.maximum(cover - filled(around(tip, [size, 0.7 * size] * 5, angle)), 0)


def pill(rng: np.random.Generator, split: str, fault: str, strength: float) -> Array:
    """A capsule of two colours with an imprint."""
    centre = SIZE / 2 + rng.integers(-5, 6, 2).astype(np.float64)
    angle, side, light = int(rng.integers(-12, 13)), int(rng.integers(2)), between(0.93, 1.05, rng.random())
    where = int(rng.integers(-30, 31))
    image = 196 + 12 * clouds(rng, 8)[..., None] * np.array([0.98, 1.0, 1.0])
    body = _capsule(centre, angle, 22.0)
    if fault == "dent":
        bite = turned(np.array([[where, 24.0 * (2 * side - 1)]]), angle, centre)[0]
        body = np.maximum(body - disc(bite, between(*PILL_DENT, strength)), 0)
    shadow = np.roll(soft(body, 3), (4, 3), axis=(0, 1))
    image = paint(image, 0.35 * shadow, (70, 72, 80))
    half = filled(turned(np.array([[0.0, -30], [60, -30], [60, 30], [0, 30]]), angle, centre))
    image = paint(image, body, (218, 206, 170))
    image = paint(image, body * half, (168, 58, 48) + 22 * clouds(rng, 4)[..., None])
    image = paint(image, 0.75 * _imprint(centre, angle, fault, strength), (92, 84, 74))
    shine = soft(_capsule(centre + 9 * direction(angle - 90), angle, 5.0), 2)
    return paint(image, 0.35 * shine, (255, 255, 255)) * light + grain(rng, 2)


def _capsule(centre: Array, angle: int, radius: float) -> Array:
    ends = turned(np.array([[-26.0, 0], [26, 0]]), angle, centre)
    sides = turned(np.array([[-26.0, -radius], [26, -radius], [26, radius], [-26, radius]]), angle, centre)
    return np.maximum(filled(sides), np.maximum(disc(ends[0], radius), disc(ends[1], radius)))


def _imprint(centre: Array, angle: int, fault: str, strength: float) -> Array:
    """An H on the pale half; the fault shortens one of its uprights."""
    missing = between(*PILL_IMPRINT, strength) if fault == "imprint" else 0.0
    bars = [[[-34.0, -8], [-34, 8]], [[-22, -8], [-22, 8 - missing]], [[-34, 0], [-22, 0]]]
    covers = [line(turned(np.array(bar), angle, centre), 3) for bar in bars]
    return np.maximum(np.maximum(covers[0], covers[1]), covers[2])


SCENES = {
    "brick": Scene(
        brick,
        (0, 40),
        {
            "blur": _defects.blur,
            "rotated": _defects.rotated,
            "scratch": _defects.scratch,
            "stain": _defects.stain,
        },
    ),
    "gravel": Scene(
        gravel,
        (0, 40),
        {
            "blur": _defects.blur,
            "foreign": _defects.foreign,
            "scratch": _defects.scratch,
            "stain": _defects.stain,
        },
    ),
    "leather": Scene(
        leather,
        (0, 40),
        {"bent_star": None, "broken_ring": None, "scratch": _defects.scratch, "stain": _defects.stain},
    ),
    "nut": Scene(nut, (28, 36), {"chip": None, "off_centre": None, "rust": _defects.rust, "scratch": _defects.scratch}),
    "pill": Scene(pill, (0, 18), {"dent": None, "imprint": None, "scratch": _defects.scratch, "stain": _defects.stain}),
}
