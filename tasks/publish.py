"""Finished cells to MLflow, to results/ and to Prefect's artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from adcore import registry
from adcore.bench import Bench, reopened
from adcore.costs import environment, git_commit
from adcore.papers import beside
from adcore.papers.measured import Run
from adcore.report import enhancers, statistics, timings
from adcore.report import leaderboard as boards
from adcore.report.html import write_report
from adcore.results import effects
from adcore.results.contest import Contests
from adcore.results.frame import frame, run_place
from adcore.results.groups import CellResult, group_rows
from adcore.results.samples import samples
from adcore.results.trained import Trained, cautions
from tasks.tracking import Tracker, view_url

Row = dict[str, Any]


@task(name="track", task_run_name="log runs to MLflow", cache_policy=NO_CACHE)
def track(plan: str, workspace: str, manifests: str, name: str) -> None:
    """Log what was not logged before, with all metrics, and name the runs in results/leaderboard.csv.

    Behind `leaderboard`, because results depend on nobody's database. Raises TrackingError."""
    bench = reopened(plan, workspace, manifests)
    tracker = Tracker(Path(workspace))
    groups = group_rows(bench.finished(list(registry.metrics())))
    if not groups:
        return
    runs: dict[str, str] = {}
    for dataset, version in bench.manifests.items():
        mine = [group for group in groups if group.dataset == dataset]
        ids = tracker.log_groups(mine, {"git_commit": git_commit(), "data_version": version, "plan": name})
        logged = [group for group in mine if group.run_key in ids]
        runs |= {run_place(result.row): ids[group.run_key] for group in logged for result in group.results}
    boards.write_run_ids(bench.layout.results / "leaderboard.csv", runs)
    create_link_artifact(key="mlflow", link=view_url(tracker.experiment_id), link_text="MLflow leaderboard (make ui)")


@task(name="leaderboard", task_run_name="write results", cache_policy=NO_CACHE)
def leaderboard(plan: str, workspace: str, manifests: str, name: str, failed: list[Row], failures: list[Row]) -> None:
    """results/leaderboard.csv, leaderboard.md, metrics/, statistics.*, report.html; a table on console and in Prefect.

    `failed` are rows of cells without numbers, `failures` say why.
    """
    bench = reopened(plan, workspace, manifests)
    results = bench.finished(bench.plan.metrics)
    rows = [*(result.row for result in results), *failed]
    if not rows:
        return
    folder = bench.layout.results
    contests = Contests(frame(rows), lambda: samples(bench.store, results))
    published = beside.compare(Run.of(name, bench, contests.table, {}))
    trained = _trained(results)
    remarks = _remarks(bench.remarks(), trained)
    boards.write_leaderboard(folder, contests, failures, published, remarks)
    compared, timed = _compared(bench, contests), bench.timings()
    enhancers.write(folder, compared)
    _write_picked(folder / "protocols.csv", bench)
    timings.write(folder, timed)
    statistics.write(folder, contests)
    facts = _facts(bench.plan.evaluate_at, name)
    write_report(
        folder / "report.html",
        contests,
        results,
        failures,
        remarks,
        facts,
        effects=compared,
        timings=timed,
        trained=trained,
        published=published,
    )
    _write_tracebacks(folder / "failures.txt", failures)
    boards.console(contests, failures)
    description = boards.markdown(contests, failures, published, remarks)
    create_table_artifact(key="leaderboard", table=_table(contests), description=description)
    create_link_artifact(key="report", link=(folder / "report.html").as_uri(), link_text="report.html")


def _write_picked(path: Path, bench: Bench) -> None:
    picked = bench.picked()
    if picked.empty:
        path.unlink(missing_ok=True)
    else:
        boards.write_atomic(path, picked.to_csv(index=False, lineterminator="\n"))


def _compared(bench: Bench, contests: Contests) -> list[effects.Effect]:
    controls = {label: chain.control for label, chain in bench.chains.items() if chain.control}
    parts = {label: chain.parts for label, chain in bench.chains.items()}
    return effects.compare(contests, bench.textures, controls, parts)


def _trained(results: list[CellResult]) -> list[Trained]:
    return list(dict.fromkeys(training for result in results for training in result.trained))


def _remarks(notes: dict[str, str], trained: list[Trained]) -> dict[str, str]:
    warnings = cautions(trained)
    return {name: "; ".join(filter(None, (note, *warnings.get(name, ())))) for name, note in notes.items()}


def _write_tracebacks(path: Path, failures: list[Row]) -> None:
    path.unlink(missing_ok=True)
    text = "\n".join(f"{boards.failure_text(failure)}\n{failure.get('traceback', '')}" for failure in failures)
    if text:
        boards.write_atomic(path, text)


def _facts(evaluate_at: str, name: str) -> dict[str, str]:
    versions = environment()["versions"]
    resolution = "the network's input" if evaluate_at == "input" else "the original images"
    return {
        "plan": name,
        "code": git_commit() or "outside a git checkout",
        "pixel metrics at": f"the resolution of {resolution}",
        "versions": ", ".join(f"{library} {version}" for library, version in versions.items()),
    }


def _table(contests: Contests) -> list[Row]:
    found = []
    for dataset, lines in contests.lines.items():
        table = boards.summary(lines)
        found += [{"dataset": dataset, **dict(zip(table.header, row, strict=True))} for row in table.texts]
    return found
