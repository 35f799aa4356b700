"""How time and memory grow: with images, pixels, cells and test maps.

    python -m benchmarks.scale                          # all four
    python -m benchmarks.scale images --most 5000       # one, up to so many

Every point is measured in a process of its own, whose peak resident memory is told, libraries included. `slope` is that
of the logarithm of the seconds over that of the size, from the point before: 1 where twice as much takes twice as long.

images: a folder data set of pictures of 64 x 64, read into its manifest and validated.
pixels: PaDiM on 16 training and 16 test images of a generated category, at a size, with EfficientNet-Lite0; both cores.
cells: `flows.benchmark` where all is there: PaDiM on fifty tiny categories, copies of one finished cell; the page that
it wrote is opened in Chromium, where that is installed.
maps: all pixel metrics of maps of 256 x 256, one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CURVES: dict[str, tuple[int, ...]] = {
    "images": (100, 1000, 5000, 20000),
    "pixels": (224, 320, 448, 640, 1024),
    "cells": (50, 500, 2500, 10000),
    "maps": (50, 200, 800, 2000),
}
CATEGORIES = 50
Seconds = dict[str, float]


def clocked(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begin = time.perf_counter()
    found = function()
    return time.perf_counter() - begin, found


def images(count: int, folder: Path) -> Seconds:
    """Preparing and validating so many images, four fifths of them for training."""
    import io

    import numpy as np
    from PIL import Image

    from adcore.core.plan import Plan
    from adcore.engine import bench

    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)  # no two pictures are alike
        split = "train" if index < 0.8 * count else "test"
        defect = "good" if split == "train" or index % 2 else "scratch"
        file = folder / "data" / "part" / split / defect / f"{index:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "png", compress_level=1)
        file.write_bytes(buffer.getvalue())
    content = {"datasets": [{"name": "parts", "kind": "folder", "root": str(folder / "data")}], "methods": ["padim"]}
    plan = Plan.model_validate(content)
    opened = bench.Bench(plan, folder / "workspace")
    prepared, key = clocked(lambda: bench.prepare(plan.datasets[0], opened.layout))
    opened.manifests = {"parts": key}
    validated, _ = clocked(lambda: opened.problems("parts"))
    again, _ = clocked(lambda: bench.prepare(plan.datasets[0], opened.layout))
    return {"prepared": prepared, "validated": validated, "prepared again": again}


def pixels(size: int, folder: Path) -> Seconds:
    """The steps of a cell at an image size."""
    import yaml

    from adcore.core.contracts import silent
    from benchmarks.warm import opened

    content = {
        "image": {"resize": size},
        "datasets": [{"name": "generated", "categories": ["brick"], "max_train": 16, "max_test": 16}],
        "methods": ["padim"],
        "device": "cpu",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    bench = opened(folder / "plan.yaml", folder)
    (cell,) = bench.cells
    computer = bench.computer
    return {
        "extracted": clocked(lambda: computer.extract(cell, bench.levels(cell), silent))[0],
        "fitted": clocked(lambda: computer.fit(cell, silent))[0],
        "scored": clocked(lambda: computer.score(cell, silent))[0],
        "judged": clocked(lambda: computer.evaluate(cell))[0],
    }


def cells(count: int, folder: Path) -> Seconds:
    """The command with nothing to compute, and its page."""
    import yaml

    from benchmarks.measuring import peak_mb
    from benchmarks.warm import finish, opened
    from tests.conftest import make_parts

    names = [f"part{number:02d}" for number in range(CATEGORIES)]
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(make_parts(folder / "parts", names))}],
        "methods": ["padim"],
        "seeds": list(range(count // CATEGORIES)),
        "device": "cpu",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    finish(opened(folder / "plan.yaml", folder))

    def command() -> float:
        given = ["--plan", str(folder / "plan.yaml"), "--workspace", str(folder)]
        settings = os.environ | {"PREFECT_API_URL": ""}
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.benchmark", *given],
            env=settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"flows.benchmark ended with {process.returncode}")
        return peak

    logged, _ = clocked(command)
    again, peak = clocked(command)
    page = folder / "results" / "report.html"
    found = {"first, logs to MLflow": logged, "again": again, "again, peak MB": peak}
    found["page, MB"] = page.stat().st_size / 1e6
    if chromium := shutil.which("chromium"):
        given = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'chromium'}"]
        given += ["--window-size=1400,2000", f"--screenshot={folder / 'page.png'}"]
        blank, _ = clocked(lambda: subprocess.run([chromium, *given, "about:blank"], capture_output=True, check=True))
        shown, _ = clocked(lambda: subprocess.run([chromium, *given, page.as_uri()], capture_output=True, check=True))
        found["page shown, less an empty one"] = shown - blank
    return found


def maps(count: int, folder: Path) -> Seconds:
    """The pixel metrics."""
    from adcore.metrics import pixel_metrics
    from benchmarks.metrics import LIMIT, generated

    pixel_metrics(*generated(4, 64), LIMIT)  # compiles
    part, masks = generated(50, 256)
    scores = part.repeat(count // 50, axis=0)
    truth = masks.repeat(count // 50, axis=0)
    return {"pixel metrics": clocked(lambda: pixel_metrics(scores, truth, LIMIT))[0]}


def point(curve: str, size: int) -> dict[str, float]:
    """One measurement in this process: seconds by what took them, and peak MB."""
    from benchmarks.measuring import peak_mb

    with tempfile.TemporaryDirectory() as name:
        found: Seconds = globals()[curve](size, Path(name))
    return found | {"peak MB": peak_mb()}


def measured(curve: str, size: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    given = [sys.executable, "-m", "benchmarks.scale", curve, "--point", str(size)]
    settings = os.environ | ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"} if curve == "maps" else {})
    done = subprocess.run(given, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table for each curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="*", choices=[*CURVES, []], help="default: all")
    parser.add_argument("--most", type=int, default=10**9, help="leave out larger points")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        print(json.dumps(point(given.curves[0], given.point)))
        return

    from benchmarks.measuring import print_conditions, print_table

    print_conditions("torch", "numpy", "numba", "pandas", "mlflow")
    for curve in given.curves or CURVES:
        sizes = [size for size in CURVES[curve] if size <= given.most]
        points = []
        for size in sizes:
            points.append(measured(curve, size))
            print(f"{curve} {size}: {json.dumps(points[-1])}", flush=True)  # the larger ones take minutes
        rows = []
        for place, (size, found) in enumerate(zip(sizes, points, strict=True)):
            for name, value in found.items():
                slope: object = ""
                if place and "MB" not in name:
                    before = points[place - 1][name]
                    slope = (
                        math.log(value / before) / math.log(size / sizes[place - 1]) if min(value, before) > 0 else ""
                    )
                rows.append((str(size), name, value, slope))
        print()
        print_table((curve, "what", "s or MB", "slope"), rows)


if __name__ == "__main__":
    main()
