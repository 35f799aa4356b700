"""A plan's groups on 1 to 256 nodes, simulated: where driver, Prefect's server, MLflow or bucket become the limit.

    python -m benchmarks.cluster_simulation                  # the tables
    python -m benchmarks.cluster_simulation --measure DIR    # GROUPS and BYTES below, of a workspace like the demo's

No cluster of more than two nodes was ever measured. Every figure that goes in is a constant with its source; what comes
out is arithmetic on those. Not in it: Ray's own head node, a network that is full, nodes that are unlike or die, and
latencies, which a plan measures once a method.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adcore.core.store import use_of
from adcore.engine.bench import Layout
from benchmarks.measuring import print_table

# Measured by --measure on the demo (params.yaml, two shared cores): seconds of each group's steps, bytes of a cell's
# artifacts (maps, metrics, gallery). Only how the seconds of groups differ is taken from here, not how long they are.
GROUPS = (58.7, 40.8, 9.8, 9.6, 9.1, 9.0, 8.7)
BYTES = 1_350_000
CELLS = 3  # a group, as in the demo: three methods
CATEGORIES = 15  # of a data set, as of MVTec AD; the cells of all are one run in MLflow

NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = (100, 1_000, 10_000)  # groups
SPEEDS = {"CPU": 60.0, "GPU": 3.0}  # mean seconds of a group


@dataclass(frozen=True)
class Costs:
    """What is paid beside computing, in seconds. `Costs.none()` is a world in which nothing is."""

    start: float = 12.0  # driver: until it plans (benchmarks.cluster: first group begun after 22 s, less `worker`)
    planned: float = 0.0005  # driver, a cell: its keys, and the pass over the store (benchmarks.planning)
    submitted: float = 0.024  # driver, a group: its CPU (benchmarks.cluster --empty 300)
    ended: float = 0.001  # driver, a group (the same)
    published: float = 0.0069  # driver, a cell: a warm run (benchmarks.warm, docs/benchmarks.md)
    fetched: float = 0.01  # driver, a cell: metrics, gallery and every third's maps by Store.bring, its CPU (seen once)
    worker: float = 10.0  # node: before its first group, a process that imports everything (Ray: 10 to 18 s, seen once)
    told: float = 0.033  # Prefect's server, a task run: its CPU, on SQLite (benchmarks.cluster --empty 300)
    logged: float = 0.14  # MLflow's server, a run with 30 metrics and 20 parameters, on PostgreSQL (seen once)
    request: float = 0.0013  # bucket: SeaweedFS on two cores, 100,000 puts of a byte in 130 s (benchmarks.planning)
    byte: float = 1 / 23e6  # bucket: the same, 150 MB put in 6 to 7 s (seen once)

    @classmethod
    def none(cls) -> Costs:
        return cls(**dict.fromkeys(cls.__dataclass_fields__, 0.0))

    @property
    def put(self) -> float:
        """The bucket's, a cell: three artifacts, each looked for and then put."""
        return 6 * self.request + BYTES * self.byte


# Amazon promises 3,500 puts a second for a prefix; what bytes take, and the distance, is taken for nothing.
AMAZON = {"request": 1 / 3500, "byte": 0.0}
STEPS = 3 + 1 / CELLS  # Prefect's task runs a cell: fit, score, evaluate, and a share of the group's extraction


@dataclass
class Queue:
    """What serves one after another, in the order of coming."""

    free: float = 0.0
    busy: float = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When what comes now has been served."""
        self.free = max(now, self.free) + seconds
        self.busy += seconds
        return self.free

    def used(self, until: float) -> float:
        """Share of the time until then, behind which nothing came, that it was busy."""
        return (self.busy - max(0.0, self.free - until)) / until if until else 0.0


@dataclass(frozen=True)
class Outcome:
    """Seconds of computing and of the whole command, share of that which each shared part was busy, and how long after
    the command Prefect's server has still to record."""

    nodes: int
    work: float
    makespan: float
    used: dict[str, float] = field(default_factory=dict)
    behind: float = 0.0

    @property
    def speedup(self) -> float:
        """Against computing alone, with nothing to pay."""
        return self.work / self.makespan

    @property
    def efficiency(self) -> float:
        return self.speedup / self.nodes

    @property
    def busiest(self) -> str:
        """Of those that the run waits for."""
        return max(self.used.keys() - {"Prefect"}, key=lambda name: self.used[name])


def drawn(groups: int, mean: float, seed: int = 0) -> list[float]:
    """Seconds of so many groups, which differ as those that were measured do."""
    chosen = random.Random(seed).choices(GROUPS, k=groups)
    return [seconds * mean * len(GROUPS) / sum(GROUPS) for seconds in chosen]


def simulate(durations: Sequence[float], nodes: int, costs: Costs, drivers: int = 1, cells: int = CELLS) -> Outcome:
    """Groups in the order in which they are submitted, each to the node that is free first.

    A driver submits all its groups before it looks at what has ended, as `adcore run` does; several share the groups by
    `--only`, and another command publishes. A node waits for the bucket, and for nobody else: Prefect's server records
    what has happened whenever it comes to it."""
    all_cells = cells * len(durations)
    prefect, mlflow, bucket = Queue(), Queue(), Queue()
    commands = [Queue() for _ in range(drivers)]
    for command in commands:
        command.serve(0.0, costs.start + costs.planned * all_cells)
    submitted = [commands[group % drivers].serve(0.0, costs.submitted) for group in range(len(durations))]
    waiting = iter(sorted(range(len(durations)), key=submitted.__getitem__))

    # (when, node, group, cells that are done); a node without a group has -1
    events = [(0.0, node, -1, 0) for node in range(nodes)]
    started: set[tuple[int, int]] = set()  # workers, one a node and driver: Ray shares none between two commands
    while events:
        now, node, group, done = heapq.heappop(events)
        if group < 0:
            group = next(waiting, -1)
            if group < 0:
                continue
            worker = node, group % drivers
            begin = max(now, submitted[group]) + costs.worker * (worker not in started)
            started.add(worker)
            heapq.heappush(events, (begin + durations[group] / cells, node, group, 1))
            continue
        prefect.serve(now, costs.told * STEPS)
        end = bucket.serve(now, costs.put)
        if done < cells:
            heapq.heappush(events, (end + durations[group] / cells, node, group, done + 1))
        else:
            prefect.serve(now, costs.told)  # the group itself
            heapq.heappush(events, (end, node, -1, 0))
            commands[group % drivers].serve(end, costs.ended)
    last = max(commands, key=lambda command: command.free)
    if drivers > 1:  # one more command, which finds everything done
        last.serve(last.free, costs.start + costs.planned * all_cells)
    last.serve(last.free, (costs.fetched + costs.published) * all_cells)
    makespan = mlflow.serve(last.free, costs.logged * math.ceil(all_cells / CATEGORIES))
    parts = {"driver": last, "Prefect": prefect, "MLflow": mlflow, "bucket": bucket}
    used = {name: part.used(makespan) for name, part in parts.items()}
    return Outcome(nodes, sum(durations), makespan, used, max(0.0, prefect.free - makespan))


def table(seed: int) -> list[tuple[object, ...]]:
    """Every plan on every number of nodes."""
    rows: list[tuple[object, ...]] = []
    for mean, size in itertools.product(SPEEDS.values(), SIZES):
        durations = drawn(size, mean, seed)
        rows += [(f"{size:,} x {mean:.0f} s", *_told(simulate(durations, nodes, Costs()))) for nodes in NODES]
    return rows


def _told(found: Outcome) -> tuple[object, ...]:
    busiest = f"{found.busiest} {found.used[found.busiest]:.0%}"
    speedup, minutes = f"{found.speedup:.1f}", f"{found.makespan / 60:,.1f}"
    prefect = f"{found.used['Prefect']:.0%}", f"{found.behind / 60:,.1f}"
    return found.nodes, minutes, speedup, f"{found.efficiency:.0%}", busiest, *prefect


def limits() -> list[tuple[object, ...]]:
    """Beyond how many nodes a part that serves all would be busy all the time, by seconds of a group."""
    costs = Costs()
    amazon = replace(costs, **AMAZON)
    groups = {
        "driver, submitting and noting ends": costs.submitted + costs.ended,
        "Prefect's server, which nobody waits for": costs.told * (1 + STEPS * CELLS),
        "bucket, SeaweedFS on two cores": costs.put * CELLS,
        "bucket, Amazon's promise for a prefix": amazon.put * CELLS,
    }
    found = [(text, each, *(int(mean / each) for mean in SPEEDS.values())) for text, each in groups.items()]
    tail = (costs.planned + costs.fetched + costs.published) * CELLS
    return [
        *found,
        ("driver, before and after all groups", tail, "", ""),
        ("MLflow, after them", logged(costs), "", ""),
    ]


def logged(costs: Costs) -> float:
    return costs.logged * CELLS / CATEGORIES


def remedies(seed: int) -> list[tuple[object, ...]]:
    """What changes for the largest plan of fast groups on the most nodes."""
    size, nodes, costs = SIZES[-1], NODES[-1], Costs()
    durations = drawn(size, SPEEDS["GPU"], seed)
    four = [sum(durations[place : place + 4]) for place in range(0, size, 4)]
    amazon = replace(costs, **AMAZON)
    found = {
        "as it is": simulate(durations, nodes, costs),
        "a bucket like Amazon's": simulate(durations, nodes, amazon),
        "... and four drivers, `--only`": simulate(durations, nodes, amazon, drivers=4),
        "... and four groups as one": simulate(four, nodes, amazon, cells=4 * CELLS),
        "... and MLflow behind the run": simulate(durations, nodes, replace(amazon, logged=0.0)),
    }
    return [(text, *_told(outcome)) for text, outcome in found.items()]


def measured(workspace: Path) -> tuple[list[float], int]:
    """Seconds of the steps of each group, and mean bytes of a cell, of a plan whose groups are its categories."""
    store = Layout(workspace).store()
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    size = 0
    for folder in (store.root / "cell").iterdir():
        cell = store.meta("cell", folder.name)
        maps = store.meta("maps", cell["parents"]["maps"])
        own = cell["fit_s"] + maps["score_s"] + cell["evaluate_s"]
        place = cell["names"]["dataset"], cell["names"]["category"]
        groups.setdefault(place, []).append((own, cell["extract_s"]))
        size += use_of(folder)[1] + use_of(store.here("maps", cell["parents"]["maps"]))[1]
    size += sum(use_of(folder)[1] for folder in (store.root / "gallery").iterdir())
    seconds = [sum(own for own, _ in cells) + max(shared for _, shared in cells) for cells in groups.values()]
    return [round(each, 1) for each in sorted(seconds, reverse=True)], size // sum(map(len, groups.values()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the groups that are drawn")
    parser.add_argument("--measure", type=Path, metavar="DIR", help="print GROUPS and BYTES of this workspace instead")
    given = parser.parse_args()
    if given.measure:
        print(*measured(given.measure.resolve()))
        return
    header = ("nodes", "minutes", "speed-up", "efficiency", "busiest", "Prefect", "behind, min")
    print(f"$ python -m benchmarks.cluster_simulation, seed {given.seed}\n")
    print_table(("groups", *header), table(given.seed))
    print()
    print_table(("", "s a group", *(f"nodes at {mean:.0f} s" for mean in SPEEDS.values())), limits())
    print()
    print_table((f"{SIZES[-1]:,} x {SPEEDS['GPU']:.0f} s", *header), remedies(given.seed))


if __name__ == "__main__":
    main()
