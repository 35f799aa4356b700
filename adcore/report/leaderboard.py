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
from adcore.results.contenders import ContenderResult, applying, best, shared_and_varying
from adcore.results.contests import Contests
from adcore.results.frame import Row, run_place, table_columns
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

    A contender is named by its method and whatever else differs among the dataset's."""
    found: dict[str, dict[str, float | None]] = {}
    for dataset, contenders in contests.contenders.items():
        _, varying = shared_and_varying(contenders)
        for contender in contenders:
            setting = contender.setting
            name = " ".join(filter(None, [setting["method_label"], *(setting[key] for key in varying), contender.mark]))
            values = {m: None if math.isnan(value) else round(value, 6) for m, value in contender.means.items()}
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
    for dataset, contenders in results.contests.contenders.items():
        parts += [f"## {dataset}", verdicts.lead(results.contests.head(dataset)), summary(contenders).markdown()]
        note = results.notes.get(dataset, "")
        parts += [f"Note: {note}"] if note else []
        printed = beside.shown(published, dataset)
        parts += ["### Beside the published numbers", printed.markdown()] if printed.rows else []
    if results.failures:
        parts += ["## Failures", "\n".join(f"* {line}" for line in failure_lines(results.failures))]
    return "\n\n".join(parts) + "\n"


def caption(contenders: Sequence[ContenderResult]) -> str:
    """What all contenders of a table share."""
    shared, _ = shared_and_varying(contenders)
    categories = counted(max(each.categories for each in contenders), "category", "categories")
    seeds = counted(max(each.seeds for each in contenders), "seed", "seeds")
    costs = [column for column in table_columns(contenders[0].cells, "cost") if _is_shared(contenders, column)]
    machine = [f"{column.title} {text}" for column in costs if (text := contenders[0].text(column))]
    settings = [f"{registry.column(name).title} {value}" for name, value in shared.items()]
    return "; ".join([*settings, categories, seeds, *machine])


def gmac() -> str:
    """What stands for multiply-accumulates, and what is not in them."""
    column = registry.column("macs")
    return f"{column.title}: {column.meaning}."


def summary(contenders: Sequence[ContenderResult], place: Place = "leaderboard") -> Table:
    """One row a contender, of the columns that are shown there; the best of each metric is marked."""
    _, varying = shared_and_varying(contenders)
    columns = _shown(contenders, place)
    settings = [registry.column(name).title for name in varying]
    header = ["method", *settings, *(column.heading for column in columns)]
    winners = {column.name: best(contenders, column.name) for column in columns if column.kind == "metric"}
    rows: list[list[Cell]] = []
    for contender in contenders:
        texts = {column.name: _text(contender, column) for column in columns}
        numbers = [Marked(text, "best") if contender in winners.get(n, ()) else text for n, text in texts.items()]
        rows.append([_method(contender), *(contender.setting[name] for name in varying), *numbers])
    return Table(header, rows, settings, caption(contenders))


def _method(contender: ContenderResult) -> str:
    count, failed = len(contender.cells), contender.failed
    remark = f"({failed} of {count} cells failed, not comparable)" if failed else ""
    return " ".join(filter(None, [contender.setting["method_label"], contender.mark, remark]))


def _shown(contenders: Sequence[ContenderResult], place: Place) -> list[Column]:
    """The metrics that apply, the one that ranks among them, and every other column that is shown there."""
    metrics = [registry.column(name) for name in applying(contenders)]
    shown = [column for column in metrics if place in column.shown] or metrics[:1]
    others = [column for column in table_columns(contenders[0].cells, "note", "cost") if place in column.shown]
    return shown + [
        column for column in others if not _is_shared(contenders, column) and not _is_bare(contenders, column)
    ]


def _is_bare(contenders: Sequence[ContenderResult], column: Column) -> bool:
    """Whether a note applies to none of them."""
    return column.kind == "note" and all(contender.cells[column.name].isna().all() for contender in contenders)


def _is_shared(contenders: Sequence[ContenderResult], column: Column) -> bool:
    """Whether a cost in words, such as the machine, is the same of all, so that the caption tells it."""
    return column.kind == "cost" and column.text and len({contender.text(column) for contender in contenders}) == 1


def _text(contender: ContenderResult, column: Column) -> str:
    if column.kind == "metric":
        return column.format(contender.means[column.name], contender.stds[column.name])
    return contender.text(column)


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
    for dataset, contenders in results.contests.contenders.items():
        out.print(summary(contenders, "console").console(f"{dataset} (%, best marked *)"))
        out.print(escape(verdicts.lead(results.contests.head(dataset))) + "\n")
    for line in failure_lines(results.failures):
        out.print(f"[red]failed[/red] {escape(line)}")
    if any(failure.get("traceback") for failure in results.failures):
        out.print("tracebacks: results/failures.txt")
