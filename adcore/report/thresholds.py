"""results/thresholds.csv, thresholds.md and a section of the report: what was promised of false alarms, and what
happened on the test images. How: docs/line.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core.conformal import Alarms
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Table
from adcore.results.run import Results
from adcore.results.runs import CellResult

NAMES = ("dataset", "category", "protocol_label", "enhancer_label", "method_label", "backbone", "image", "seed", "key")
CAPTION = (
    "Of the first seed. Normal images that the model has not seen set the threshold; no test image does. Promised: at "
    "most so many of 1,000 good images are told as defective, which is more than wanted where there are too few normal "
    "images to promise that. False alarms and misses of 1,000 test images, with intervals of 95 % (Clopper and "
    "Pearson). More false alarms than promised mean that the test images are not like those that set the threshold, or "
    "chance, as far as the interval reaches."
)


def write(folder: Path, results: Results) -> None:
    """Write both files, or remove old ones where no plan's threshold is asked for."""
    targets = [folder / "thresholds.csv", folder / "thresholds.md"]
    rows = [_row(cell, cell.alarms) for cell in results.finished if cell.alarms]
    if not rows:
        for path in targets:
            path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(targets[0], pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    parts = ["# Thresholds", CAPTION]
    for dataset in results.contests.contenders:
        if table := section(results, dataset):
            parts += [f"## {dataset}", table.markdown()]
    write_atomic(targets[1], "\n\n".join(parts) + "\n")


def section(results: Results, dataset: str) -> Table | None:
    """A row a category and contender; None where no threshold was asked for."""
    rows = []
    for name, _, cells in results.ranked[dataset]:
        first: dict[str, CellResult] = {}  # category -> the cell of the first seed
        for cell in sorted(cells, key=lambda each: (str(each.row["category"]), int(each.row["seed"]))):
            first.setdefault(str(cell.row["category"]), cell)
        rows += [[name, category, *_texts(cell.alarms)] for category, cell in first.items() if cell.alarms]
    header = ["method", "category", "normal images", "wanted", "promised", "false alarms", "misses"]
    return Table(header, rows, ("method", "category")) if rows else None


def _texts(alarms: Alarms) -> list[str]:
    counts = ((alarms.false_alarms, alarms.good), (alarms.misses, alarms.bad))
    return [
        f"{alarms.normals:,}",
        _of_1000(alarms.wanted),
        _of_1000(alarms.image.promised),
        *(_share(count, of) for count, of in counts),
    ]


def _of_1000(share: float) -> str:
    """`24`, and `0.5` where a whole number would say little or nothing."""
    return f"{1000 * share:.0f}" if share >= 0.01 else f"{1000 * share:.2g}"


def _share(count: int, of: int) -> str:
    if not of:
        return "–"
    low, high = interval(count, of)
    return f"{1000 * count / of:.0f} [{1000 * low:.0f}, {1000 * high:.0f}]"


def interval(count: int, of: int) -> tuple[float, float]:
    """Of a share, at 95 %."""
    from scipy.stats import binomtest

    found = binomtest(count, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _row(cell: CellResult, alarms: Alarms) -> dict[str, Any]:
    numbers = {
        "normals": alarms.normals,
        "wanted": alarms.wanted,
        "promised": alarms.image.promised,
        "threshold": alarms.image.value,
        "map_threshold": alarms.map.value,
        "false_alarms": alarms.false_alarms,
        "good": alarms.good,
        "misses": alarms.misses,
        "bad": alarms.bad,
    }
    return {**{name: cell.row[name] for name in NAMES}, **numbers}
