"""Latency of one image with and without an enhancer, part by part, as CSV, Markdown and page.

What is measured: docs/papers/hosts.md#latency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core.hardware import MOST_WAIT
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Table

SCOPES = ("extract", "score", "post", "total")
SETTING = ("backbone", "image", "hardware", "device", "threads")
Timing = Mapping[str, Any]  # labels, SETTING, load_average, busy, and latency: scopes and, of an enhancer, without


def write(folder: Path, timings: Sequence[Timing]) -> None:
    """Write latency.csv (milliseconds, one row a host, enhancer and scope) and latency.md; without timings remove
    old ones.

    A timing has method_label, enhancer_label, SETTING, load_average, busy and latency:
    {"scopes": {scope: {"median_ms", "mean_ms", "p95_ms"}}}, and for an enhancer "without": {"scopes": the same of the
    bare host, "difference_ms": {scope: [difference, low, high]}}."""
    targets = [folder / "latency.csv", folder / "latency.md"]
    if not timings:
        for path in targets:
            path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame([row for timing in timings for row in _rows(timing)])
    write_atomic(targets[0], rows.to_csv(index=False, lineterminator="\n"))
    write_atomic(targets[1], f"# Latency\n\n{section(timings).markdown()}\n")


def section(timings: Sequence[Timing]) -> Table:
    """One row a host and enhancer."""
    varying = [name for name in SETTING if len({str(timing[name]) for timing in timings}) > 1]
    compared = any("without" in timing["latency"] for timing in timings)
    header = ["method", *varying, "enhancer", *SCOPES, "p95"]
    header += ["total without", "difference [95 %]"] if compared else []
    rows = [[*_names(timing, varying), *_numbers(timing, compared)] for timing in timings]
    return Table(header, rows, ("enhancer", *varying), _caption(timings, varying, compared))


def _names(timing: Timing, varying: Sequence[str]) -> list[str]:
    mark = " (busy)" if timing["busy"] else ""
    return [timing["method_label"] + mark, *(str(timing[name]) for name in varying), timing["enhancer_label"]]


def _numbers(timing: Timing, compared: bool) -> list[str]:
    scopes = timing["latency"]["scopes"]
    own = [*(_ms(scopes[scope]["median_ms"]) for scope in SCOPES), _ms(scopes["total"]["p95_ms"])]
    if not compared:
        return own
    without = timing["latency"].get("without")
    if without is None:
        return [*own, "–", "–"]
    difference, low, high = without["difference_ms"]["total"]
    return [*own, _ms(without["scopes"]["total"]["median_ms"]), f"{difference:+z.2f} [{low:z.2f}, {high:z.2f}]"]


def _ms(value: float) -> str:
    return f"{value:,.2f}"


def _caption(timings: Sequence[Timing], varying: Sequence[str], compared: bool) -> str:
    shared = {name: str(timings[0][name]) for name in SETTING if name not in varying}
    loads = [float(timing["load_average"]) for timing in timings]
    load = f"{min(loads):.1f}" if max(loads) - min(loads) < 0.05 else f"{min(loads):.1f} to {max(loads):.1f}"
    sentences = [
        "Milliseconds an image, medians, batch 1, after a warm-up: extract (backbone and enhancer), score (method), "
        "post (upsampling and smoothing), total; p95 is that of the total. Reading and decoding are not counted.",
        f"Measured with {'; '.join([*(f'{name} {value}' for name, value in shared.items()), f'load average {load}'])}.",
    ]
    if any(timing["busy"] for timing in timings):
        sentences.append(
            f"(busy): threads waited for a core in more than {MOST_WAIT:.0%} of the time, so the number is none of the "
            "method's; run the plan again when the machine is quieter."
        )
    if len({timing["hardware"] for timing in timings}) > 1:
        sentences.append("Those of unlike machines do not compare.")
    if compared:
        sentences.append(
            "With and without were run in turn (A/B/A/B) in one process; the difference is that of their medians, "
            "with its 95 % interval by bootstrap over pairs of runs."
        )
    return " ".join(sentences)


def _rows(timing: Timing) -> Iterator[dict[str, Any]]:
    names = {name: timing[name] for name in ("method_label", "enhancer_label", *SETTING, "load_average", "busy")}
    without = timing["latency"].get("without")
    for scope in SCOPES:
        row = {**names, "scope": scope, **timing["latency"]["scopes"][scope]}
        if without:
            row |= {f"without_{name}": value for name, value in without["scopes"][scope].items()}
            numbers = zip(("difference_ms", "low_ms", "high_ms"), without["difference_ms"][scope], strict=True)
            row |= dict(numbers)
        yield row
