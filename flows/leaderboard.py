"""Publish the finished cells of a plan, computing none: results/, MLflow, Prefect artifacts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.core.store import Remembering
from adcore.results import finished
from adcore.results.run import gather
from flows import command, stages
from flows._heartbeat import untagged


@flow(name="leaderboard")
@untagged
def leaderboard(plan: str = "params.yaml", workspace: str = "") -> State[Any]:
    """Write the leaderboard of what the store holds."""
    loaded, layout = command.opened(plan, workspace)
    bench, lost = stages.prepare_all(loaded, layout)
    failed = finished.failed_rows(bench, lost)
    failures = [asdict(failure) for failure in lost]
    results = gather(bench, Remembering(bench.store), Path(plan).stem, failed, failures)
    untracked = stages.publish_all(bench, Path(plan).stem, results)
    there = len(results.finished)
    line = f"cells: 0 computed, {there} cached, {len(failed)} failed"
    missing = len(bench.cells) - there
    if missing:
        line = f"{missing} cells are not computed yet: python -m flows.benchmark --plan {plan}\n{line}"
    state = Failed if failed or untracked else Completed
    return state(message=line, data={"failed": len(failed), "untracked": untracked, "last_line": line})


if __name__ == "__main__":
    command.run(leaderboard, command.arguments(__doc__))
