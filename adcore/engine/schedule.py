"""Which steps the cells of a plan still need, in which order, and how each is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from adcore.core.contracts import FeatureMethod
from adcore.core.errors import RemoteGone
from adcore.core.plan import PlanError, nearest
from adcore.core.store import Remembering
from adcore.engine import work
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.engine.timed import is_timed

Progress = Callable[[float], None]

# Step -> how it is computed: (the plan in its workspace, a cell, the key of the artifact, a listener to its progress).
STEPS: dict[str, Callable[[Bench, Cell, str, Progress], None]] = {
    "enhance": lambda bench, cell, key, progress: bench.computer.enhance(cell, key, progress),
    "extract": lambda bench, cell, _, progress: bench.computer.extract(cell, bench.levels(cell), progress),
    "fit": lambda bench, cell, _, progress: bench.computer.fit(cell, progress),
    "score": lambda bench, cell, _, progress: bench.computer.score(cell, progress),
    "evaluate": lambda bench, cell, _, __: bench.computer.evaluate(cell),
    "calibrate": lambda bench, cell, _, progress: bench.computer.calibrate(cell, progress),
    "latency": lambda bench, cell, _, __: bench.computer.latency(cell, bench.plain(cell)),
}


@dataclass(frozen=True)
class Step:
    """A step of a cell: the task, the key of its artifact, whether that is there already, and its rough cost."""

    name: str
    key: str
    present: bool
    weight: float


@dataclass(frozen=True)
class Missing:
    """Which steps of a cell have to run."""

    fit: bool
    maps: bool
    evaluate: bool
    latency: bool
    computed: bool  # the metrics themselves are missing, not only a gallery or a latency
    enhance: tuple[str, ...] = ()  # keys of the enhancers that have to be trained
    plain: bool = False  # the fit without an enhancer, which latency is compared with
    calibration: bool = False

    def __bool__(self) -> bool:
        return self.evaluate or self.latency or self.calibration


def missing(store: Remembering, cell: Cell, plain: Cell | None = None) -> Missing:
    """What has to run for a cell; parents are only looked at where a child needs them. `plain`: it without enhancer."""
    cell_there = store.expects("cell", cell.key)
    evaluate = not cell_there or not store.expects("gallery", cell.gallery_key)
    latency = not is_timed(store, cell)
    maps = evaluate and not store.expects("maps", cell.maps_key)
    fit = (maps or latency) and not store.expects("fit", cell.fit_key)
    compared = latency and plain is not None and not store.expects("fit", plain.fit_key)
    calibration = bool(cell.calibration_key) and not store.expects("calibration", cell.calibration_key)
    enhance = (
        tuple(link.key for link in cell.links if not store.expects("enhancer", link.key))
        if maps or latency or calibration
        else ()
    )
    return Missing(fit, maps, evaluate, latency, not cell_there, enhance, compared, calibration)


@dataclass
class Work:
    """The cells that are not complete (by title), in an order that keeps those over the same images together."""

    bench: Bench
    missing: dict[str, Missing]
    store: Remembering  # the plan's, which knows what is there already
    chosen: frozenset[str] | None = None  # titles of cells; None: all

    @classmethod
    def find(cls, bench: Bench, only: Sequence[str] = ()) -> Work:
        """Ask the store for all keys in one pass. What only this machine has of them, others can have from then on.

        only: titles of groups, where not all are meant. Raises PlanError for one that the plan has not."""
        store = Remembering(bench.store)
        found = cls(bench, {cell.title: missing(store, cell, bench.plain(cell)) for cell in bench.cells}, store)
        store.share()
        if only:
            groups = [(group_title(group), group) for group in grouped(bench.cells)]
            titles = {title for title, _ in groups}
            for title in only:
                if title not in titles:
                    mend = "`adcore slurm` lists those that are missing"
                    raise PlanError(f"the plan has no group '{title}'{nearest(title, titles)}; {mend}")
            found.chosen = frozenset(cell.title for title, group in groups if title in only for cell in group)
        return found

    def counts(self) -> tuple[int, int, int]:
        """Cells whose metrics came since, were there before, and are not there."""
        todo = [cell for cell in self.wanted if self.missing[cell.title].computed]
        computed = sum(self.store.here("cell", cell.key).exists() for cell in todo)
        return computed, len(self.wanted) - len(todo), len(todo) - computed

    def absent(self) -> list[Cell]:
        """The cells without metrics now that the steps have run. Others than those whose steps failed are among them
        where a shared store listed what proved damaged."""
        self.store.look_again()
        try:
            self.store.bring("cell", [cell.key for cell in self.wanted])
        except RemoteGone:
            self.store.remote = None  # what is on this machine can still be read
        return [cell for cell in self.wanted if not self.store.has("cell", cell.key)]

    @property
    def wanted(self) -> list[Cell]:
        """Complete or not."""
        return [cell for cell in self.bench.cells if self.chosen is None or cell.title in self.chosen]

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in self.wanted if self.missing[cell.title]]

    @property
    def groups(self) -> list[list[Cell]]:
        """What is missing, as groups."""
        return grouped(self.cells)

    def weights(self) -> dict[str, float]:
        """Step title -> its rough share of the work, in images."""
        found: dict[str, float] = {}
        seen: set[str] = set()
        for step, _, title in self.planned():
            found[f"{step.name} {title}"] = 0.0 if step.present or step.key in seen else step.weight
            seen.add(step.key)  # enhancers and latencies serve many cells
        return found

    def planned(self) -> Iterable[Planned]:
        """All steps, each behind those that it needs."""
        for group in self.groups:
            yield from self.of(group)

    def of(self, group: list[Cell]) -> Iterable[Planned]:
        """All steps of a group."""
        yield from self.shared(group)
        for cell in group:
            yield from self.own(cell)

    def shared(self, group: list[Cell]) -> Iterable[Planned]:
        """What the cells of a group need together: trained enhancers, and extracted features where a method reads
        them; one that is given images runs the backbone itself."""
        cell, images, title = group[0], len(group[0].train), group_title(group)
        wanted = {key for member in group for key in self.missing[member.title].enhance}
        for link in cell.links:
            if link.key in wanted:
                step = Step("enhance", link.key, False, work.enhance(link, images))
                yield step, cell, f"{link.enhancer.name} of {title}"
        reading = [member for member in group if issubclass(member.contender.method, FeatureMethod)]
        if any(self.missing[member.title].fit or self.missing[member.title].maps for member in reading):
            yield Step("extract", reading[0].fit_key, False, work.extract(reading[0])), reading[0], title

    def own(self, cell: Cell) -> Iterable[Planned]:
        """What one cell needs beside what its group shares, in this order."""
        needs, plain = self.missing[cell.title], self.bench.plain(cell)
        if needs.maps or needs.latency:
            yield _fit(cell, not needs.fit), cell, cell.title
        if needs.evaluate:
            yield Step("score", cell.maps_key, not needs.maps, work.score(cell)), cell, cell.title
            yield Step("evaluate", cell.key, False, work.evaluate(cell)), cell, cell.title
        if needs.calibration:
            yield Step("calibrate", cell.calibration_key, False, work.calibrate(cell)), cell, cell.title
        if plain and needs.plain and not self.missing[plain.title].fit:
            yield _fit(plain, False), plain, plain.title
        if needs.latency:
            yield Step("latency", cell.latency_key, False, work.LATENCY), cell, cell.title


Planned = tuple[Step, Cell, str]  # a step, the cell it is computed for, and its title


def grouped(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells over the same images through the same extractor: their features are extracted once, and may leave the bank
    after them."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        links = tuple(link.key for link in cell.links)
        groups.setdefault((_images(cell), links), []).append(cell)
    return list(groups.values())


def group_title(group: list[Cell]) -> str:
    """What tells a group from others."""
    return " ".join(filter(None, [_images(group[0]), _trained(group)]))


def _fit(cell: Cell, present: bool) -> Step:
    return Step("fit", cell.fit_key, present, work.fit(cell))


def _trained(group: list[Cell]) -> str:
    """Enhancer and seed, for a title, and the methods whose layers it is for; nothing for the backbone's own maps."""
    cell = group[0]
    if not cell.links:
        return ""
    methods = sorted({member.contender.names["method"] for member in group})
    behind = any(link.enhancer.on_maps for link in cell.links)
    return f"{cell.contender.names['enhancer_label']} seed {cell.seed}" + behind * f" for {', '.join(methods)}"


def _images(cell: Cell) -> str:
    """Which images a cell is of, and which network sees them, for a title."""
    protocol, label = cell.contender.protocol, cell.contender.names["protocol_label"]
    parts = [f"{cell.category.dataset}/{cell.category.name}", label if label != "one-class" else ""]
    network = f"on {cell.contender.network}" if cell.contender.network else ""
    return " ".join(filter(None, [*parts, f"draw {cell.seed}" if protocol.seeded else "", network]))
