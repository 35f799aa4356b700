"""Finished cells to MLflow, to results/ and to Prefect's artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from adcore.core.costs import git_commit
from adcore.engine.bench import reopened
from adcore.papers import beside
from adcore.papers.measured import Run
from adcore.report import enhancers, statistics, timings
from adcore.report import leaderboard as boards
from adcore.report.html import write_report
from adcore.results.contests import Contests
from adcore.results.frame import Row, run_place
from adcore.results.run import Results
from tasks.tracking import Tracker, view_url


@task(name="track", task_run_name="log runs to MLflow", cache_policy=NO_CACHE)
def track(plan: str, workspace: str, manifests: str, name: str, results: Results) -> None:
    """Log what was not logged before, with all metrics, and name the runs in results/leaderboard.csv.

    Behind `leaderboard`, because results depend on nobody's database. Raises TrackingError."""
    bench = reopened(plan, workspace, manifests)
    tracker = Tracker(Path(workspace))
    if not results.groups:
        return
    runs: dict[str, str] = {}
    for dataset, version in bench.manifests.items():
        mine = [group for group in results.groups if group.dataset == dataset]
        ids = tracker.log_groups(mine, {"git_commit": git_commit(), "data_version": version, "plan": name})
        logged = [group for group in mine if group.run_key in ids]
        runs |= {run_place(result.row): ids[group.run_key] for group in logged for result in group.results}
    boards.write_run_ids(bench.layout.results / "leaderboard.csv", runs)
    create_link_artifact(key="mlflow", link=view_url(tracker.experiment_id), link_text="MLflow leaderboard (make ui)")


@task(name="leaderboard", task_run_name="write results", cache_policy=NO_CACHE)
def leaderboard(plan: str, workspace: str, manifests: str, name: str, results: Results) -> None:
    """All of results/ but what stands beside the data; a table on console and in Prefect."""
    if results.table.empty:
        return
    bench = reopened(plan, workspace, manifests)
    folder = bench.layout.results
    published = beside.compare(Run.of(name, bench, results.table, {}, results.timings))
    boards.write_leaderboard(folder, results, published)
    enhancers.write(folder, results.effects)
    _write_picked(folder / "protocols.csv", results.picked)
    timings.write(folder, results.timings)
    statistics.write(folder, results.contests)
    write_report(folder / "report.html", results, published)
    _write_tracebacks(folder / "failures.txt", results.failures)
    boards.console(results)
    description = boards.markdown(results, published)
    create_table_artifact(key="leaderboard", table=_table(results.contests), description=description)
    create_link_artifact(key="report", link=(folder / "report.html").as_uri(), link_text="report.html")


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


def _table(contests: Contests) -> list[dict[str, Any]]:
    found = []
    for dataset, lines in contests.lines.items():
        table = boards.summary(lines)
        found += [{"dataset": dataset, **dict(zip(table.header, row, strict=True))} for row in table.texts]
    return found
