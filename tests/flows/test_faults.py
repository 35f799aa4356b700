"""SIGKILL at any instant, and two runs at once: nothing is lost, doubled or corrupted."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from adcore.core.store import intact
from adcore.results.frame import read, same

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]
METHODS = ["padim", {"name": "patchcore", "coreset": 0.5}, {"name": "cfa", "epochs": 2}]

pytestmark = pytest.mark.slow


def start(plan: Path, workspace: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.benchmark", "--plan", str(plan), "--workspace", str(workspace)]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out.splitlines()[-1]


def check(workspace: Path, undisturbed: Path) -> None:
    """The leaderboard is the undisturbed one, every artifact is whole, and no MLflow run is doubled or left open."""
    boards = [read(folder / "results" / "leaderboard.csv") for folder in (workspace, undisturbed)]
    assert same(*boards)
    store = workspace / ".cache/adcore/store"
    for kind in ("fit", "maps", "cell", "gallery", "latency"):
        assert all(intact(folder) for folder in (store / kind).iterdir())
    with sqlite3.connect(workspace / "mlflow.db") as database:
        runs = database.execute("SELECT value, status FROM tags JOIN runs USING (run_uuid) WHERE key = 'run_key'")
        found = Counter(runs.fetchall())
    assert len(found) == len(METHODS)
    assert set(found.values()) == {1}
    assert {status for _, status in found} == {"FINISHED"}


@pytest.fixture
def undisturbed(plan_file: PlanFile, tmp_path: Path) -> Path:
    assert finish(start(plan_file(methods=METHODS), tmp_path / "quiet")) == "cells: 6 computed, 0 cached, 0 failed"
    return tmp_path / "quiet"


def kill_at_step(process: subprocess.Popen[str], step: str, delay: float) -> None:
    """SIGKILL `delay` seconds after the run tells of that step; a run that has no such step left ends by itself."""
    assert process.stderr is not None
    for line in process.stderr:
        if step in line:
            time.sleep(delay)
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_kills_lose_nothing(plan_file: PlanFile, tmp_path: Path, undisturbed: Path) -> None:
    plan, workspace = plan_file(methods=METHODS), tmp_path / "work"
    steps = ["extract parts/bolt", "fit parts/bolt padim", "score parts/bolt patchcore", "evaluate parts/bolt cfa"]
    steps += ["fit parts/cloth cfa", "evaluate parts/cloth cfa"]
    for number, step in enumerate(steps):
        kill_at_step(start(plan, workspace), step, delay=0.05 * (number % 3))
    for delay in (8, 11):  # in publishing, or wherever the machine is by then
        process = start(plan, workspace)
        time.sleep(delay)
        process.kill()
        process.communicate()
    last = finish(start(plan, workspace))
    assert last.endswith("0 failed")
    check(workspace, undisturbed)
    assert finish(start(plan, workspace)) == "cells: 0 computed, 6 cached, 0 failed"
    assert not list((workspace / ".cache/adcore/store/tmp").glob("*/*"))


def test_two_runs_at_once_share_the_work(plan_file: PlanFile, tmp_path: Path, undisturbed: Path) -> None:
    plan, workspace = plan_file(methods=METHODS), tmp_path / "work"
    pair = [start(plan, workspace), start(plan, workspace)]
    for process in pair:
        finish(process)
    check(workspace, undisturbed)


def test_kills_in_fine_tuning_lose_nothing(plan_file: PlanFile, tmp_path: Path) -> None:
    """Killed again and again while enhancers are trained, a run ends with the metrics of one left alone."""
    plan = plan_file(
        enhancers=["none", {"name": "sbm+pfam", "epochs": 6, "min_steps": 0, "pool_kv": 4}], methods=["padim"]
    )
    assert finish(start(plan, tmp_path / "quiet")) == "cells: 4 computed, 0 cached, 0 failed"
    workspace = tmp_path / "work"
    for number, step in enumerate(["enhance sbm of parts/bolt", "enhance pfam of parts/bolt", "enhance pfam"] * 2):
        kill_at_step(start(plan, workspace), step, delay=1 + 0.7 * (number % 3))
    finish(start(plan, workspace))
    boards = [read(folder / "results" / "leaderboard.csv") for folder in (workspace, tmp_path / "quiet")]
    assert same(*boards)
    cache = workspace / ".cache/adcore"
    assert all(intact(folder) for folder in (cache / "store/enhancer").iterdir())
    assert not list((cache / "checkpoints").iterdir()) and not list((cache / "store/tmp").glob("*/*"))
