"""Our greedy k-centre beside the plain algorithm: `python -m benchmarks.coreset [--noise]`, one thread, one run.

The plain forms are timed over picks spread through the run and extrapolated: their cost does not depend on the data.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from adcore.kernels.coreset import greedy_k_centre

Floats = npt.NDArray[np.float32]
TIMED = 20  # picks of each plain form that are timed


def clustered(count: int, dims: int) -> Floats:
    """Patches as a backbone gives them: every position of the grid varies about its own mean in few directions."""
    random = np.random.default_rng(0)
    kinds = random.standard_normal((40, dims))
    positions = kinds[random.integers(40, size=784)] + 0.3 * random.standard_normal((784, dims))
    directions = random.standard_normal((20, dims)) * np.linspace(1, 0.1, 20)[:, None]
    points = np.empty((count, dims), np.float32)
    for begin in range(0, count, 784):
        block = points[begin : begin + 784]
        block[:] = positions[: len(block)] + 0.4 * random.standard_normal((len(block), 20)) @ directions
        block += 0.02 * random.standard_normal(block.shape)
    return points


def noise(count: int, dims: int) -> Floats:
    """Points without structure: nothing to prune."""
    return np.random.default_rng(0).standard_normal((count, dims), dtype=np.float32)


def matrix_vector(points: Floats) -> Callable[[Floats, int], None]:
    """The plain pick at its best: cached norms, one matrix-vector product, minimum in place."""
    norms = np.einsum("ij,ij->i", points, points)

    def pick(nearest: Floats, centre: int) -> None:
        squared = points @ points[centre]
        squared *= -2
        squared += norms
        squared += norms[centre]
        np.minimum(nearest, squared, out=nearest)

    return pick


def allocating(points: Floats) -> Callable[[Floats, int], None]:
    """The plain pick as anomalib writes it: norm(points - centre), which allocates a matrix."""

    def pick(nearest: Floats, centre: int) -> None:
        np.minimum(nearest, np.linalg.norm(points - points[centre], axis=1), out=nearest)

    return pick


def seconds_per_pick(pick: Callable[[Floats, int], None], picks: npt.NDArray[np.int64], count: int) -> float:
    """Median seconds of one pick, its argmax included, over some of `picks`."""
    nearest = np.full(count, np.inf, np.float32)
    seconds = []
    for centre in picks[:: max(1, len(picks) // TIMED)][:TIMED]:
        begin = time.perf_counter()
        pick(nearest, int(centre))
        nearest.argmax()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def covering_radius(points: Floats, picks: npt.NDArray[np.int64]) -> float:
    """The covering radius anew, by matrix products in float64."""
    centres = points[picks].astype(np.float64)
    norms = (centres**2).sum(1)
    worst = 0.0
    for begin in range(0, len(points), 1024):
        block = points[begin : begin + 1024].astype(np.float64)
        worst = max(worst, float(((norms - 2 * block @ centres.T).min(1) + (block**2).sum(1)).max()))
    return worst**0.5


def main() -> None:
    """Print seconds, ratios and covering radii."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=163_856)
    parser.add_argument("--dims", type=int, default=297)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--noise", action="store_true", help="points without structure instead of clustered ones")
    arguments = parser.parse_args()

    points = (noise if arguments.noise else clustered)(arguments.points, arguments.dims)
    k = max(1, int(arguments.share * len(points)))
    greedy_k_centre(points[:100], 10, 0)  # compiles
    with threadpool_limits(1):
        begin = time.perf_counter()
        picks, radius = greedy_k_centre(points, k, 0)
        ours = time.perf_counter() - begin
        plain = {
            "matrix-vector, cached norms": seconds_per_pick(matrix_vector(points), picks, len(points)),
            "norm(points - centre)": seconds_per_pick(allocating(points), picks, len(points)),
        }
    kind = "noise" if arguments.noise else "clustered"
    print(f"{len(points)} x {arguments.dims} {kind} points, {len(picks)} picks, one thread")
    print(f"{'ours':30} {ours:8.1f} s  {1000 * ours / k:7.2f} ms a pick")
    for name, seconds in plain.items():
        ratio = f"{seconds * k / ours:5.1f} times ours"
        print(f"{name:30} {seconds * k:8.1f} s  {1000 * seconds:7.2f} ms a pick  {ratio} (extrapolated)")
    print(f"covering radius {radius:.6g}, recomputed in float64 {covering_radius(points, picks):.6g}")


if __name__ == "__main__":
    main()
