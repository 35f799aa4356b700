"""report.html: one self-contained page with tables, plots, galleries, failures and how each number is made."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adcore.core.columns import Column
from adcore.engine import registry
from adcore.papers.beside import Beside
from adcore.report import beside, enhancers, heatmaps, plots, pretext, verdicts
from adcore.report import statistics as told
from adcore.report import timings as latency
from adcore.report.leaderboard import failure_lines, gmac, summary, write_atomic
from adcore.report.table import Cell, Marked, Table
from adcore.results.frame import table_columns
from adcore.results.groups import CellResult
from adcore.results.lines import SETTING, Line, applying, best, headline, leading
from adcore.results.run import Results
from adcore.vision.gallery import Entry, Scale

SHOWN = {"hardest normal": 4, "hardest defect": 4}  # strips a contender: bounds the page


def write_report(path: Path, results: Results, published: Sequence[Beside] = ()) -> bool:
    """Write the page at `path` in one atomic step; False, and nothing done, if it already shows exactly this.

    published: from `beside.compare`."""
    key = report_key(results, published)
    if _shows(path, key):
        return False
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("adcore.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [
        _section(name, results)
        | {
            "enhanced": any(effect.dataset == name for effect in results.effects),
            "effects": enhancers.section(results.effects, name),
            "pretext": pretext.panel(results.trained, name),
            "statistics": told.section(results.contests, name),
            "published": [beside.of(published, name, averaged) for averaged in (True, False)],
        }
        for name in results.contests.lines
    ]
    metrics = {name for section in sections for name in section["metrics"]}
    explained = [*map(registry.column, registry.in_order(metrics)), *table_columns(results.table, "note", "cost")]
    page = environment.get_template("report.html.j2").render(
        key=key,
        sections=sections,
        effects_caption=enhancers.CAPTION,
        against=enhancers.AGAINST,
        statistics_caption=told.CAPTION,
        diagram_caption=told.DIAGRAM,
        no_none=enhancers.NO_NONE.capitalize(),
        latency=latency.section(results.timings) if results.timings else None,
        failures=failure_lines(results.failures),
        facts=results.facts,
        gmac=gmac(),
        meaning=[(column.title, column.meaning) for column in explained if column.shown],
        cells=len(results.table),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    return True


def _shows(path: Path, key: str) -> bool:
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as page:
        return key in page.read(200)


def report_key(results: Results, published: Sequence[Beside] = ()) -> str:
    """Hash of all that the page shows, and of the code that shows it."""
    content = [
        results.table.drop(columns="mlflow_run_id").to_csv(index=False),
        [[cell.row["key"], cell.gallery and cell.gallery.name] for cell in results.finished],
        [dict(failure) for failure in results.failures],
        dict(results.notes),
        dict(results.facts),
        [asdict(effect) for effect in results.effects],
        [dict(timing) for timing in results.timings],
        [item.identity for item in results.trained],
        [asdict(item) for item in published],
        told.key(results.contests),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for source in sorted(p for p in Path(__file__).parent.iterdir() if p.suffix in (".py", ".j2")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _section(name: str, results: Results) -> dict[str, Any]:
    lines = results.contests.lines[name]
    own = {id(line): [cell for cell in results.finished if _belongs(cell, line)] for line in lines}
    drawn = [line for line in lines if not math.isnan(line.means.get(headline(lines), math.nan))]
    return {
        "name": name,
        "note": results.notes.get(name, ""),
        "verdict": verdicts.lead(results.contests.head(name)),
        "table": summary(lines),
        "metrics": applying(lines),
        "categories": [
            (registry.column(metric).title, _category_table(lines, metric))
            for metric in dict.fromkeys((headline(lines), *registry.shown_in("categories")))
            if metric in applying(lines)
        ],
        "figures": _figures(drawn, own) if drawn else [],
        "galleries": [shown for line in lines if (shown := _gallery(line, own[id(line)]))],
    }


def _figures(lines: Sequence[Line], results: Mapping[int, Sequence[CellResult]]) -> list[str]:
    roc: dict[str, list[plots.Curves]] = {}
    for line in lines:  # two lines may have one name, and differ in the backbone only
        roc.setdefault(line.name, []).extend(r.curves["image"] for r in results[id(line)] if r.curves["image"]["fpr"])
    figures = [plots.category_svg(lines), plots.roc_svg(roc) if any(roc.values()) else "", plots.cost_svg(lines)]
    return [figure for figure in figures if figure]


def _belongs(result: CellResult, line: Line) -> bool:
    return all(str(result.row[key]) == line.setting[key] for key in SETTING)


def _category_table(lines: Sequence[Line], metric: str) -> Table:
    """Rows of categories and their mean, columns of contenders, means over seeds; the best of a row is marked."""
    column, means = registry.column(metric), [line.category_means(metric) for line in lines]
    names = list(dict.fromkeys(str(name) for each in means for name in each.index))
    winners = best(lines, metric)
    last = [_cell(line.means[metric], column, line in winners) for line in lines]
    rows = [[name, *_cells([each.get(name, math.nan) for each in means], column)] for name in names]
    return Table(["category", *(line.name for line in lines)], [*rows, ["mean", *last]], means=[len(names)])


def _cells(values: Sequence[float], column: Column) -> list[Cell]:
    return [_cell(value, column, mark) for value, mark in zip(values, leading(values, column), strict=True)]


def _cell(value: float, column: Column, is_best: bool) -> Cell:
    return Marked(column.format(value), "best") if is_best else column.format(value)


def _gallery(line: Line, results: Sequence[CellResult]) -> dict[str, Any] | None:
    """Strips of the contender's first seed, all on one scale."""
    first = min((r.row["seed"] for r in results), default=0)
    folders = {str(r.row["category"]): r.gallery for r in results if r.gallery and r.row["seed"] == first}
    if not folders:
        return None
    scale = heatmaps.shared_scale(folders.values())
    kinds = []
    for kind, limit in SHOWN.items():
        found = heatmaps.hardest(folders, kind, limit)
        kinds.append((kind, [_strip(category, folder, entry, scale) for category, folder, entry in found]))
    low, high = (f"{value:.3g}" for value in scale)
    return {"name": line.name, "seed": first, "low": low, "high": high, "kinds": kinds}


def _strip(category: str, folder: Path, entry: Entry, scale: Scale) -> dict[str, str]:
    other = "defects score no higher" if entry.kind == "hardest normal" else "normals score no lower"
    data = base64.b64encode(heatmaps.strip(folder, entry, scale)).decode()
    return {
        "uri": f"data:image/jpeg;base64,{data}",
        "title": f"{category} · {Path(entry.path).parent.name}/{Path(entry.path).name}",
        "text": f"score {entry.score:.3g}; {100 * entry.outranked:.0f} % of {other}",
    }
