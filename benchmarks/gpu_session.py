"""What the parts of `benchmarks.gpu` share: a row of the table, the session, clocks that wait for the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from adcore.core.devices import is_accelerator
from adcore.core.plan import BackboneSpec, Plan, parse
from adcore.datasets import manifest
from adcore.engine import cells
from adcore.engine.bench import Layout, make_dataset
from adcore.engine.cells import Category, Cell
from adcore.engine.compute import Computer
from adcore.features import backbones

METHODS = ["padim", {"name": "patchcore", "coreset": 0.1}, {"name": "cfa", "epochs": 2}]
LEVELS = (1, 2, 3)  # what each of them reads
Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """A piece of work in two forms, in `unit`; `agrees`: None where there is nothing to agree. Without `form` it was
    skipped, and `note` is the reason."""

    what: str
    beside: str = ""
    base: float | None = None
    unit: str = ""
    form: float | None = None
    agrees: bool | None = None
    note: str = ""

    @property
    def times(self) -> float | None:
        """How often faster than the form beside it."""
        if self.base is None or self.form is None:
            return None
        return self.form / self.base if self.unit.endswith("/s") else self.base / self.form

    @property
    def texts(self) -> tuple[str, ...]:
        agrees = "skipped" if self.form is None else {True: "yes", False: "NO", None: ""}[self.agrees]
        return self.what, self.beside, self.unit, *map(_number, (self.base, self.form, self.times)), agrees, self.note


HEADER = ("", "beside", "unit", "that", "this", "x", "agrees", "largest difference, or why not")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@dataclass
class Computed:
    """The cells of a category as one device computed them: seconds of each step, and each method's metrics."""

    computer: Computer
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Session:
    """What all parts share: the device beside the CPU, sizes, and the cells of one category."""

    device: str
    size: int
    quick: bool
    compiles: bool
    images: Path | None
    folder: Path
    rate: float = 0.0  # images/s that `extraction` reached on the device
    computed: dict[str, Computed] = field(default_factory=dict)

    def of(self, whole: int, tiny: int) -> int:
        return tiny if self.quick else whole

    def timed(self, action: Callable[[], Result], device: str = "cpu") -> tuple[float, Result]:
        """As `timed`, for half a second."""
        return timed(action, device, 0.01 if self.quick else 0.5)

    @cached_property
    def backbone(self) -> BackboneSpec:
        """The default one; with random weights where the package with the trained ones is not installed."""
        try:
            backbones.weights_file(BackboneSpec())
        except backbones.WeightsError:
            return BackboneSpec(weights="random")
        return BackboneSpec()

    @cached_property
    def plan(self) -> Plan:
        generated: dict[str, Any] = {"name": "generated", "categories": ["brick"]}
        given = {"name": "images", "kind": "folder", "root": str(self.images)}
        return parse(
            {
                "image": {"resize": self.size},
                "backbone": self.backbone.model_dump(exclude_none=True),
                "datasets": [given if self.images else generated],
                "methods": METHODS,
            }
        )

    @cached_property
    def category(self) -> Category:
        """Read but not validated: the set is ours, and a machine for benchmarks may lack Great Expectations."""
        dataset = make_dataset(self.plan.datasets[0], Layout(self.folder))
        dataset.prepare()
        frame = manifest.build(dataset, self.folder / "files.sqlite")
        return Category(dataset.name, min(set(frame["category"]) - {""}), dataset.root, frame)

    @cached_property
    def cells(self) -> list[Cell]:
        """One a method."""
        return cells.expand(self.plan, [self.category])


def timed(action: Callable[[], Result], device: str, least: float) -> tuple[float, Result]:
    """Median seconds of calls that last `least` together, behind one that is not counted, and what it gave.

    The device has ended all work before the clock is read."""
    result, spans = action(), [0.0]
    while sum(spans) < least or len(spans) < 2:
        wait(device)
        begin = time.perf_counter()
        result = action()
        wait(device)
        spans.append(time.perf_counter() - begin)
    return float(np.median(spans[1:])), result


def once(action: Callable[[], Result], device: str = "cpu") -> tuple[float, Result]:
    """Seconds of one call, for what takes long, and what it gave."""
    wait(device)
    begin = time.perf_counter()
    result = action()
    wait(device)
    return time.perf_counter() - begin, result


def wait(device: str) -> None:
    if is_accelerator(device):
        torch.cuda.synchronize(device)


def apart(truth: Iterable[torch.Tensor], found: Iterable[torch.Tensor]) -> float:
    """The largest difference of tensors, in parts of the largest value of each."""
    pairs = [(a.cpu(), b.cpu()) for a, b in zip(truth, found, strict=True)]
    return float(np.max([(a - b).abs().max() / a.abs().max() for a, b in pairs]))  # NaN where one is NaN


def farthest(truth: Mapping[str, float], found: Mapping[str, float]) -> float:
    """The largest difference of values by name; NaN is equal to NaN alone."""
    pairs = [(value, found[key]) for key, value in truth.items()]
    return float(np.max([0.0 if a != a and b != b else abs(a - b) for a, b in pairs]))


def within(difference: float, most: float, more: str = "") -> dict[str, Any]:
    """Of a row: whether a relative difference is small enough, and which it is."""
    return {"agrees": bool(difference <= most), "note": f"{difference:.1e} relative" + more}


def reason(error: Exception) -> str:
    """An exception in one line of a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
