"""Exact greedy k-centre (Gonzalez 1985): hundreds of picks among the farthest points, then one pass over all points."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from adcore.kernels.pruning import Distances, Floats, Integers, compiled, squared

CANDIDATES = 1024  # farthest points among which is picked between two passes
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
    picks = np.full(k, start)
    count, told = 1, 0
    with ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS) as pool:
        distances = Distances(points, pool)
        nearest = distances.to(start)
        while count < k and nearest.max() > 0:
            begin = count
            count = _pick(points, nearest, *_candidates(nearest, CANDIDATES), picks, count)
            distances.lower(nearest, picks[begin:count])
            if progress is not None and count * REPORTS // k > told:
                told = count * REPORTS // k
                progress(count / k)
    return picks[:count], float(np.sqrt(float(nearest.max())))


def _candidates(nearest: Floats, count: int) -> tuple[Integers, np.float32, int]:
    """Indices of the `count` farthest points, and distance and index of the farthest of the others.

    The lower index goes first on a tie. The others' distance may be told too large where their index is told as N.
    """
    size = len(nearest)
    if size <= count:
        return np.arange(size), np.float32(-1), size
    bound = np.partition(nearest, size - count)[size - count]
    above, level = np.flatnonzero(nearest > bound), np.flatnonzero(nearest == bound)
    room = count - len(above)
    return np.sort(np.concatenate([above, level[:room]])), bound, int(level[room]) if room < len(level) else size


@compiled
def _pick(
    points: Floats, nearest: Floats, candidates: Integers, bound: np.float32, other: int, picks: Integers, count: int
) -> int:
    """Write picks from number `count` on, as long as no point but a candidate can be the farthest; their number then.

    All other points are at most as far as `bound`, and those that are as far have an index of at least `other`.
    Their distances only shrink, so that a candidate before them is the farthest of all, whatever they have shrunk to.
    """
    rows, near = points[candidates], nearest[candidates]
    alive = np.arange(len(candidates))  # numbers of those that may be picked, ascending
    while count < len(picks) and len(alive) > 0:
        far = int(alive[0])
        for i in alive:
            if near[i] > near[far]:
                far = int(i)
        if not near[far] > 0:
            break
        picks[count] = candidates[far]
        count += 1
        kept = 0
        for i in alive:
            near[i] = min(near[i], squared(rows, int(i), rows, far))
            if near[i] > bound or (near[i] == bound and candidates[i] < other):
                alive[kept] = i
                kept += 1
        alive = alive[:kept]
    return count
