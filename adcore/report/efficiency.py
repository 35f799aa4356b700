"""What methods weigh and how fast they are: efficiency.csv and efficiency.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.papers import published
from adcore.papers.measured import Lookup
from adcore.papers.tables import judge
from adcore.papers.targets import Joiner, Row, Target
from adcore.report import verdicts
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Table

HEADER = [
    "method",
    "backbone",
    "image",
    "learnable M",
    "total M",
    "GMAC",
    "of it extractor",
    "of it attention",
    "as its paper counts",
]
MACS = ("macs", "extractor_macs", "attention_macs", "macs_as_published")
RATES = ["images / s, batch 1", "batch 32"]


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Both files, each in one atomic step. rows: as adcore.engine.efficiency.measure gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    known = in_print()
    rows = [{**row, "printed": "; ".join(printed(row, known))} for row in rows]
    write_atomic(folder / "efficiency.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    write_atomic(folder / "efficiency.md", markdown(rows))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a method."""
    caption = (
        f"Of one image at inference, counted by {rows[0]['counter']}. Total parameters are those "
        "of the method and of the backbone up to the last level read. Distances to a memory or to Gaussians are in no "
        "count, and a method that needs them has no throughput here: its speed depends on the images it was fitted on "
        f"(see latency.md). Throughput on {rows[0]['device']}, from pixels to raw maps."
    )
    words = ("backbone", "image", "printed")
    table = Table([*HEADER, *RATES, "printed"], [_row(row) for row in rows], words, caption)
    return f"# Efficiency\n\n{table.markdown()}\n"


def in_print(folder: Path = published.FOLDER) -> list[tuple[Row, Target]]:
    """The printed numbers that are of sizes; none where `folder` is not there."""
    if not folder.is_dir():
        return []
    names = published.names(folder)
    quantities = [*names.metrics.items(), *(pair for table in names.tables.values() for pair in table.metrics.items())]
    sizes = {metric for metric, quantity in quantities if quantity.source == "efficiency"}
    found: list[tuple[Row, Target]] = []
    for stem in published.stems(folder):
        table = published.table(stem, folder)
        joiner = Joiner(names, table)
        for line in published.records(table[table["metric"].isin(list(sizes))]):
            if isinstance(target := joiner.target(stem, line), Target):
                found.append((line, target))
    return found


def printed(row: Mapping[str, Any], known: Sequence[tuple[Row, Target]]) -> list[str]:
    """What the papers print of a row, each with its verdict: `FLOPs 5.63 G: within tolerance`. known: as `in_print`."""
    found = {}
    for line, target in known:
        value = Lookup([], sizes=[row]).find(target)
        if not math.isnan(value.value):
            told = f"{line['metric']} {line['printed']} {line['unit']}"
            found[told] = f"{told}: {verdicts.printed(judge(line, value, target.quantity.lower))}"
    return list(found.values())


def _row(row: Mapping[str, Any]) -> list[str]:
    millions = [f"{row[name] / 1e6:.2f}" for name in ("learnable_params", "total_params")]
    macs = [f"{row[name] / 1e9:.2f}" for name in MACS]
    rates = [row[f"images_per_s_b{batch}"] for batch in (1, 32)]
    texts = ["–" if math.isnan(rate) else f"{rate:.1f}" for rate in rates]
    return [row["method_label"], row["backbone"], row["image"], *millions, *macs, *texts, row.get("printed", "")]
