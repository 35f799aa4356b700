"""What the cells of a plan take before they are run: bytes on disk, the largest model, and rough hours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from adcore.core.contracts import FeatureMethod, ImageMethod, Levels
from adcore.core.devices import device_of
from adcore.core.plan import BackboneSpec, ImageSpec, Plan
from adcore.engine import work
from adcore.engine.cells import Cell
from adcore.engine.sizes import counted, size
from adcore.features.extractor import Extraction, Extractor

TIMED = 2  # images of the batch that the extractor is timed with
BACKWARD = 3  # a training step in units of the forward pass
GB, HOUR = 1e9, 3600
FLOAT = 4  # bytes

Shapes = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Forecast:
    """features, models, maps: bytes, before any are dropped for the budget; maps at most. largest: the bytes of the
    largest model and its cell's title. slowest: seconds of an image through a backbone, and which. seconds: of
    all."""

    features: int
    models: int
    maps: int
    largest: tuple[int, str]
    slowest: tuple[float, str]
    seconds: float


def foresee(plan: Plan, cells: Sequence[Cell]) -> Forecast:
    """Of cells of which nothing is there. The extractor has random weights: sizes and speed do not depend on them.

    Raises WeightsError for a backbone that timm does not have."""
    device = device_of(plan.device)
    settings = dict.fromkeys((cell.backbone, cell.image) for cell in cells)
    parts = [[cell for cell in cells if (cell.backbone, cell.image) == setting] for setting in settings]
    return reduce(_together, [_on_one_backbone(part, device) for part in parts])


def _on_one_backbone(cells: Sequence[Cell], device: str) -> Forecast:
    """Of cells on one backbone at one image size."""
    first = cells[0]
    networks = {
        levels: _Network(first.backbone, first.image, levels, device) for levels in {cell.levels for cell in cells}
    }
    sizes = _models(cells, networks)
    models = {cell.fit_key: (sizes[_setting(cell)], cell.title) for cell in cells}
    seconds = max(network.seconds for network in networks.values())
    return Forecast(
        features=sum(_features(group, networks) for group in _groups(cells)),
        models=sum(size for size, _ in models.values()),
        maps=sum(FLOAT * len(cell.test) * cell.image.size**2 for cell in _once(cells, "maps_key")),
        largest=max(models.values()),
        slowest=(seconds, f"{first.backbone.name} on {device}"),
        seconds=seconds * _work(cells, networks),
    )


def _together(one: Forecast, other: Forecast) -> Forecast:
    return Forecast(
        features=one.features + other.features,
        models=one.models + other.models,
        maps=one.maps + other.maps,
        largest=max(one.largest, other.largest),
        slowest=max(one.slowest, other.slowest),
        seconds=one.seconds + other.seconds,
    )


def lines(foreseen: Forecast, plan: Plan) -> list[str]:
    """For people."""
    size, title = foreseen.largest
    kept = f"of each at most {plan.budget.disk_gb:g} GB are kept"
    disk = f"{_gb(foreseen.features)} of features and {_gb(foreseen.models)} of models ({kept})"
    return [
        f"disk: {disk}, {_gb(foreseen.maps)} of maps at most",
        f"largest model: {_gb(size)} ({title})",
        f"time: roughly {_hours(foreseen.seconds)} here, at {foreseen.slowest[0]:.2g} s an image through "
        f"{foreseen.slowest[1]}",
    ]


class _Network:
    """A backbone at some levels: shapes of its maps, multiply-accumulates and seconds of one image."""

    def __init__(self, backbone: BackboneSpec, image: ImageSpec, levels: Levels, device: str) -> None:
        spec = backbone.model_copy(update={"weights": "random", "sha256": None})
        self.extractor = Extractor(Extraction(spec, image, levels), device)
        self.shapes = self.extractor.shapes()
        self.macs = size(self.extractor, None).before.total
        self.seconds = self._timed()

    def _timed(self) -> float:
        side = self.extractor.size
        batch = torch.zeros(TIMED, 3, side, side, dtype=torch.uint8)
        times = []
        for _ in range(2):
            started = time.perf_counter()
            [maps.sum().item() for maps in self.extractor(batch)]  # waits for a device
            times.append(time.perf_counter() - started)
        return min(times) / TIMED

    def share(self, cell: Cell) -> float:
        """Work of a training step on an image, of a method that trains a network."""
        network = cell.contender.method.sized(cell.contender.options, self.extractor)
        own = counted(network.run).total if network else 0
        # What is given images reads no features: it runs the backbone itself, AGPNet on each image and its twin.
        passes = 2 if issubclass(cell.contender.method, ImageMethod) else 0
        return passes + BACKWARD * own / self.macs


def _models(cells: Sequence[Cell], networks: dict[Levels, _Network]) -> dict[tuple[object, ...], int]:
    """Bytes of a model, once for all categories and seeds that have as many images: a network is built to count it."""
    once = {_setting(cell): cell for cell in cells}
    return {
        setting: cell.contender.method.state_bytes(
            cell.contender.options, networks[cell.levels].extractor, len(cell.train)
        )
        for setting, cell in once.items()
    }


def _setting(cell: Cell) -> tuple[object, ...]:
    return cell.levels, cell.contender.names["method_label"], len(cell.train)


def _features(group: Sequence[Cell], networks: dict[Levels, _Network]) -> int:
    """Bytes of the maps that are extracted once for cells over the same images."""
    shapes = {(levels, shape) for cell in group for levels in [cell.levels] for shape in networks[levels].shapes}
    values = sum(channels * height * width for channels, height, width in {shape for _, shape in shapes})
    reads = any(issubclass(cell.contender.method, FeatureMethod) for cell in group)
    return FLOAT * values * (len(group[0].train) + len(group[0].test)) if reads else 0


def _groups(cells: Iterable[Cell]) -> list[list[Cell]]:
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        images = cell.category.dataset, cell.category.name, cell.contender.names["protocol_label"]
        drawn = cell.seed if cell.contender.protocol.seeded else 0
        groups.setdefault((*images, drawn, tuple(link.key for link in cell.links)), []).append(cell)
    return list(groups.values())


def _work(cells: Sequence[Cell], networks: dict[Levels, _Network]) -> float:
    shares: dict[tuple[object, ...], float] = {}
    total = sum(work.extract(group[0]) for group in _groups(cells))
    for cell in _once(cells, "fit_key"):
        key = cell.levels, cell.contender.names["method_label"]
        if key not in shares:
            shares[key] = networks[cell.levels].share(cell)
        total += work.fit(cell, shares[key])
        total += work.calibrate(cell, shares[key]) if cell.calibration_key else 0
    links = {link.key: (link, len(cell.train)) for cell in cells for link in cell.links}
    total += sum(work.enhance(link, images) for link, images in links.values())
    total += sum(work.score(cell) for cell in _once(cells, "maps_key"))
    total += sum(work.evaluate(cell) for cell in cells)
    return total + work.LATENCY * len(_once(cells, "latency_key"))


def _once(cells: Iterable[Cell], key: str) -> list[Cell]:
    """One cell an artifact."""
    return list({getattr(cell, key): cell for cell in cells}.values())


def _gb(size: int) -> str:
    return f"{size / GB:.3g} GB"


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:.2g} hours" if seconds >= HOUR else f"{max(1, round(seconds / 60))} minutes"
