"""The leaderboard as CSV, Markdown, small JSON files for DVC, and a table on the console."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from adcore import registry
from adcore.core.columns import Column, Place
from adcore.core.words import counted
from adcore.disk import write_file
from adcore.papers.beside import Beside
from adcore.report import beside, verdicts
from adcore.results.contest import Contests
from adcore.results.frame import Row, run_place, table_columns
from adcore.results.lines import (
    Line,
    applying,
    best,
    shared_and_varying,
)

if TYPE_CHECKING:
    from rich.table import Table


def write_leaderboard(
    folder: Path,
    contests: Contests,
    failures: Sequence[Row] = (),
    published: Sequence[Beside] = (),
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write leaderboard.csv, leaderboard.md and metrics/ into a folder, each file in one atomic step.

    notes: dataset -> what its numbers must not be read without."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "leaderboard.csv", contests.table.to_csv(index=False, lineterminator="\n"))
    write_atomic(folder / "leaderboard.md", markdown(contests, failures, published, notes))
    _write_metrics(folder / "metrics", contests)


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


def markdown(
    contests: Contests,
    failures: Sequence[Row] = (),
    published: Sequence[Beside] = (),
    notes: Mapping[str, str] | None = None,
) -> str:
    """Summary tables as Markdown: a verdict, the shared settings, a table and the note for each dataset, what papers
    print of it, then the failures."""
    lead = "Percent; mean over categories of the mean over seeds, ± over seeds. Best in bold."
    parts = ["# Leaderboard", f"{lead} {gmac()}"]
    for dataset, lines in contests.lines.items():
        header, body = cells(lines, bold="**{}**")
        parts += [f"## {dataset}", verdicts.lead(contests.head(dataset)), grid(header, body), caption(lines)]
        note = (notes or {}).get(dataset, "")
        parts += [f"Note: {note}"] if note else []
        printed = beside.shown(published, dataset)
        if printed:
            parts += ["### Beside the published numbers", grid(beside.HEADER, printed, beside.WORDS)]
    if failures:
        parts += ["## Failures", "\n".join(f"* {failure_text(failure)}" for failure in failures)]
    return "\n\n".join(parts) + "\n"


def grid(header: Sequence[str], body: Sequence[Sequence[str]], words: Collection[str] = ()) -> str:
    """A Markdown table; all columns but the first and those named in `words` are numbers and stand right."""
    rule = ["---" if name in {header[0], *words} else "---:" for name in header]
    return "\n".join(
        "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in [header, rule, *body]
    )


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


def cells(lines: Sequence[Line], bold: str, place: Place = "leaderboard") -> tuple[list[str], list[list[str]]]:
    """Header and rows of a summary table as text, of the columns that are shown there; `bold` formats the best."""
    _, varying = shared_and_varying(lines)
    table = _shown(lines, place)
    header = ["method", *(registry.column(name).title for name in varying), *(column.title for column in table)]
    winners = {column.name: best(lines, column.name) for column in table if column.kind == "metric"}
    rows = []
    for line in lines:
        failed = f" ({line.failed} of {len(line.cells)} cells failed, not comparable)" if line.failed else ""
        row = [" ".join(filter(None, [line.setting["method_label"], line.mark])) + failed]
        row += [line.setting[name] for name in varying]
        texts = {column.name: _text(line, column) for column in table}
        rows.append([*row, *(bold.format(t) if line in winners.get(n, ()) else t for n, t in texts.items())])
    return header, rows


def _shown(lines: Sequence[Line], place: Place) -> list[Column]:
    """The metrics that apply, and every other column that is shown there and in the table."""
    metrics = [registry.column(name) for name in applying(lines)]
    every = [*metrics, *table_columns(lines[0].cells, "note", "cost")]
    return [column for column in every if place in column.shown]


def _text(line: Line, column: Column) -> str:
    if column.kind == "metric":
        return column.format(line.means[column.name], line.stds[column.name])
    return line.text(column)


def failure_text(failure: Row) -> str:
    """`elpv · mono · cfa: RuntimeError ...`, from whichever names the failure has."""
    where = " · ".join(str(failure[k]) for k in ("dataset", "category", "method_label") if failure.get(k))
    return f"{where}: {failure['error']}"


def console(contests: Contests, failures: Sequence[Row] = ()) -> None:
    """Print the summary tables and verdicts to stderr (stdout belongs to the flow's last line)."""
    from rich.console import Console
    from rich.markup import escape

    out = Console(stderr=True)
    for dataset, lines in contests.lines.items():
        out.print(_console_table(dataset, lines))
        out.print(escape(verdicts.lead(contests.head(dataset))) + "\n")
    for failure in failures:
        out.print(f"[red]failed[/red] {escape(failure_text(failure))}")


def _console_table(dataset: str, lines: Sequence[Line]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    header, body = cells(lines, bold="*{}", place="console")
    title = escape(f"{dataset} (%, best marked *)")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.caption, table.caption_justify = escape(caption(lines)), "left"
    table.add_column(header[0], min_width=14, overflow="fold")
    for name in header[1:]:
        table.add_column(escape(name.replace(" ", "\n", 1)), justify="right", no_wrap=True)
    for row in body:
        table.add_row(*map(escape, row))
    return table
