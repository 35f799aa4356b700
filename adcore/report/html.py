"""report.html: one self-contained page with tables, plots, galleries, failures and how each number is made."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import escape

from adcore.core.columns import Column
from adcore.engine import registry
from adcore.papers.beside import Beside
from adcore.report import beside, defects, enhancers, heatmaps, plots, pretext, thresholds, verdicts
from adcore.report import statistics as told
from adcore.report import timings as latency
from adcore.report.leaderboard import failure_lines, gmac, summary, write_atomic
from adcore.report.table import Cell, Marked, Table
from adcore.results.contenders import ContenderResult, applying, best, headline, leading
from adcore.results.frame import table_columns
from adcore.results.run import Results
from adcore.results.runs import CellResult
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
            "defects": defects.section(results.defects, name),
            "thresholds": thresholds.section(results, name),
            "published": [beside.of(published, name, averaged) for averaged in (True, False)],
        }
        for name in results.contests.contenders
    ]
    metrics = {name for section in sections for name in section["metrics"]}
    explained = [*map(registry.column, registry.in_order(metrics)), *table_columns(results.table, "note", "cost")]
    page = environment.get_template("report.html.j2").render(
        key=key,
        sections=sections,
        effects_caption=enhancers.CAPTION,
        against=enhancers.AGAINST,
        statistics_caption=told.CAPTION,
        thresholds_caption=thresholds.CAPTION,
        defects_caption=defects.CAPTION,
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


def write_links(path: Path, links: Mapping[str, str], text: str) -> None:
    """Name in a page that is there, for each dataset, where its runs are; nothing else changes."""
    page = before = path.read_text(encoding="utf-8")
    for dataset, link in links.items():
        place = f'<p class="soft runs" data-dataset="{escape(dataset)}">'
        made = f'{place}<a href="{escape(link)}">{escape(text)}</a></p>'
        page = re.sub(f"{re.escape(place)}.*?</p>", lambda _, made=made: made, page, count=1)  # type: ignore[misc]
    if page != before:
        write_atomic(path, page)


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
        [asdict(cell.alarms) for cell in results.finished if cell.alarms],
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for source in sorted(p for p in Path(__file__).parent.iterdir() if p.suffix in (".py", ".j2")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _section(name: str, results: Results) -> dict[str, Any]:
    contenders = results.contests.contenders[name]
    own = {id(each.contender): each.cells for each in results.ranked[name]}
    drawn = [each for each in contenders if not math.isnan(each.means.get(headline(contenders), math.nan))]
    return {
        "name": name,
        "note": results.notes.get(name, ""),
        "verdict": verdicts.lead(results.contests.head(name)),
        "table": summary(contenders),
        "metrics": applying(contenders),
        "categories": [
            (registry.column(metric).title, _category_table(contenders, metric))
            for metric in dict.fromkeys((headline(contenders), *registry.shown_in("categories")))
            if metric in applying(contenders)
        ],
        "figures": _figures(drawn, own) if drawn else [],
        "galleries": [shown for each in contenders if (shown := _gallery(each, own[id(each)]))],
    }


def _figures(contenders: Sequence[ContenderResult], cells: Mapping[int, Sequence[CellResult]]) -> list[str]:
    roc: dict[str, list[plots.Curves]] = {}
    for contender in contenders:  # two may have one name, and differ in the backbone only
        curves = [cell.curves["image"] for cell in cells[id(contender)]]
        roc.setdefault(contender.name, []).extend(curve for curve in curves if curve["fpr"])
    means, costs = plots.category_svg(contenders), plots.cost_svg(contenders)
    figures = [means, plots.roc_svg(roc) if any(roc.values()) else "", costs]
    return [figure for figure in figures if figure]


def _category_table(contenders: Sequence[ContenderResult], metric: str) -> Table:
    """Rows of categories and their mean, columns of contenders, means over seeds; the best of a row is marked."""
    column, means = registry.column(metric), [each.category_means(metric) for each in contenders]
    names = list(dict.fromkeys(str(name) for mean in means for name in mean.index))
    winners = best(contenders, metric)
    last = [_cell(each.means[metric], column, each in winners) for each in contenders]
    rows = [[name, *_cells([mean.get(name, math.nan) for mean in means], column)] for name in names]
    return Table(["category", *(each.name for each in contenders)], [*rows, ["mean", *last]], means=[len(names)])


def _cells(values: Sequence[float], column: Column) -> list[Cell]:
    return [_cell(value, column, mark) for value, mark in zip(values, leading(values, column), strict=True)]


def _cell(value: float, column: Column, is_best: bool) -> Cell:
    return Marked(column.format(value), "best") if is_best else column.format(value)


def _gallery(contender: ContenderResult, cells: Sequence[CellResult]) -> dict[str, Any] | None:
    """Strips of the contender's first seed, all on one scale."""
    first = min((cell.row["seed"] for cell in cells), default=0)
    folders = {str(cell.row["category"]): cell.gallery for cell in cells if cell.gallery and cell.row["seed"] == first}
    if not folders:
        return None
    scale = heatmaps.shared_scale(folders.values())
    kinds = []
    for kind, limit in SHOWN.items():
        found = heatmaps.hardest(folders, kind, limit)
        kinds.append((kind, [_strip(category, folder, entry, scale) for category, folder, entry in found]))
    low, high = (f"{value:.3g}" for value in scale)
    return {"name": contender.name, "seed": first, "low": low, "high": high, "kinds": kinds}


def _strip(category: str, folder: Path, entry: Entry, scale: Scale) -> dict[str, str]:
    other = "defects score no higher" if entry.kind == "hardest normal" else "normals score no lower"
    data = base64.b64encode(heatmaps.strip(folder, entry, scale)).decode()
    return {
        "uri": f"data:image/jpeg;base64,{data}",
        "title": f"{category} · {Path(entry.path).parent.name}/{Path(entry.path).name}",
        "text": f"score {entry.score:.3g}; {100 * entry.outranked:.0f} % of {other}",
    }
