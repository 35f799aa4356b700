"""The leaderboard as CSV, Markdown, small JSON files for DVC, and a table on the console."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from adcore.core.columns import Column, Place
from adcore.core.disk import write_file
from adcore.core.words import counted
from adcore.engine import registry
from adcore.papers.beside import Beside
from adcore.report import beside, verdicts
from adcore.report.table import Cell, Marked, Table
from adcore.results.contests import Contests
from adcore.results.frame import Row, run_place, table_columns
from adcore.results.lines import (
    Line,
    applying,
    best,
    shared_and_varying,
)
from adcore.results.run import Results


def write_leaderboard(folder: Path, results: Results, published: Sequence[Beside] = ()) -> None:
    """Write leaderboard.csv, leaderboard.md and metrics/ into a folder, each file in one atomic step."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "leaderboard.csv", results.table.to_csv(index=False, lineterminator="\n"))
    write_atomic(folder / "leaderboard.md", markdown(results, published))
    _write_metrics(folder / "metrics", results.contests)


def write_run_ids(path: Path, runs: Mapping[str, str]) -> None:
    """Name the MLflow runs in a leaderboard.csv that is there, and change nothing else; runs: `run_place` -> run id."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    table["mlflow_run_id"] = [runs.get(run_place(row), "") for row in table.to_dict("records")]
    write_atomic(path, table.to_csv(index=False, lineterminator="\n"))


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    write_file(path, text.encode())


def headline_metrics(contests: Contests) -> dict[str, dict[str, float | None]]:
    """`DATASET/CONTENDER` -> metric -> mean over categories and seeds (6 decimals, None for NaN).

    A contender is its method and whatever else differs among the dataset's lines."""
    found: dict[str, dict[str, float | None]] = {}
    for dataset, lines in contests.lines.items():
        _, varying = shared_and_varying(lines)
        for line in lines:
            parts = [line.setting["method_label"], *(line.setting[key] for key in varying), line.mark]
            name = " ".join(filter(None, parts))
            values = {m: None if math.isnan(value) else round(value, 6) for m, value in line.means.items()}
            found[f"{dataset}/{name.replace('/', '-')}"] = values
    return found


def _write_metrics(folder: Path, contests: Contests) -> None:
    """One small file a contender, so that `dvc metrics show` has a line for each; those of other plans go."""
    found = {folder / f"{name}.json": values for name, values in headline_metrics(contests).items()}
    for path, values in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(values, indent=2) + "\n")
    for path in set(folder.glob("*/*.json")) - found.keys():
        path.unlink(missing_ok=True)


def markdown(results: Results, published: Sequence[Beside] = ()) -> str:
    """Summary tables as Markdown: a verdict, the shared settings, a table and the note for each dataset, what papers
    print of it, then the failures."""
    lead = "Percent; mean over categories of the mean over seeds, ± over seeds. Best in bold."
    parts = ["# Leaderboard", f"{lead} {gmac()}"]
    for dataset, lines in results.contests.lines.items():
        parts += [f"## {dataset}", verdicts.lead(results.contests.head(dataset)), summary(lines).markdown()]
        note = results.notes.get(dataset, "")
        parts += [f"Note: {note}"] if note else []
        printed = beside.shown(published, dataset)
        parts += ["### Beside the published numbers", printed.markdown()] if printed.rows else []
    if results.failures:
        parts += ["## Failures", "\n".join(f"* {line}" for line in failure_lines(results.failures))]
    return "\n\n".join(parts) + "\n"


def caption(lines: Sequence[Line]) -> str:
    """What all lines of a table share."""
    shared, _ = shared_and_varying(lines)
    categories = counted(max(line.categories for line in lines), "category", "categories")
    seeds = counted(max(line.seeds for line in lines), "seed", "seeds")
    return "; ".join([*(f"{registry.column(n).title} {value}" for n, value in shared.items()), categories, seeds])


def gmac() -> str:
    """What stands for multiply-accumulates, and what is not in them."""
    column = registry.column("macs")
    return f"{column.title}: {column.meaning}."


def summary(lines: Sequence[Line], place: Place = "leaderboard") -> Table:
    """One row a line, of the columns that are shown there; the best of each metric is marked."""
    _, varying = shared_and_varying(lines)
    columns = _shown(lines, place)
    settings = [registry.column(name).title for name in varying]
    header = ["method", *settings, *(column.heading for column in columns)]
    winners = {column.name: best(lines, column.name) for column in columns if column.kind == "metric"}
    rows: list[list[Cell]] = []
    for line in lines:
        texts = {column.name: _text(line, column) for column in columns}
        numbers = [Marked(text, "best") if line in winners.get(n, ()) else text for n, text in texts.items()]
        rows.append([_contender(line), *(line.setting[name] for name in varying), *numbers])
    return Table(header, rows, settings, caption(lines))


def _contender(line: Line) -> str:
    failed = f"({line.failed} of {len(line.cells)} cells failed, not comparable)" if line.failed else ""
    return " ".join(filter(None, [line.setting["method_label"], line.mark, failed]))


def _shown(lines: Sequence[Line], place: Place) -> list[Column]:
    """The metrics that apply, the one that ranks among them, and every other column that is shown there."""
    metrics = [registry.column(name) for name in applying(lines)]
    shown = [column for column in metrics if place in column.shown] or metrics[:1]
    return shown + [column for column in table_columns(lines[0].cells, "note", "cost") if place in column.shown]


def _text(line: Line, column: Column) -> str:
    if column.kind == "metric":
        return column.format(line.means[column.name], line.stds[column.name])
    return line.text(column)


def failure_text(failure: Row, varying: Sequence[str] = (), more: int = 0) -> str:
    """`elpv · mono · cfa: RuntimeError ...`, from whichever names the failure has. varying: further ones to tell.
    more: how many other cells have failed so."""
    names = ("dataset", "category", "method_label", *varying)
    where = " · ".join(str(failure[k]) for k in names if failure.get(k))
    others = f" (and {counted(more, 'more cell', 'more cells')})" if more else ""
    return f"{where}{others}: {failure['error']}"


def failure_lines(failures: Sequence[Row]) -> list[str]:
    """Each error once, with the cell that it was met in first, and how many more there are."""
    settings = ("protocol_label", "enhancer_label", "backbone", "image")
    varying = [name for name in settings if len({failure[name] for failure in failures if name in failure}) > 1]
    by_error: dict[str, list[Row]] = {}
    for failure in failures:
        by_error.setdefault(str(failure["error"]), []).append(failure)
    return [failure_text(first, varying, len(more)) for first, *more in by_error.values()]


def console(results: Results) -> None:
    """Print the summary tables and verdicts to stderr (stdout belongs to the flow's last line)."""
    from rich.console import Console
    from rich.markup import escape

    out = Console(stderr=True)
    for dataset, lines in results.contests.lines.items():
        out.print(summary(lines, "console").console(f"{dataset} (%, best marked *)"))
        out.print(escape(verdicts.lead(results.contests.head(dataset))) + "\n")
    for line in failure_lines(results.failures):
        out.print(f"[red]failed[/red] {escape(line)}")
    if any(failure.get("traceback") for failure in results.failures):
        out.print("tracebacks: results/failures.txt")
