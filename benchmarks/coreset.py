"""Our greedy k-centre beside the plain algorithm: `python -m benchmarks.coreset [--noise]`, all cores.

The plain forms are timed over picks spread through the run and extrapolated: their cost does not depend on the data.
Beside the seconds, which vary with what else the machine does, is told how many pairs were multiplied and measured.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import Executor
from unittest.mock import patch

import numba
import numpy as np
import numpy.typing as npt
import torch

from adcore.kernels import coreset, pruning
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
    """The plain pick at its best, in torch: cached norms, one matrix-vector product, minimum in place."""
    there = torch.from_numpy(points)
    norms = there.square().sum(1)

    def pick(nearest: Floats, centre: int) -> None:
        squared = torch.addmv(norms, there, there[centre], alpha=-2).add_(norms[centre])
        known = torch.from_numpy(nearest)
        torch.minimum(known, squared, out=known)

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


class Counted(pruning.Distances):
    """Distances that leave their work behind."""

    seen: pruning.Integers

    def __init__(self, points: Floats, pool: Executor) -> None:
        super().__init__(points, pool)
        Counted.seen = self.work


def peak_mb() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print seconds, ratios, memory, work and covering radii."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=163_856)
    parser.add_argument("--dims", type=int, default=297)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--noise", action="store_true", help="points without structure instead of clustered ones")
    parser.add_argument("--repeats", type=int, default=3, help="of ours and of each pick; the fastest counts")
    arguments = parser.parse_args()

    points = (noise if arguments.noise else clustered)(arguments.points, arguments.dims)
    k = max(1, int(arguments.share * len(points)))
    greedy_k_centre(points[:100], 10, 0)  # compiles
    before = peak_mb()
    ours, cpu = np.inf, np.inf
    plain: dict[str, float] = {}
    for repeat in range(arguments.repeats):
        begin, busy = time.perf_counter(), time.process_time()
        with patch.object(coreset, "Distances", Counted):
            picks, radius = greedy_k_centre(points, k, 0)
        ours, cpu = min(ours, time.perf_counter() - begin), min(cpu, time.process_time() - busy)
        if repeat == 0:  # before the plain forms take more
            memory = peak_mb() - before
            forms = {"matrix-vector, torch": matrix_vector(points), "norm(points - centre)": allocating(points)}
        for name, pick in forms.items():
            plain[name] = min(plain.get(name, np.inf), seconds_per_pick(pick, picks, len(points)))
    kind = "noise" if arguments.noise else "clustered"
    threads = f"threads: ours {numba.config.NUMBA_NUM_THREADS}, torch {torch.get_num_threads()}"
    print(
        f"{len(points)} x {arguments.dims} {kind} points, {len(picks)} picks; {threads}; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'ours':30} {ours:8.1f} s  {1000 * ours / k:7.2f} ms a pick  {cpu:.1f} s of CPU, {memory:.0f} MB")
    for name, seconds in plain.items():
        ratio = f"{seconds * k / ours:5.1f} times ours"
        print(f"{name:30} {seconds * k:8.1f} s  {1000 * seconds:7.2f} ms a pick  {ratio} (extrapolated)")
    *products, measured = (Counted.seen / (len(points) * len(picks))).tolist()
    shares = ", ".join(f"{share:.2%}" for share in products)
    print(
        f"of all pairs: in products of {pruning.COARSE}, {pruning.FINE}, all columns {shares}; measured {measured:.2%}"
    )
    print(f"covering radius {radius:.6g}, recomputed in float64 {covering_radius(points, picks):.6g}")


if __name__ == "__main__":
    main()
