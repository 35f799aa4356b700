"""A plan on two nodes: equal to one machine's, and whole again after a node or the driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adcore.results.frame import read, same
from tests.cluster.conftest import CELLS
from tests.cluster.nodes import REPO, Nodes, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
pytest.importorskip("prefect_ray", reason="make test-cluster installs Ray")


def drive(nodes: Nodes, plan: Path, workspace: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.benchmark", "--plan", str(plan), "--workspace", str(workspace), *arguments]
    return subprocess.Popen(
        command, cwd=REPO, env=nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    """Its last line. It ended well."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return out.strip().splitlines()[-1]


def cells(folder: Path) -> set[str]:
    """Keys of the cells that lie in a workspace."""
    return {path.name for path in (folder / ".cache/adcore/store/cell").glob("*")}


@pytest.fixture
def on_nodes(nodes: Nodes, bucket: str) -> tuple[str, ...]:
    """The arguments of a run on them."""
    nodes.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return "--ray", nodes.head, "--store", f"{bucket}/adcore"


@pytest.fixture
def alone(nodes: Nodes, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace of a run on this machine alone."""
    monkeypatch.delenv("ADCORE_STORE", raising=False)
    assert ended(drive(nodes, plan, tmp_path / "alone")) == f"cells: {CELLS} computed, 0 cached, 0 failed"
    return tmp_path / "alone"


def test_a_killed_node_costs_nothing_but_time(
    nodes: Nodes, plan: Path, tmp_path: Path, on_nodes: tuple[str, ...], alone: Path
) -> None:
    driver = drive(nodes, plan, tmp_path / "driver", *on_nodes)
    until(lambda: bool(cells(nodes.workspace("two"))), 300)
    nodes.kill("two")
    assert ended(driver) == f"cells: {CELLS} computed, 0 cached, 0 failed"
    boards = [read(folder / "results" / "leaderboard.csv") for folder in (alone, tmp_path / "driver")]
    assert same(*boards)
    assert cells(nodes.workspace("two"))  # it had a share of the work
    again = drive(nodes, plan, tmp_path / "elsewhere", *on_nodes)
    assert ended(again) == f"cells: 0 computed, {CELLS} cached, 0 failed"
    assert same(boards[0], read(tmp_path / "elsewhere" / "results" / "leaderboard.csv"))


def test_a_killed_driver_is_followed_by_one_that_computes_the_rest(
    nodes: Nodes, plan: Path, tmp_path: Path, on_nodes: tuple[str, ...], alone: Path
) -> None:
    driver = drive(nodes, plan, tmp_path / "driver", *on_nodes)
    until(lambda: len(cells(nodes.workspace("one")) | cells(nodes.workspace("two"))) >= 3, 300)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    line = ended(drive(nodes, plan, tmp_path / "driver", *on_nodes))
    computed, cached, failed = (int(word) for word in line.split() if word.isdigit())
    assert (computed + cached, failed) == (CELLS, 0)
    assert cached >= 3
    assert same(*(read(folder / "results" / "leaderboard.csv") for folder in (alone, tmp_path / "driver")))
