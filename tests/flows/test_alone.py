"""What a command does without Prefect where nobody's server is there: publish a plan of which all is there."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adcore.core import plan as plans
from adcore.engine.bench import Layout
from adcore.results.frame import read, same
from flows.benchmark import alone, benchmark, meanwhile
from tasks import publishing
from tasks.tracking import TrackingError

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]


def given(plan: Path, workspace: Path, **others: Any) -> argparse.Namespace:
    arguments = {"plan": str(plan), "workspace": str(workspace), "only": [], "cluster": "", "ray": ""}
    return argparse.Namespace(**{**arguments, **others})


@pytest.fixture
def finished(plan_file: PlanFile, work: Path) -> argparse.Namespace:
    """A plan that was run."""
    plan = plan_file(methods=["padim"])
    benchmark(plan=str(plan), workspace=str(work), return_state=True)
    return given(plan, work)


def test_all_of_results_is_written_again(finished: argparse.Namespace) -> None:
    results = Path(finished.workspace) / "results"
    before = {path.relative_to(results): path.read_bytes() for path in results.rglob("*") if path.is_file()}
    shutil.copy(results / "leaderboard.csv", Path(finished.workspace) / "kept.csv")
    for path in results.rglob("*.*"):
        if path.is_file() and path.name != "leaderboard.csv":
            path.unlink()
    alone(finished)
    assert {path.relative_to(results): path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_it_counts_as_the_flow_does(finished: argparse.Namespace) -> None:
    summary = alone(finished)
    assert summary == {
        "computed": 0, "cached": 2, "failed": 0, "untracked": "", "last_line": "cells: 0 computed, 2 cached, 0 failed",
    }  # fmt: skip


@pytest.mark.parametrize("others", [{"only": ["a group"]}, {"ray": "auto"}, {"cluster": "cluster.yaml"}])
def test_other_work_is_left_to_the_flow(plan_file: PlanFile, tmp_path: Path, others: dict[str, Any]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "leaderboard.csv").touch()
    assert alone(given(plan_file(), tmp_path, **others)) is None


def test_what_is_missing_is_left_to_the_flow(finished: argparse.Namespace, tmp_path: Path) -> None:
    left: dict[str, bool] = {}
    for kind in ("cell", "latency", "gallery", "manifest"):
        folder = Layout.of(finished.workspace).cache / "store" / kind
        folder.rename(tmp_path / kind)
        left[kind] = alone(finished) is None
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / kind).rename(folder)
    assert left == {"cell": True, "latency": True, "gallery": True, "manifest": False}  # which is only read again


def test_a_first_run_is_left_to_the_flow(plan_file: PlanFile, tmp_path: Path) -> None:
    assert alone(given(plan_file(), tmp_path / "none")) is None


def test_why_runs_were_not_logged_is_told(finished: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TrackingError("nobody answers")

    monkeypatch.setattr(publishing, "log_runs", refuse)
    summary = alone(finished)
    assert summary is not None
    assert summary["untracked"] == "nobody answers"


def test_no_server_of_prefect_is_started_for_it(finished: argparse.Namespace) -> None:
    board, home = Path(finished.workspace) / "results" / "leaderboard.csv", Path(finished.workspace) / "home"
    before = read(board)
    command = [sys.executable, "-m", "flows.benchmark", "--plan", finished.plan, "--workspace", finished.workspace]
    environment = {**os.environ, "PREFECT_API_URL": "", "PREFECT_HOME": str(home)}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.splitlines()[-1] == "cells: 0 computed, 2 cached, 0 failed"
    assert same(read(board), before)
    assert not (home / "server.log").exists()


def test_data_are_read_while_a_server_starts(plan_file: PlanFile, tmp_path: Path) -> None:
    meanwhile(given(plan_file(), tmp_path))
    assert (Layout.of(tmp_path).manifests / "parts.csv").exists()


def test_what_goes_wrong_meanwhile_is_left_to_the_flow(
    plan_file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("a disk fell off")

    monkeypatch.setattr(plans, "load", fail)
    meanwhile(given(plan_file(), tmp_path))
    assert not (Layout.of(tmp_path).manifests / "parts.csv").exists()
