"""A plan on two nodes: equal to one machine's, whatever fails in the middle, and whole again afterwards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from adcore.core.remote import Remote
from adcore.results.frame import read, same
from tests.cluster._postgres import Postgres
from tests.cluster.conftest import CELLS, METHODS
from tests.cluster.drivers import Drivers, Ended
from tests.cluster.nodes import Nodes
from tests.servers import S3, MlflowServer, PrefectServer, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
pytest.importorskip("prefect_ray", reason="make test-cluster installs Ray")

KINDS = ("maps", "cell", "gallery", "latency", "busy")


def cells(folder: Path) -> set[str]:
    """Keys of the cells that lie in a workspace."""
    return {path.name for path in (folder / ".cache/adcore/store/cell").glob("*")}


def on_nodes(nodes: Nodes) -> set[str]:
    return cells(nodes.workspace("one")) | cells(nodes.workspace("two"))


def equal(folder: Path, alone: Path) -> bool:
    """Whether a leaderboard is that of one machine in all but costs."""
    return same(*(read(each / "results" / "leaderboard.csv") for each in (alone, folder)))


def whole(nodes: Nodes, scratch: Path) -> bool:
    """Whether every object in the bucket is an artifact with its checksums, and there is one of each kind a cell."""
    remote = Remote(nodes.environment["ADCORE_STORE"])
    counts = {kind: remote.keys(kind) for kind in KINDS}
    objects = [(kind, key) for kind, keys in counts.items() for key in keys]
    for number, (kind, key) in enumerate(objects):
        folder = scratch / str(number)
        folder.mkdir(parents=True)
        if not remote.pull(kind, key, folder, scratch / "part"):
            return False
    return all(len(counts[kind]) == CELLS for kind in ("maps", "cell", "gallery"))


def well(ended: Ended, *counts: int) -> bool:
    assert (ended.code, ended.counts) == (0, counts), ended.errors[-3000:]
    return True


def test_a_killed_node_costs_nothing_but_time(two: Nodes, drivers: Drivers, tmp_path: Path, alone: Path) -> None:
    driver = drivers.start(tmp_path / "driver", "--ray", two.head)
    until(lambda: bool(cells(two.workspace("two"))), 300)
    two.kill("two")
    assert well(Ended.of(driver), CELLS, 0, 0)
    assert equal(tmp_path / "driver", alone) and whole(two, tmp_path / "objects")
    assert cells(two.workspace("two"))  # it had a share of the work
    assert well(drivers.run(tmp_path / "elsewhere", "--ray", two.head), 0, CELLS, 0)
    assert equal(tmp_path / "elsewhere", alone)


def test_a_killed_driver_is_followed_by_one_that_computes_the_rest(
    two: Nodes, drivers: Drivers, tmp_path: Path, alone: Path
) -> None:
    driver = drivers.start(tmp_path / "driver", "--ray", two.head)
    until(lambda: len(on_nodes(two)) >= 3, 300)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    ended = drivers.run(tmp_path / "driver", "--ray", two.head)
    computed, cached, failed = ended.counts
    assert (computed + cached, failed) == (CELLS, 0)
    assert cached >= 3
    assert equal(tmp_path / "driver", alone) and whole(two, tmp_path / "objects")


def test_a_bucket_that_is_busy_and_slow_for_twenty_seconds_is_waited_for(
    two: Nodes, drivers: Drivers, s3: S3, tmp_path: Path, alone: Path
) -> None:
    driver = drivers.start(tmp_path / "driver", "--ray", two.head)
    until(lambda: bool(on_nodes(two)), 300)
    for s3.mode in ("busy", "slow"):
        time.sleep(10)
    s3.mode = "well"
    assert well(Ended.of(driver), CELLS, 0, 0)
    assert s3.answers["busy"] and s3.answers["slow"]
    assert equal(tmp_path / "driver", alone) and whole(two, tmp_path / "objects")


def test_a_bucket_that_is_gone_loses_nothing(two: Nodes, drivers: Drivers, s3: S3, tmp_path: Path, alone: Path) -> None:
    driver = drivers.start(tmp_path / "driver", "--ray", two.head)
    until(lambda: len(on_nodes(two)) >= 2, 300)
    s3.stop()
    ended = Ended.of(driver)
    s3.start()
    assert ended.code == 3 and sum(ended.counts) == CELLS and ended.counts[2], ended.errors[-3000:]
    assert "the store s3://" in ended.errors and "cannot be used any more" in ended.errors
    there = {path: path.stat().st_mtime for name in ("one", "two") for path in fits(two.workspace(name))}
    again = drivers.run(tmp_path / "driver", "--ray", two.head)
    assert (again.code, again.counts[2]) == (0, 0), again.errors[-3000:]
    assert {path: path.stat().st_mtime for path in there} == there
    assert equal(tmp_path / "driver", alone) and whole(two, tmp_path / "objects")
    assert well(drivers.run(tmp_path / "elsewhere", "--ray", two.head), 0, CELLS, 0)


def fits(folder: Path) -> list[Path]:
    return [*(folder / ".cache/adcore/store/fit").glob("*/meta.json")]


def test_what_fails_on_one_node_only_is_done_by_another(
    nodes: Nodes, drivers: Drivers, tmp_path: Path, alone: Path
) -> None:
    """Its disk takes no fits."""
    store = nodes.workspace("two") / ".cache/adcore/store"
    store.mkdir(parents=True)
    (store / "fit").touch()
    nodes.start_second()
    ended = drivers.run(tmp_path / "driver", "--ray", nodes.head)
    assert well(ended, CELLS, 0, 0)
    assert "and is tried on another node" in ended.errors
    assert equal(tmp_path / "driver", alone) and whole(nodes, tmp_path / "objects")


def test_a_node_that_cannot_work_for_a_plan_is_left_out(
    nodes: Nodes, drivers: Drivers, tmp_path: Path, alone: Path
) -> None:
    """It takes a group as soon as it has refused one, so all of them but what the other has in hand."""
    nodes.start_second(ADCORE_NODE_WORKSPACE="")
    ended = drivers.run(tmp_path / "driver", "--ray", nodes.head)
    assert well(ended, CELLS, 0, 0)
    assert ended.errors.count("it names the folder to work in; it is given nothing more") == 1
    assert not cells(nodes.workspace("two"))
    assert equal(tmp_path / "driver", alone) and whole(nodes, tmp_path / "objects")


def test_a_plan_that_no_node_can_take_is_told(two: Nodes, drivers: Drivers, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"ray: {two.head}\noptions: {{num_cpus: 64}}\n")
    driver = drivers.start(tmp_path / "driver", "--cluster", str(file))
    assert driver.stderr is not None
    told = next(line for line in driver.stderr if line.startswith("warning"))
    assert "no node of the cluster can give a group {'num_cpus': 64.0}; one that can is waited for" in told
    os.killpg(driver.pid, signal.SIGTERM)
    assert Ended.of(driver).line == f"cells: 0 computed, 0 cached, {CELLS} not run"


def test_two_drivers_at_once_leave_what_one_does(
    two: Nodes, drivers: Drivers, mlflow_server: MlflowServer, tmp_path: Path, alone: Path
) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    tracked = {"MLFLOW_TRACKING_URI": mlflow_server.address}
    started = [drivers.start(folder, "--ray", two.head, **tracked) for folder in folders]
    for driver, folder in zip(started, folders, strict=True):
        ended = Ended.of(driver)
        assert (ended.code, ended.counts[2]) == (0, 0), ended.errors[-3000:]
        assert equal(folder, alone)
    assert whole(two, tmp_path / "objects")
    assert mlflow_server.runs() == ["FINISHED"] * len(METHODS)


def test_a_tracking_server_that_is_gone_costs_only_the_tracking(
    two: Nodes, drivers: Drivers, mlflow_server: MlflowServer, tmp_path: Path, alone: Path
) -> None:
    tracked = {"MLFLOW_TRACKING_URI": mlflow_server.address}
    driver = drivers.start(tmp_path / "driver", "--ray", two.head, **tracked)
    until(lambda: bool(on_nodes(two)), 300)
    mlflow_server.stop()
    ended = Ended.of(driver)
    assert (ended.code, ended.counts) == (3, (CELLS, 0, 0))
    assert f"runs were not logged to {mlflow_server.address}: it does not answer" in ended.errors
    assert equal(tmp_path / "driver", alone)
    mlflow_server.start()
    assert well(drivers.run(tmp_path / "driver", "--ray", two.head, **tracked), 0, CELLS, 0)
    assert mlflow_server.runs() == ["FINISHED"] * len(METHODS)


def test_a_prefect_server_whose_postgresql_is_restarted_loses_nothing(
    two: Nodes, drivers: Drivers, postgres: Postgres, tmp_path: Path, alone: Path
) -> None:
    postgres.create("prefect")
    (tmp_path / "prefect").mkdir()
    server = PrefectServer(tmp_path / "prefect", database=postgres.url("prefect", "asyncpg"))
    server.start()
    try:
        driver = drivers.start(tmp_path / "driver", "--ray", two.head, PREFECT_API_URL=server.api)
        until(lambda: bool(on_nodes(two)), 300)
        postgres.restart()
        assert well(Ended.of(driver), CELLS, 0, 0)
        assert equal(tmp_path / "driver", alone) and whole(two, tmp_path / "objects")
        again = drivers.run(tmp_path / "elsewhere", "--ray", two.head, PREFECT_API_URL=server.api)
        assert well(again, 0, CELLS, 0)
    finally:
        server.stop()
    assert postgres.sql("prefect", "select state_type from flow_run") == "COMPLETED\nCOMPLETED"


def test_latencies_are_measured_where_they_are_pinned_to(
    nodes: Nodes, drivers: Drivers, tmp_path: Path, alone: Path
) -> None:
    nodes.start_second(resources='{"quiet": 1}')
    file = tmp_path / "cluster.yaml"
    file.write_text(f"ray: {nodes.head}\nlatency: {{resources: {{quiet: 1}}}}\n")
    assert well(drivers.run(tmp_path / "driver", "--cluster", str(file)), CELLS, 0, 0)
    assert timed(nodes.workspace("two")) and not timed(nodes.workspace("one"))
    assert equal(tmp_path / "driver", alone) and whole(nodes, tmp_path / "objects")


def timed(folder: Path) -> list[Path]:
    return [path for kind in ("latency", "busy") for path in (folder / ".cache/adcore/store" / kind).glob("*")]
