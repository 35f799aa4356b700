"""Exact greedy k-centre (Gonzalez 1985), pruned with the triangle inequality (Elkan 2003)."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Owners = npt.NDArray[np.int32]
Rows = tuple[Floats, Floats, Floats, Floats]
Bounds = tuple[np.float32, np.float32, np.float32]

SKETCH = 16  # principal directions; a distance in them bounds the whole distance from below
ROUNDING = 2.0**-24  # relative error of one float32 operation
REPORTS = 100  # calls of the progress callback


def greedy_k_centre(
    points: Floats, k: int, start: int, progress: Callable[[float], None] | None = None
) -> tuple[Integers, float]:
    """Indices (k,) of centres, in the order picked, and the covering radius, for `points` (N, d), float32.

    Picks `start`, then again and again the point farthest (Euclidean) from all centres, the lowest index on a tie:
    the picks of the plain algorithm, at most twice the optimal radius. Fewer than `k` indices come back when there
    are fewer distinct points; the radius is then 0. Raises ValueError when `k` or `start` does not fit N, and when a
    point is not finite.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if not 1 <= k <= len(points) or not 0 <= start < len(points):
        raise ValueError(f"greedy_k_centre: cannot pick k={k} centres from start={start} among {len(points)} points")
    if not np.isfinite([points.min(), points.max()]).all():
        raise ValueError("greedy_k_centre: some point holds NaN or infinity; mend the features it was made of")
    search = _Search(points, k, start)
    step = max(1, k // REPORTS)
    while search.count < k and search.squared_radius > 0:
        search.advance(min(k, search.count + step))
        if progress is not None:
            progress(search.count / k)
    return search.picks[: search.count], float(np.sqrt(search.squared_radius))


class _Search:
    """The state of a search: each point remembers its nearest centre."""

    def __init__(self, points: Floats, k: int, start: int) -> None:
        count, dims = points.shape
        sketch, blur = _sketch(points)
        # Centres are copied, so that the scan over them reads memory in order.
        self.rows: Rows = points, np.empty((k, dims), np.float32), sketch, np.empty((k, sketch.shape[1]), np.float32)
        self.bounds = _bounds(dims, blur)
        self.nearest = np.full(count, np.inf, np.float32)  # squared distance to the nearest centre
        self.owner = np.zeros(count, np.int32)  # number of that centre
        self.picks = np.full(k, start)
        self.count = 0
        self.squared_radius = np.inf
        self.advance(1)

    def advance(self, stop: int) -> None:
        """Pick until there are `stop` centres or every point is covered."""
        reach = np.full(stop, self.squared_radius, np.float32)  # no later list can reach farther
        _measure_reach(self.nearest, self.owner, reach[: self.count])
        self.count, squared_radius = _advance(
            self.rows, self.bounds, self.nearest, self.owner, reach, self.picks, self.count, stop
        )
        self.squared_radius = float(squared_radius)


def _sketch(points: Floats) -> tuple[Floats, float]:
    """The points in their first principal directions (N, SKETCH), and how far rounding can move a distance there."""
    if points.shape[1] <= SKETCH:
        return points[:, :0].copy(), 0.0
    sample = points[:: max(1, len(points) // 4096)].astype(np.float64)
    mean = sample.mean(0)
    directions = np.linalg.eigh((sample - mean).T @ (sample - mean))[1][:, -SKETCH:]
    sketch = np.empty((len(points), SKETCH), np.float32)
    for begin in range(0, len(points), 4096):
        sketch[begin : begin + 4096] = (points[begin : begin + 4096] - mean) @ directions
    longest = np.sqrt(np.einsum("ij,ij->i", sketch, sketch).max())
    return sketch, float(4 * ROUNDING * longest)


def _bounds(dims: int, blur: float) -> Bounds:
    """Factors that make a skip safe although each computed squared distance is off by up to (dims + 3) roundings."""
    slack = 1 + 8 * (dims + 8) * ROUNDING
    # (r + blur)^2 <= 1.001 r^2 + 1001 blur^2
    return np.float32(4 * slack), np.float32(1.001 * slack), np.float32(1001 * blur**2 * slack)


F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F) -> F:
    """Sums may be reordered, so that they use vector instructions; NaN and infinity keep their meaning."""
    return cast(F, numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function))


@_compiled
def _squared(a: Floats, i: int, b: Floats, j: int) -> np.float32:
    """Squared distance of a[i] and b[j]."""
    total = np.float32(0)
    for column in range(a.shape[1]):
        difference = a[i, column] - b[j, column]
        total += difference * difference
    return total


@_compiled
def _measure_reach(nearest: Floats, owner: Owners, reach: Floats) -> None:
    """Write each centre's largest squared distance to a point of its own into `reach`."""
    reach[:] = 0
    for x in range(len(nearest)):
        if nearest[x] > reach[owner[x]]:
            reach[owner[x]] = nearest[x]


@_compiled
def _advance(
    rows: Rows, bounds: Bounds, nearest: Floats, owner: Owners, reach: Floats, picks: Integers, count: int, stop: int
) -> tuple[int, np.float32]:
    """Pick until there are `stop` centres or all points are covered; the number of centres and the squared radius."""
    points, centres, sketch, centre_sketch = rows
    between = np.empty(stop, np.float32)
    far = np.argmax(nearest) if count > 0 else picks[0]
    while count < stop and nearest[far] > 0:
        picks[count] = far
        centres[count] = points[far]
        centre_sketch[count] = sketch[far]
        _measure_between(centres, centre_sketch, bounds, reach, count, between)
        far = _claim(rows, bounds, nearest, owner, between, count)
        count += 1
    return count, nearest[far]


@_compiled
def _measure_between(
    centres: Floats, centre_sketch: Floats, bounds: Bounds, reach: Floats, new: int, between: Floats
) -> None:
    """Squared distances of the earlier centres to the new one, or infinity where no point can change over."""
    doubled, stretch, blur = bounds
    for g in range(new):
        between[g] = np.inf
        # A point x of centre o stays there when |c - o| >= 2 |x - o|, and all of them when the farthest does.
        limit = doubled * reach[g]
        if limit > 0 and _squared(centre_sketch, g, centre_sketch, new) < stretch * limit + blur:
            between[g] = _squared(centres, g, centres, new)
    between[new] = 0


@_compiled
def _claim(rows: Rows, bounds: Bounds, nearest: Floats, owner: Owners, between: Floats, new: int) -> int:
    """Give the new centre the points nearest to it; the index of the point that is then the farthest."""
    points, centres, sketch, centre_sketch = rows
    doubled, stretch, blur = bounds
    far = 0
    largest = np.float32(-1)
    for x in range(len(nearest)):
        distance = nearest[x]
        if between[owner[x]] < doubled * distance and (
            _squared(sketch, x, centre_sketch, new) < stretch * distance + blur
        ):
            distance = _squared(points, x, centres, new)
            if distance < nearest[x]:
                nearest[x] = distance
                owner[x] = new
        if nearest[x] > largest:
            largest = nearest[x]
            far = x
    return far
