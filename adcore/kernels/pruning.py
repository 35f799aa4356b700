"""Exact distances to the nearest of ever more centres; tiles of bounds leave few pairs to measure."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Levels = tuple[Floats, Floats, Floats]

ROUNDING = 2.0**-24  # relative error of one float32 operation
COARSE, FINE = 32, 64  # columns of the sketches
WHOLE = 2  # the third level: the points themselves
LANES = 16  # columns of one step of a product: as many as registers keep
TILE = 64  # points, and centres, of a product: what the first cache keeps
FEW = 16  # where more than one pair in so many is left, products of more columns cost less than measuring
PIECE = 4096  # points of a thread's turn
HUGE = 1e37  # squares from here on may overflow in float32: such pairs are measured
TINY = 1e-40  # more than what a sum of squares loses to underflow

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Sums may be reordered, so that they use vector instructions; NaN and infinity keep their meaning."""
    return cast(F, numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function))


class Prepared(NamedTuple):
    """The points (N, d) and their sketches."""

    rows: Levels  # coarse (N, COARSE) and fine (N, FINE) sketch, points
    mean: Floats  # (d,), of the points
    squares: Doubles  # (3, N): squared lengths of the rows; of points: without the mean
    blurs: Doubles  # (3,): how far rounding can move the distance of two rows


class Centres(NamedTuple):
    """Points that become centres, as `Prepared` has them and as products read them."""

    rows: Levels
    packed: tuple[Floats, Floats, Floats]  # each (tiles, steps, LANES, TILE)
    squares: Floats  # (3, tiles * TILE)
    reach: Doubles  # (3,): greatest length


class Distances:
    """Squared distances of points (N, d), finite float32, to their nearest centre, as centres are added.

    They are the minima of `squared`, bit for bit, as if every point were measured with every centre. A pair is left
    out where a lower bound of its distance is not below the nearest one known. The bounds are distances of sketches:
    the first principal directions and, as last column, the length of what is in the others (lengths differ by no more
    than what they are of). Products give them for tiles of points and centres at once: of the coarse sketch, where
    that leaves many pairs of the fine one, then of the points. `work` counts the pairs in the products of each level
    and, last, those that were measured.
    """

    def __init__(self, points: Floats, pool: Executor) -> None:
        self._pool = pool
        self.work = np.zeros(4, np.int64)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite bounds nothing
            self._prepared = _prepared(points)

    def to(self, centre: int) -> Floats:
        """Squared distances (N,) to one point."""
        found = np.empty(len(self._prepared.squares[0]), np.float32)
        _measure(self._prepared.rows[WHOLE], centre, found)
        return found

    def lower(self, nearest: Floats, new: Integers) -> None:
        """Lower `nearest` (N,), in place, to the squared distances to the points `new` where those are smaller."""
        with np.errstate(over="ignore", invalid="ignore"):
            centres = _centres(self._prepared, new)

        def piece(begin: int) -> Integers:
            return _lower(self._prepared, centres, nearest, begin, min(begin + PIECE, len(nearest)))

        for work in self._pool.map(piece, range(0, len(nearest), PIECE)):
            self.work += work


def _prepared(points: Floats) -> Prepared:
    """Principal directions are those of a sample: any directions bound, these best."""
    count, dims = points.shape
    sample = points[:: max(1, count // PIECE)].astype(np.float64)
    mean = sample.mean(0).astype(np.float32)
    directions = np.linalg.eigh((sample - mean).T @ (sample - mean))[1][:, :-FINE:-1]
    coarse, fine = np.zeros((count, COARSE), np.float32), np.zeros((count, FINE), np.float32)
    squares = np.empty((3, count))
    for begin in range(0, count, PIECE):
        part = slice(begin, begin + PIECE)
        centred = (points[part] - mean).astype(np.float64)
        squares[WHOLE, part] = _squares(centred)
        projected = centred @ directions
        for level, sketch in enumerate((coarse, fine)):
            kept = projected[:, : sketch.shape[1] - 1]
            sketch[part, : kept.shape[1]] = kept
            sketch[part, -1] = np.sqrt(np.maximum(squares[WHOLE, part] - _squares(kept), 0))
            squares[level, part] = _squares(sketch[part].astype(np.float64))
    # Of a sketch's columns the last is the least exact: the root of a difference of float64 sums.
    root = np.sqrt(64 * dims * 2.0**-53)
    blurs = 2 * np.sqrt(squares[WHOLE].max()) * (2 * ROUNDING + np.array([root, root, 0]))
    return Prepared((coarse, fine, points), mean, squares, blurs)


def _squares(rows: Doubles) -> Doubles:
    squares: Doubles = np.einsum("ij,ij->i", rows, rows)
    return squares


def _centres(prepared: Prepared, new: Integers) -> Centres:
    coarse, fine, whole = (rows[new] for rows in prepared.rows)
    packed = _packed(coarse), _packed(fine), _packed(whole - prepared.mean)
    squares = np.full((3, len(packed[0]) * TILE), np.inf, np.float32)  # what fills the last tile is far away
    squares[:, : len(new)] = prepared.squares[:, new]
    return Centres((coarse, fine, whole), packed, squares, np.sqrt(prepared.squares[:, new].max(1)))


def _packed(rows: Floats) -> Floats:
    """-2 times the rows, and zeros that fill the last tile and step."""
    count, columns = rows.shape
    tiles, steps = -(-count // TILE), -(-columns // LANES)
    filled = np.zeros((tiles * TILE, steps * LANES), np.float32)
    filled[:count, :columns] = -2 * rows
    return np.ascontiguousarray(filled.reshape(tiles, TILE, steps, LANES).transpose(0, 2, 3, 1))


@compiled
def squared(a: Floats, i: int, b: Floats, j: int) -> np.float32:
    """Squared distance of a[i] and b[j]: off by at most (columns + 3) roundings."""
    total = np.float32(0)
    for column in range(a.shape[1]):
        difference = a[i, column] - b[j, column]
        total += difference * difference
    return total


@compiled
def _measure(points: Floats, centre: int, found: Floats) -> None:
    for x in range(len(points)):
        found[x] = squared(points, x, points, centre)


@compiled
def _lower(points: Prepared, centres: Centres, nearest: Floats, begin: int, end: int) -> Integers:
    """`Distances.lower` for the points from `begin` to `end`; the work."""
    work = np.zeros(4, np.int64)
    tile = np.zeros((TILE, max(FINE, centres.packed[WHOLE].shape[1] * LANES)), np.float32)
    products = np.empty((TILE, TILE), np.float32)
    thresholds, below = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for first in range(begin, end, TILE):
        count = min(TILE, end - first)
        level = 0
        _load(points, centres, nearest, first, count, level, tile, thresholds)
        for number in range(len(centres.packed[0])):
            found = _bound(centres, level, number, tile, thresholds, count, products, below)
            work[level] += count * TILE
            while level < WHOLE and found * FEW > count * TILE:
                level += 1  # and stays there for the points of this tile
                _load(points, centres, nearest, first, count, level, tile, thresholds)
                found = _bound(centres, level, number, tile, thresholds, count, products, below)
                work[level] += count * TILE
            if found > 0:
                for r in range(count):
                    if below[r] > 0 and nearest[first + r] > 0:
                        work[3] += _settle(points, centres, nearest, first + r, number, products[r], thresholds[r])
                        thresholds[r] = _threshold(points, centres, nearest[first + r], first + r, level)
    return work


@compiled
def _load(
    points: Prepared,
    centres: Centres,
    nearest: Floats,
    first: int,
    count: int,
    level: int,
    tile: Floats,
    thresholds: Floats,
) -> None:
    """Copy `count` rows of the level from `first` on, and say what their products must reach."""
    rows = points.rows[level]
    for r in range(count):
        for column in range(rows.shape[1]):
            tile[r, column] = rows[first + r, column] - (points.mean[column] if level == WHOLE else np.float32(0))
        tile[r, rows.shape[1] :] = 0
        thresholds[r] = _threshold(points, centres, nearest[first + r], first + r, level)


@compiled
def _limit(near: np.float32, blur: float, dims: int) -> float:
    """A squared distance of two rows from which on `squared` of their points is not below `near`.

    NaN, which nothing reaches, where squares may overflow.
    """
    roundings = 8 * (dims + FINE) * ROUNDING
    limit = (np.sqrt(near * (1 + roundings)) + blur) ** 2 * (1 + roundings) + TINY
    return limit if limit < HUGE else np.nan


@compiled
def _threshold(points: Prepared, centres: Centres, near: np.float32, x: int, level: int) -> np.float32:
    """What |c|^2 - 2 x c, as it is computed, must reach so that |x - c|^2 reaches `_limit`, whatever the rounding."""
    dims = points.rows[WHOLE].shape[1]
    square = points.squares[level, x]
    whole = (np.sqrt(square) + centres.reach[level]) ** 2
    if not whole < HUGE:
        return np.float32(np.nan)
    error = 2 * (max(dims, FINE) + 2 * LANES) * ROUNDING * whole
    return np.float32(_limit(near, points.blurs[level], dims) - square + error)


@compiled
def _bound(
    centres: Centres,
    level: int,
    number: int,
    tile: Floats,
    thresholds: Floats,
    count: int,
    products: Floats,
    below: Floats,
) -> np.float32:
    """Write `_multiply`'s products and how many of each row are below its threshold; their sum."""
    squares = centres.squares[level, number * TILE : (number + 1) * TILE]
    _multiply(tile, centres.packed[level][number], squares, count, products)
    total = np.float32(0)
    for r in range(count):
        threshold = thresholds[r]
        found = np.float32(0)  # a float, since a sum of integers would be one of int64
        for j in range(TILE):
            found += np.float32(0) if products[r, j] >= threshold else np.float32(1)
        below[r] = found
        total += found
    return total


@compiled
def _multiply(tile: Floats, packed: Floats, squares: Floats, count: int, products: Floats) -> None:
    """products[r, j] = |c_j|^2 - 2 x_r c_j of the first `count` rows and a tile of centres."""
    for r in range(count):
        for j in range(TILE):
            products[r, j] = squares[j]
    for step in range(len(packed)):
        for r in range(count):
            for j in range(TILE):
                total = products[r, j]
                for i in range(LANES):  # unrolled: a row's values stay in registers while j runs in vectors
                    total += tile[r, step * LANES + i] * packed[step, i, j]
                products[r, j] = total


@compiled
def _settle(
    points: Prepared, centres: Centres, nearest: Floats, x: int, number: int, products: Floats, threshold: np.float32
) -> int:
    """Measure point `x` with those of a tile's centres whose products are below the threshold; how many it was."""
    fine, whole = points.rows[1], points.rows[WHOLE]
    dims, blur = whole.shape[1], points.blurs[1]
    limit = _limit(nearest[x], blur, dims)
    measured = 0
    for c in range(number * TILE, min((number + 1) * TILE, len(centres.rows[WHOLE]))):
        # Differences tell near rows far from the mean apart, which products, rounded by their lengths, cannot.
        if products[c - number * TILE] >= threshold or squared(fine, x, centres.rows[1], c) >= limit:
            continue
        measured += 1
        distance = squared(whole, x, centres.rows[WHOLE], c)
        if distance < nearest[x]:
            nearest[x] = distance
            limit = _limit(distance, blur, dims)
    return measured
