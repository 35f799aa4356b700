"""Our side of `benchmarks.peers` without Prefect, MLflow and pages: `python -m benchmarks.peer_adcore PLAN WORKSPACE`.

Prints one line of JSON: seconds to import, to extract, and of each method seconds to fit and to test, and its metrics.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()

from adcore.core import plan  # noqa: E402  (torch and timm come with compute)
from adcore.core.contracts import silent  # noqa: E402
from adcore.engine.bench import Bench, prepare  # noqa: E402
from adcore.engine.schedule import grouped  # noqa: E402

IMPORTED = time.perf_counter() - STARTED


def main() -> None:
    loaded, workspace = plan.load(Path(sys.argv[1])), Path(sys.argv[2])
    begin = time.perf_counter()
    bench = Bench(loaded, workspace)
    bench.manifests = {spec.name: prepare(spec, bench.layout) for spec in loaded.datasets}
    computer = bench.computer
    for group in grouped(bench.cells):
        computer.extract(group[0], bench.levels(group[0]), silent)
    extracted = time.perf_counter() - begin
    cells: dict[str, dict[str, float]] = {}
    for cell in bench.cells:
        begin = time.perf_counter()
        computer.fit(cell, silent)
        fitted = time.perf_counter()
        computer.score(cell, silent)
        computer.evaluate(cell)
        spent = {"fit_s": fitted - begin, "test_s": time.perf_counter() - fitted}
        metrics = (bench.store.path("cell", cell.key) / "metrics.json").read_text(encoding="utf-8")
        cells[f"{cell.category.name} {cell.contender.names['method']}"] = spent | json.loads(metrics)
    print(json.dumps({"import_s": IMPORTED, "extract_s": extracted, "cells": cells}))


if __name__ == "__main__":
    main()
