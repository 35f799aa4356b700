"""What is published of a plan, without Prefect: results/, the leaderboard on the console, runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from adcore.core.costs import git_commit
from adcore.engine.bench import Bench
from adcore.papers import beside
from adcore.papers.measured import Run
from adcore.report import defects, enhancers, statistics, thresholds, timings
from adcore.report import leaderboard as boards
from adcore.report.html import write_links, write_report
from adcore.results.frame import Row, run_place
from adcore.results.run import Results
from tasks.tracking import Tracker, champions


def write_results(bench: Bench, name: str, results: Results) -> str:
    """All of results/ but what stands beside the data; first the table on the console, which a person waits for. The
    leaderboard as Markdown, "" where there are no rows.

    name: of the plan."""
    if results.table.empty:
        return ""
    folder = bench.layout.results
    folder.mkdir(parents=True, exist_ok=True)
    _write_tracebacks(folder / "failures.txt", results.failures)
    boards.console(results)
    published = beside.compare(Run.of(name, bench, results.table, {}, results.timings))
    boards.write_leaderboard(folder, results, published)
    enhancers.write(folder, results.effects)
    _write_picked(folder / "protocols.csv", results.picked)
    timings.write(folder, results.timings)
    statistics.write(folder, results.contests)
    thresholds.write(folder, results)
    defects.write(folder, results)
    write_report(folder / "report.html", results, published)
    return boards.markdown(results, published)


def log_runs(bench: Bench, name: str, results: Results) -> Tracker | None:
    """Log what was not logged before, with all metrics, and name the runs in results/leaderboard.csv; where they are,
    None where there are none. Raises TrackingError.

    Behind `write_results`, because results depend on nobody's database."""
    if not results.runs:
        return None
    tracker = Tracker(bench.layout.workspace)
    ids: dict[str, str] = {}
    runs: dict[str, str] = {}
    for dataset, version in bench.manifests.items():
        mine = [result for result in results.runs if result.dataset == dataset]
        logged = tracker.log_runs(mine, {"git_commit": git_commit(), "data_version": version, "plan": name})
        there = [result for result in mine if result.run_key in logged]
        ids |= {run_place(cell.row): logged[result.run_key] for result in there for cell in result.cells}
        runs |= {str(cell.row["key"]): logged[result.run_key] for result in there for cell in result.cells}
    champions.register(tracker, bench, champions.leaders(bench, results, runs))
    _write_links(bench.layout.results / "report.html", tracker, sorted(bench.manifests))
    boards.write_run_ids(bench.layout.results / "leaderboard.csv", ids)
    return tracker


def _write_links(report: Path, tracker: Tracker, datasets: Sequence[str]) -> None:
    if report.exists():
        where = "" if tracker.place.pages else " (make ui)"
        write_links(report, tracker.links(datasets), f"Its runs in MLflow{where}")


def _write_picked(path: Path, picked: pd.DataFrame) -> None:
    if picked.empty:
        path.unlink(missing_ok=True)
    else:
        boards.write_atomic(path, picked.to_csv(index=False, lineterminator="\n"))


def _write_tracebacks(path: Path, failures: Sequence[Row]) -> None:
    path.unlink(missing_ok=True)
    text = "\n".join(f"{boards.failure_text(failure)}\n{failure.get('traceback', '')}" for failure in failures)
    if text:
        boards.write_atomic(path, text)
