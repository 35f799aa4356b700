"""Two workspaces over one store: what one has computed the other has, and nothing is lost where the store is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adcore
from adcore.core.remote import Remote
from adcore.core.store import Store
from adcore.engine.bench import Layout, reopened
from adcore.methods.padim import PaDiM
from adcore.results.frame import read, same
from flows import stages
from flows.benchmark import benchmark
from flows.leaderboard import leaderboard

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]


def run(plan: Path, workspace: Path, flow: Callable[..., Any] = benchmark) -> dict[str, Any]:
    outcome = flow(plan=str(plan), workspace=str(workspace), return_state=True).result(raise_on_failure=False)
    assert isinstance(outcome, dict), outcome
    return outcome


def held(workspace: Path) -> dict[str, int]:
    """Kind -> artifacts that lie in a workspace."""
    kinds = (workspace / ".cache/adcore/store").iterdir()
    return {kind.name: len(list(kind.iterdir())) for kind in kinds if kind.name not in ("tmp", "locks")}


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the environment names as the store of all machines."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("ADCORE_STORE", f"file://{tmp_path / 'shared'}")
    return tmp_path / "shared"


@pytest.fixture
def other(tmp_path: Path, work: Path) -> Path:
    """Another empty workspace."""
    shutil.copytree(work, tmp_path / "other")
    return tmp_path / "other"


def test_what_one_machine_has_computed_another_only_reads(
    plan_file: PlanFile, work: Path, other: Path, bucket: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("ADCORE_STORE", f"{bucket}/adcore")
    plan = plan_file()
    assert run(plan, work)["last_line"] == "cells: 4 computed, 0 cached, 0 failed"
    loaded, layout = adcore.load_plan(plan), Layout(other)
    capsys.readouterr()
    assert stages.list_missing(loaded, layout)
    assert capsys.readouterr().out == "cells: 0 computed, 4 cached, 0 failed\n"
    assert "cell" not in held(other)  # planned by listing
    assert run(plan, other)["last_line"] == "cells: 0 computed, 4 cached, 0 failed"
    boards = [read(folder / "results/leaderboard.csv") for folder in (work, other)]
    assert same(*boards)
    assert boards[0]["score_ms"].tolist() == boards[1]["score_ms"].tolist()  # measured once, on the first machine
    assert "fit" in held(work) and not {"fit", "maps"} & set(held(other))
    assert same(boards[0], adcore.read_results(loaded, other))


def test_a_machine_goes_on_where_another_has_stopped(
    plan_file: PlanFile, work: Path, other: Path, shared: Path
) -> None:
    run(plan_file(methods=["padim"]), work)
    for kind in ("cell", "gallery"):
        shutil.rmtree(shared / kind)
    assert run(plan_file(methods=["padim"]), other)["last_line"] == "cells: 2 computed, 0 cached, 0 failed"
    assert held(other)["maps"] == 2 and "fit" not in held(other)  # evaluated from the other machine's maps
    assert same(*(read(folder / "results/leaderboard.csv") for folder in (work, other)))


def test_a_store_that_comes_later_is_given_what_is_there(
    plan_file: PlanFile, work: Path, other: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_file(methods=["padim"])
    with monkeypatch.context() as without:
        without.delenv("ADCORE_STORE")
        run(plan, work)
    reopened.cache_clear()  # of this process; a command has one environment
    assert not list(shared.iterdir())
    assert run(plan, work)["last_line"] == "cells: 0 computed, 2 cached, 0 failed"
    assert run(plan, other, leaderboard)["last_line"] == "cells: 0 computed, 2 cached, 0 failed"


def test_a_damaged_cell_is_told_and_computed_by_the_next_run(
    plan_file: PlanFile, work: Path, other: Path, shared: Path
) -> None:
    plan = plan_file(methods=["padim"])
    run(plan, work)
    next((shared / "cell").iterdir()).write_bytes(b"damaged")
    assert run(plan, other)["last_line"] == "cells: 0 computed, 1 cached, 1 failed"
    assert "they were damaged and are removed" in (other / "results/failures.txt").read_text()
    assert run(plan, other)["last_line"] == "cells: 1 computed, 1 cached, 0 failed"
    assert same(*(read(folder / "results/leaderboard.csv") for folder in (work, other)))


def test_where_the_store_goes_away_nothing_is_lost(
    plan_file: PlanFile, work: Path, other: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_file(methods=["padim"])
    fit = PaDiM.fit

    def and_lose_the_store(self: PaDiM, *given: Any) -> Any:
        if shared.is_dir():
            shared.rename(shared.with_name("away"))
            shared.write_text("no folder any more")
        return fit(self, *given)

    with monkeypatch.context() as lossy:
        lossy.setattr(PaDiM, "fit", and_lose_the_store)
        assert run(plan, work)["last_line"] == "cells: 0 computed, 0 cached, 2 failed"
    told = (work / "results/failures.txt").read_text()
    assert f"RemoteGone: the store file://{shared} cannot be used any more" in told
    shared.unlink()
    shared.with_name("away").rename(shared)
    fits = {path: path.stat().st_ino for path in (work / ".cache/adcore/store/fit").iterdir()}
    assert len(fits) == 2
    assert run(plan, work)["last_line"] == "cells: 2 computed, 0 cached, 0 failed"
    assert all(path.stat().st_ino == number for path, number in fits.items())
    assert run(plan, other)["last_line"] == "cells: 0 computed, 2 cached, 0 failed"


def test_a_store_that_cannot_be_used_ends_a_command_before_anything(
    plan_file: PlanFile, tmp_path: Path, bucket: str
) -> None:
    command = [sys.executable, "-m", "flows.benchmark", "--plan", str(plan_file()), "--workspace", str(tmp_path / "w")]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--store", f"{bucket}-of-nobody"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the store {bucket}-of-nobody cannot be used: there is no such bucket")
    assert not (tmp_path / "w/.cache/adcore/store").exists()
    assert time.monotonic() - began < 60  # twenty seconds of it are the store's, the rest is this machine's imports


@pytest.mark.slow
def test_a_command_is_given_its_store(plan_file: PlanFile, tmp_path: Path, bucket: str) -> None:
    plan, workspace = plan_file(methods=["padim"]), tmp_path / "w"
    command = [sys.executable, "-m", "flows.benchmark", "--plan", str(plan), "--workspace", str(workspace)]
    done = subprocess.run([*command, "--store", bucket], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("traceback|unclosed|warning|exception", done.stderr, re.IGNORECASE), done.stderr
    shared = Remote(bucket)
    assert [len(shared.keys(kind)) for kind in ("cell", "maps", "gallery", "latency", "fit")] == [2, 2, 2, 1, 0]
    key = next(iter(shared.keys("cell")))
    assert Store(tmp_path / "empty", (), shared).has("cell", key)
