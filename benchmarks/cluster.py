"""Two nodes of a Ray cluster on this machine beside one, and what of a run is not the groups' own work.

    python -m benchmarks.cluster                # twelve groups of about ten seconds: once on one node, once on two
    python -m benchmarks.cluster --empty 300    # groups without work: what the driver and Prefect's server pay for each

Each node has one core and a workspace of its own; all share a folder as their store (`file://`), and a Prefect server
is up. Every run is cold. Seconds of steps and groups are those that Prefect has recorded for its task runs; a step's
are what its body took, the put into the store included. Both nodes measure the latency of each method, which is one for
all categories, where they come to it at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.futures import as_completed

from benchmarks.measuring import print_conditions, print_table, run
from benchmarks.warm import server
from flows._cluster import Cluster
from tasks import steps
from tests.cluster.nodes import Nodes, nodes_of
from tests.conftest import make_parts

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAGE = 200  # task runs a request


@dataclass(frozen=True)
class Spent:
    """Of one cold run, in seconds: the command; until its first group had begun; from there until its last group had
    ended; after that. Summed over the nodes: in groups, and of these in steps. runs: Prefect's, of steps."""

    command: float
    before: float
    groups_wall: float
    after: float
    groups: float
    steps: float
    runs: int


def plan(folder: Path, groups: int, epochs: int) -> Path:
    """A category a group, each fitted by PaDiM and by CFA, whose epochs are most of the work."""
    root = make_parts(folder / "parts", LETTERS[:groups])
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(root)}],
        "methods": ["padim", {"name": "cfa", "epochs": epochs, "gamma_c": 4}],
        "device": "cpu",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "plan.yaml"


@contextlib.contextmanager
def cluster(count: int, folder: Path) -> Iterator[Nodes]:
    """So many nodes with an empty store in `folder`, and a Prefect server."""
    (folder / "store").mkdir(parents=True)
    with server(folder / "prefect") as url, nodes_of(count) as nodes:
        asked = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
        nodes.environment |= asked | {"PREFECT_API_URL": url}
        yield nodes


def cold(path: Path, count: int, folder: Path) -> Spent:
    """Run a plan on so many nodes."""
    with cluster(count, folder) as nodes:
        given = ["--plan", str(path), "--workspace", str(folder / "driver")]
        given += ["--ray", nodes.head, "--store", f"file://{folder / 'store'}"]
        begin = time.time()
        seconds = run([sys.executable, "-m", "flows.benchmark", *given], nodes.environment).seconds
        return spent(begin, seconds)


def spent(begin: float, seconds: float) -> Spent:
    """What the server has recorded of a command that began at a time of day and took so long."""
    groups: list[tuple[float, float]] = []
    inner: list[float] = []
    with get_client(sync_client=True) as client:
        offset = 0
        while found := client.read_task_runs(limit=PAGE, offset=offset):
            offset += len(found)
            for each in found:
                if each.start_time is None or each.end_time is None:
                    sys.exit(f"Prefect has recorded no end of '{each.name}'")
                times = each.start_time.timestamp(), each.end_time.timestamp()
                if each.name.startswith("group "):
                    groups.append(times)
                elif each.name.partition(" ")[0] in steps.TASKS:
                    inner.append(times[1] - times[0])
    first, last = min(start for start, _ in groups), max(end for _, end in groups)
    within = sum(end - start for start, end in groups)
    return Spent(seconds, first - begin, last - first, begin + seconds - last, within, sum(inner), len(inner))


def compared(groups: int, epochs: int) -> None:
    """Print both runs of a plan, and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        path = plan(Path(name), groups, epochs)
        found = {count: cold(path, count, Path(name) / str(count)) for count in (1, 2)}
    rows: list[tuple[str, object, object, object]] = []
    one, two = found[1], found[2]
    facts = {
        "command": "command",
        "of it until the first group has begun": "before",
        "of it until the last group has ended": "groups_wall",
        "of it after that": "after",
        "in groups, all nodes": "groups",
        "of these in steps": "steps",
    }
    for text, fact in facts.items():
        rows.append((text, getattr(one, fact), getattr(two, fact), ""))
    rows.append(("x, command", "", "", one.command / two.command))
    rows.append(("x, while groups ran", "", "", one.groups_wall / two.groups_wall))
    print(f"{groups} groups, {one.steps / groups:.1f} s of steps each, {one.runs / groups:.1f} steps each")
    print_table(("s", "1 node", "2 nodes", "x"), rows)
    shares = {
        "in groups, but not in a step": lambda spent, nodes: (spent.groups - spent.steps) / spent.groups_wall / nodes,
        "nodes without a group": lambda spent, nodes: 1 - spent.groups / spent.groups_wall / nodes,
        "not steps, while groups ran": lambda spent, nodes: 1 - spent.steps / spent.groups_wall / nodes,
        "not steps, whole command": lambda spent, nodes: 1 - spent.steps / spent.command / nodes,
    }
    lines = [(text, *(f"{share(found[count], count):.1%}" for count in (1, 2))) for text, share in shares.items()]
    print_table(("share of the nodes' time", "1 node", "2 nodes"), lines)


Lap = tuple[float, float, float]  # seconds: of the clock, CPU of this process, CPU of Prefect's server


def lap() -> Lap:
    servers = [child for child in psutil.Process().children() if "uvicorn" in " ".join(child.cmdline())]
    return time.perf_counter(), time.process_time(), sum(sum(child.cpu_times()[:2]) for child in servers)


@flow(name="groups without work")
def without_work(count: int, machines: Cluster, workspace: str) -> list[Lap]:
    """Laps: at the begin, when all groups were submitted, when all had ended."""
    nothing = {"dataset": "", "plan": "", "workspace": workspace, "manifests": "", "commit": ""}
    parameters: dict[str, object] = {**nothing, "shared": [], "own": {}, "elsewhere": False}
    with machines.runner() as runner, machines.reserved(False):
        for future in [runner.submit(steps.group, {"title": node, **parameters}) for node in ("one", "two")]:
            future.wait()  # the workers are up
        laps = [lap()]
        futures = [runner.submit(steps.group, {"title": str(each), **parameters}) for each in range(count)]
        laps.append(lap())
        for future in as_completed(futures):
            future.wait()
            future.result()
        return [*laps, lap()]


def empty(count: int) -> None:
    """Print what groups without work cost."""
    with tempfile.TemporaryDirectory() as name, cluster(2, Path(name)) as nodes:
        os.environ |= nodes.environment
        laps = without_work(count, Cluster(ray=nodes.head), name)
        while True:  # the server records behind us
            laps[3:] = [lap()]
            time.sleep(2)
            if lap()[2] < laps[3][2] + 0.1:
                break
    each = [
        [(after - before) / count * 1000 for before, after in zip(*pair, strict=True)]
        for pair in itertools.pairwise(laps)
    ]
    whole = [sum(values) for values in zip(*each, strict=True)]
    print(f"{count} groups without work, two nodes; ms a group")
    names = ("submitted", "ended and told", "recorded by Prefect's server", "all")
    rows = [(text, *values) for text, values in zip(names, [*each, whole], strict=True)]
    print_table(("", "wall", "driver's CPU", "server's CPU"), rows)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=12, help="at most 26")
    parser.add_argument("--epochs", type=int, default=300, help="of CFA, so that a group takes about ten seconds")
    parser.add_argument("--empty", type=int, metavar="GROUPS", help="groups without work instead")
    given = parser.parse_args()

    print_conditions("ray", "prefect-ray", "prefect", "torch")
    if given.empty:
        empty(given.empty)
    else:
        compared(given.groups, given.epochs)


if __name__ == "__main__":
    importlib.import_module("benchmarks.cluster").main()  # Ray sends a flow of `__main__` with all that it sees
