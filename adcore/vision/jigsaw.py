"""Jigsaw puzzles: sets of permutations, and images whose tiles are permuted (Noroozi 2016, JiGen: Carlucci 2019)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from adcore.core.arrays import UInt8Array
from adcore.core.draws import generator
from adcore.vision.foreground import grey
from adcore.vision.pictures import from_picture, to_picture

IntArray = npt.NDArray[np.int64]

SMALLEST_CROP = 0.9  # share of a tile's side that the jitter keeps at least
GREY_SHARE = 0.1  # of the tiles
_ALL = 9  # tiles whose permutations are all candidates for `max_hamming`; of more tiles, so many random ones are:
_CANDIDATES = 100_000


def permutations(n: int, count: int, seed: int, kind: Literal["random", "max_hamming"] = "random") -> IntArray:
    """The classes of an n x n puzzle, (count + 1, n * n): row 0 leaves all tiles in place, the others are distinct.

    Row r puts tile `row[k]` at position k. `random`: drawn uniformly. `max_hamming`: each next one differs, on average
    over those before it, in the most positions (of equals, the one that is farthest from its nearest; then by chance).
    Raises ValueError where there are not so many.
    """
    tiles = n * n
    if not 0 < count < math.factorial(tiles):
        most = math.factorial(tiles) - 1
        raise ValueError(f"jigsaw: {n} x {n} tiles have {most} permutations beside the identity, not {count}")
    rng = generator(seed, "permutations", n, count, kind)
    if kind == "random":
        return _random(tiles, count, rng)
    return _max_hamming(tiles, count, rng)


def _random(tiles: int, count: int, rng: np.random.Generator) -> IntArray:
    chosen = {tuple(range(tiles)): None}  # in the order drawn
    while len(chosen) <= count:
        chosen[tuple(rng.permutation(tiles).tolist())] = None
    return np.array(list(chosen), np.int64)


def _max_hamming(tiles: int, count: int, rng: np.random.Generator) -> IntArray:
    candidates = _candidates(tiles, count, rng)
    rng.shuffle(candidates, axis=0)  # so that argmax takes one of equals by chance
    places = np.ascontiguousarray(candidates.T)  # sums over whole rows are vectorised
    last = np.arange(tiles, dtype=np.int8)
    chosen = [last]
    total, nearest = np.zeros(len(candidates), np.int64), np.full(len(candidates), tiles, np.int8)
    for _ in range(count):
        distance = (places != last[:, None]).sum(0, dtype=np.int8)
        total += distance
        np.minimum(nearest, distance, out=nearest)
        best = np.where(nearest > 0, total * (tiles + 1) + nearest, -1).argmax()  # nearest 0: chosen already
        last = candidates[best]
        chosen.append(last)
    return np.array(chosen, np.int64)


def _candidates(tiles: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    if tiles > _ALL:
        rows = np.tile(np.arange(tiles, dtype=np.int8), (_CANDIDATES + count, 1))
        return rng.permuted(rows, axis=1)
    flat = itertools.chain.from_iterable(itertools.permutations(range(tiles)))
    return np.fromiter(flat, np.int8).reshape(-1, tiles)


def jigsaw(image: UInt8Array, classes: IntArray, rng: np.random.Generator) -> tuple[UInt8Array, int]:
    """A puzzle of an image (3, H, W), and its label: the row of `classes` (see `permutations`) that was applied.

    Every row has the same probability. The tiles are jittered, those of row 0 too, or the jitter would tell the class.
    """
    label = int(rng.integers(len(classes)))
    return shuffle_tiles(jitter_tiles(image, math.isqrt(classes.shape[1]), rng), classes[label]), label


def shuffle_tiles(image: UInt8Array, permutation: IntArray) -> UInt8Array:
    """The image (C, H, W) with tile `permutation[k]` at position k, row by row.

    Raises ValueError where H or W is no multiple of the tiles a side.
    """
    n = math.isqrt(len(permutation))
    height, width = _tile_size(image, n)
    channels = image.shape[0]
    tiles = image.reshape(channels, n, height, n, width).transpose(1, 3, 0, 2, 4).reshape(n * n, -1)
    shuffled = tiles[permutation].reshape(n, n, channels, height, width).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(shuffled).reshape(image.shape)


def unshuffle_tiles(image: UInt8Array, permutation: IntArray) -> UInt8Array:
    """Undo `shuffle_tiles` with the same permutation, exactly."""
    return shuffle_tiles(image, np.argsort(permutation))


def jitter_tiles(image: UInt8Array, n: int, rng: np.random.Generator) -> UInt8Array:
    """Each of the n x n tiles of an image (3, H, W) cropped to 0.9..1 of its sides and resized back; one in ten grey.

    So that a puzzle cannot be solved by continuing edges across tiles.
    """
    out = np.empty(image.shape, np.uint8)
    for rows, columns in _windows(image, n):
        tile = image[:, rows, columns]
        if rng.random() < GREY_SHARE:
            tile = np.repeat(grey(tile)[None], 3, axis=0)
        out[:, rows, columns] = _cropped(tile, rng)
    return out


def _cropped(tile: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    _, height, width = tile.shape
    share = rng.uniform(SMALLEST_CROP, 1)
    top, left = (1 - share) * height * rng.random(), (1 - share) * width * rng.random()
    box = (left, top, left + share * width, top + share * height)
    return from_picture(to_picture(tile).resize((width, height), Image.Resampling.BILINEAR, box=box))


def _windows(image: UInt8Array, n: int) -> Iterator[tuple[slice, slice]]:
    height, width = _tile_size(image, n)
    for row, column in itertools.product(range(n), range(n)):
        yield slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)


def _tile_size(image: UInt8Array, n: int) -> tuple[int, int]:
    _, height, width = image.shape
    if height % n or width % n:
        near = f"{height // n * n} x {width // n * n}"
        raise ValueError(
            f"an image of {height} x {width} cannot be cut into {n} x {n} equal tiles; resize it to {near}"
        )
    return height // n, width // n
