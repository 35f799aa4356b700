"""One image at a time, beside its bare floor: `python -m benchmarks.latency [--backbone B] [--size 256]`.

The floor of a method is the backbone's forward pass and the one product that its distances cannot do without: PaDiM's
whitened differences (positions x d x d), PatchCore's and CFA's (positions x d) by (d x rows of the memory). Method and
floor run in turn on the same image; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from adcore.core.contracts import silent
from adcore.core.plan import parse
from adcore.engine.bench import Bench, prepare
from adcore.engine.cells import Cell
from adcore.features.extractor import Extractor
from adcore.vision.maps import image_scores, postprocess
from benchmarks.measuring import print_conditions, print_table

RUNS = 100
METHODS = ["padim", {"name": "patchcore", "coreset": 0.1}, {"name": "patchcore", "coreset": 0.01}]
METHODS += [{"name": "cfa", "epochs": 1}]


def product(method: Any, positions: int) -> Callable[[], object]:
    """The one product of a fitted method's distances at so many positions, on values of the same shape."""
    if method.name == "padim":
        differences = torch.randn(positions, method.whitener.shape[1], 1)
        return lambda: torch.bmm(method.whitener, differences)
    queries = torch.randn(positions, method.memory.shape[1])
    return lambda: queries @ method.memory.T


def milliseconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - begin)


@torch.inference_mode()
def measure(bench: Bench, cell: Cell) -> tuple[float, float, float]:
    """Median milliseconds of the method, of the bare backbone and of the product, each run in turn."""
    method, reading = bench.computer._timed(cell)
    extractor = cast("Extractor", reading)
    size = method.context.image_size
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = ((image / 255 - extractor.mean) / extractor.std).contiguous(memory_format=torch.channels_last)

    def whole() -> object:
        raw, given = method.score(extractor(image))
        return image_scores(postprocess(raw, size, method.smoothing), given)

    needed = product(method, math.prod(method.score(extractor(image))[0].shape[1:]))
    for action in (whole, lambda: extractor.model(pixels), needed):
        for _ in range(10):
            action()
    rows = [
        (milliseconds(whole), milliseconds(lambda: extractor.model(pixels)), milliseconds(needed)) for _ in range(RUNS)
    ]
    return tuple(float(np.median(column)) for column in zip(*rows, strict=True))  # type: ignore[return-value]


def main() -> None:
    """Print milliseconds of each method and of its floor, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained", help="or random")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--train", type=int, default=20, help="images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print_conditions("torch", "timm", "faiss-cpu")
    plan = parse(
        {
            "image": {"resize": given.size},
            "backbone": {"name": given.backbone, "weights": given.weights},
            "datasets": [{"name": "generated", "categories": ["brick"], "max_train": given.train, "max_test": 2}],
            "methods": METHODS,
            "device": "cpu",
        }
    )
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(plan, Path(name))
        bench.manifests = {spec.name: prepare(spec, bench.layout) for spec in plan.datasets}
        rows = []
        for cell in bench.cells:
            bench.computer.fit(cell, silent)
            whole, bare, needed = measure(bench, cell)
            rows.append((cell.contender.names["method_label"], whole, bare, needed, whole / (bare + needed)))
    print(f"{given.backbone}, {given.size} pixels, {given.train} training images, {given.threads} thread(s)\n")
    print_table(("ms an image", "method", "backbone", "product", "x"), rows)


if __name__ == "__main__":
    main()
