"""One pass of the backbone for all methods beside one pass a method: `python -m benchmarks.extraction`.

PaDiM, PatchCore and CFA over one generated category, each with the feature levels that it reads by default. Both ways
go through the feature bank and are alternated; the model is built before, and the files are in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from adcore.core.plan import Plan, parse
from adcore.engine import registry
from adcore.engine.bench import Bench, Layout, prepare
from adcore.features.bank import Bank, ImageSet
from adcore.features.extractor import Extraction
from benchmarks.measuring import print_conditions, print_table

METHODS = ("padim", "patchcore", "cfa")


def image_sets(plan: Plan, workspace: Path) -> list[ImageSet]:
    """Training and test images of the plan's only category."""
    spec = plan.datasets[0]
    bench = Bench(plan, workspace, {spec.name: prepare(spec, Layout(workspace))})
    cell = bench.cells[0]
    return [
        ImageSet(tuple(cell.category.root / path for path in rows["path"]), tuple(rows["sha256"]))
        for rows in (cell.train, cell.test)
    ]


def seconds_to_extract(sets: list[ImageSet], wanted: list[Extraction], root: Path) -> tuple[float, float]:
    """Seconds to bring every extraction of `wanted` into a bank of its own, and to read the first one back."""
    spent = 0.0
    for number, extraction in enumerate(wanted):
        bank = Bank(root / str(number), disk_gb=20, device="cpu", code="")
        bank.extractor(extraction)
        begin = time.perf_counter()
        sources = [bank.source(images, extraction) for images in sets]
        spent += time.perf_counter() - begin
        if not number:
            first = sources
    begin = time.perf_counter()
    for source in first:
        for _ in source:
            pass
    return spent, time.perf_counter() - begin


def main() -> None:
    """Print the seconds of both ways and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--category", default="brick")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    print_conditions("torch", "timm")
    levels = [registry.method(name).levels for name in METHODS]
    together = tuple(sorted(set().union(*levels)))
    with tempfile.TemporaryDirectory() as folder:
        content = {
            "image": {"resize": given.size},
            "backbone": {"name": given.backbone},
            "datasets": [{"name": "generated", "categories": [given.category]}],
            "methods": list(METHODS),
        }
        plan = parse(content)
        sets = image_sets(plan, Path(folder))
        ways = {
            "once for all": [Extraction(plan.backbone, plan.image, together)],
            "once per method": [Extraction(plan.backbone, plan.image, own) for own in levels],
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        reading: list[float] = []
        for repeat in range(given.repeats):
            for way, wanted in ways.items():
                spent, read = seconds_to_extract(sets, wanted, Path(folder) / f"{way} {repeat}")
                seconds[way].append(spent)
                reading.append(read)
    once, each = (statistics.median(values) for values in seconds.values())
    images = sum(len(images.paths) for images in sets)
    print(f"{images} images of {given.size} x {given.size}, {given.backbone}, {given.threads} thread(s), medians")
    rows = [("once for all", once, 1.0), ("once per method", each, each / once)]
    print_table(("", "s", "x"), [*rows, ("reading it back", statistics.median(reading), "")])


if __name__ == "__main__":
    main()
