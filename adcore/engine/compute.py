"""Computes one artifact of a cell at a time, and puts it into the store: fit, maps, cell with its gallery, latency.

Every function may be called again, by several processes at once and after a kill: what is there is not computed again.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from adcore.core.arrays import UInt8Array
from adcore.core.contracts import Context, Curves, ImageMethod, Levels, Method, Progress, silent
from adcore.core.costs import environment, measured
from adcore.core.devices import device_of
from adcore.core.hardware import hardware
from adcore.core.plan import Plan
from adcore.core.store import Store
from adcore.core.training import Training
from adcore.core.words import TRAINING
from adcore.engine import enhancement, evaluation, identity, latency
from adcore.engine.cells import Cell, by_path
from adcore.engine.enhancement import image_set
from adcore.engine.latency import Timed
from adcore.engine.sizes import Size, size
from adcore.engine.timed import is_timed
from adcore.features.bank import Bank, Live, Mapped, Pictures
from adcore.features.extractor import Extraction, Extractor, reader
from adcore.metrics import image_metrics
from adcore.vision.gallery import make_gallery


@dataclass(frozen=True)
class Fitted:
    """A cell's method as its fit left it, the record of that fit, and how its training went."""

    method: Method
    meta: dict[str, Any]
    curves: Curves


class Computer:
    """The steps of a plan's cells on one machine, over a store and a feature bank."""

    def __init__(self, plan: Plan, store: Store, bank: Path) -> None:
        self.plan = plan
        self.store = store
        self.device = device_of(plan.device)
        self.bank = Bank(bank, plan.budget.disk_gb, self.device, identity.features(), self._weights)
        self.checkpoints = bank.parent / "checkpoints"

    @property
    def _environment(self) -> dict[str, Any]:
        return {**environment(), "device": self.device, "hardware": hardware(self.device)}

    def enhance(self, cell: Cell, key: str, progress: Progress) -> None:
        """Train one enhancer of a cell's chain: `weights.safetensors`, curves, facts, and a sheet of what it saw."""
        with self.store.lock(key):
            if self.store.has("enhancer", key):
                return
            index = [link.key for link in cell.links].index(key)
            training = Training(cell.seed, self.device, self.checkpoints / key, progress)
            with measured() as cost:
                host = self._method(cell) if cell.links[index].made().wants_host else None
                trained = enhancement.train(cell, index, self._weights, training, host)
            parents = {"enhancer": cell.links[index - 1].key} if index else {}
            meta = {**self._environment, "parents": parents, "names": cell.names}
            # Options may name files of this machine, which count by their content: not for summary.json.
            meta |= {"options": trained.enhancer.options.model_dump(mode="json")}
            meta |= {"enhance_s": cost.seconds, "peak_mb": cost.peak_mb}
            with self.store.write("enhancer", key, meta, _bytes(trained.outcome.state)) as folder:
                trained.write(folder)
            self._forget_checkpoints(key)

    def extract(self, cell: Cell, levels: Levels, progress: Progress) -> None:
        """Fill the bank with the features of a cell's images, at all `levels` that are wanted of them."""
        sets = [images for images in (image_set(cell, "train"), image_set(cell, "test")) if images.paths]
        total, done = sum(len(images.paths) for images in sets), 0
        for images in sets:
            self.bank.source(images, self._extraction(cell, levels), _share(progress, done, len(images.paths), total))
            done += len(images.paths)

    def fit(self, cell: Cell, progress: Progress) -> None:
        """Fit the cell's method: `state.safetensors`."""
        with self.store.lock(cell.fit_key):
            if self.store.has("fit", cell.fit_key):
                return
            source = self._source(cell, "train")
            method = self._method(cell)
            with measured() as cost:
                before = source.seconds
                curves = method.fit(source, progress)
                live = source.seconds - before  # extraction within the fit, where the bank has no room
            meta = {
                **self._environment,
                "parents": {"enhancer": cell.links[-1].key} if cell.links else {},
                "names": cell.names,
                "options": cell.contender.options.model_dump(mode="json"),
                "extract_s": source.seconds,
                "fit_s": cost.seconds - live,
                "peak_mb": cost.peak_mb,
            }
            state = {name: tensor.contiguous().cpu() for name, tensor in method.state().items()}
            size = _bytes(state)
            self.store.keep_within("fit", self.plan.budget.disk_gb * 1e9, size)
            with self.store.write("fit", cell.fit_key, _finite(meta), size) as folder:
                save_file(state, folder / "state.safetensors")
                _write_json(folder / TRAINING, curves)
            self._forget_checkpoints(cell.fit_key)

    def score(self, cell: Cell, progress: Progress) -> None:
        """Score the test images: `maps.npy` (N, h, w) raw, `scores.npy` (N,), in the order of the cell's test rows."""
        with self.store.lock(cell.maps_key):
            if self.store.has("maps", cell.maps_key):
                return
            source = self._source(cell, "test")
            fitted = self._fitted(cell)
            with measured() as cost:
                maps, scores = evaluation.score(fitted.method, source, progress)
            meta = {
                **self._environment,
                "parents": {"fit": cell.fit_key},
                "extract_s": fitted.meta["extract_s"] + source.seconds,
                "fit_s": fitted.meta["fit_s"],
                "score_s": cost.seconds,
                "peak_mb": max(fitted.meta["peak_mb"], cost.peak_mb),
            }
            with self.store.write("maps", cell.maps_key, _finite(meta), maps.nbytes + scores.nbytes) as folder:
                np.save(folder / "maps.npy", maps)
                np.save(folder / "scores.npy", scores)
                _write_json(folder / TRAINING, fitted.curves)  # kept here: the fit may go

    def evaluate(self, cell: Cell) -> None:
        """Judge the maps: `metrics.json`, `images.parquet`, `curves.json`; and the gallery of the hardest images."""
        with self.store.lock(cell.key):
            has_cell, has_gallery = self.store.has("cell", cell.key), self.store.has("gallery", cell.gallery_key)
            if has_cell and has_gallery:
                return
            judged = self._judged(cell)
            if not has_cell:
                self._write_cell(cell, judged)
            if not has_gallery:
                self._write_gallery(cell, judged)

    def latency(self, cell: Cell, plain: Cell | None = None) -> None:
        """Measure milliseconds an image, on this machine, in turn with `plain`, without an enhancer, and count
        parameters and multiply-accumulates: `latency.json`; of kind `busy` where the machine was so."""
        with self.store.lock(cell.latency_key):
            if is_timed(self.store, cell):
                return
            method, extractor = self._timed(cell)
            measures = latency.measure(method, extractor, self._timed(plain) if plain else None)
            measures["size"] = self._size(cell).columns
            meta = {**self._environment, "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0]}
            with self.store.write("busy" if measures["busy"] else "latency", cell.latency_key, meta) as folder:
                _write_json(folder / "latency.json", measures)

    def ready(self, cell: Cell) -> Timed:
        """A cell's fitted method, fitted again where its fit has gone, and what makes what it reads from images."""
        return self._timed(cell)

    def _write_cell(self, cell: Cell, judged: evaluation.Judged) -> None:
        with measured() as cost:
            found = evaluation.evaluate(judged)
        maps = self.store.meta("maps", cell.maps_key)
        meta = {
            **self._environment,
            "parents": {"fit": cell.fit_key, "maps": cell.maps_key},
            "names": cell.names,
            "extract_s": maps["extract_s"],
            "fit_s": maps["fit_s"],
            "judged": {"at": cell.evaluate_at, **evaluation.rules()},
            "evaluate_s": cost.seconds,
            "peak_mb": max(maps["peak_mb"], cost.peak_mb),
        }
        with self.store.write("cell", cell.key, _finite(meta)) as folder:
            _write_json(folder / "metrics.json", _finite(found))
            _write_json(folder / "curves.json", evaluation.curves(judged))
            evaluation.table(judged).to_parquet(folder / "images.parquet", index=False)

    def _write_gallery(self, cell: Cell, judged: evaluation.Judged) -> None:
        files = image_set(cell, "test").files

        def image(index: int) -> UInt8Array:
            if judged.at == "original":
                return files[index].decode()[judged.window(index)]
            return files[index].load(cell.image.resize, cell.image.size).transpose(1, 2, 0)

        count = len(judged.rows)
        meta = {**self._environment, "parents": {"cell": cell.key}}
        with self.store.write("gallery", cell.gallery_key, meta) as folder:
            make_gallery(
                folder,
                evaluation.Lazy(count, image),
                judged.smoothed,
                judged.scores,
                judged.rows["label"].to_numpy(),
                judged.rows["path"].tolist(),
                judged.masks if judged.has_masks else None,
            )

    def _judged(self, cell: Cell) -> evaluation.Judged:
        folder = self.store.path("maps", cell.maps_key)
        maps, scores = np.load(folder / "maps.npy"), np.load(folder / "scores.npy")
        sigma = cell.contender.method.smoothing
        keep = min(evaluation.KEPT, self.plan.budget.memory_gb * 1e9 / 4)
        return evaluation.Judged(maps, scores, cell.test, cell.category.root, cell.image, sigma, cell.evaluate_at, keep)

    def _fitted(self, cell: Cell) -> Fitted:
        """The cell's method, which is fitted again where its fit has gone for want of room."""
        while (fitted := self._loaded(cell)) is None:
            self.fit(cell, silent)
        return fitted

    def _loaded(self, cell: Cell) -> Fitted | None:
        folder = self.store.path("fit", cell.fit_key)
        with self.store.lock(cell.fit_key):  # so that it does not go while it is read
            self.store.used("fit", cell.fit_key)
            if not (folder / "state.safetensors").exists():
                return None
            state = load_file(folder / "state.safetensors", device=self.device)
            curves = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
            meta = self.store.meta("fit", cell.fit_key)
        method = self._method(cell)
        method.restore(state)
        return Fitted(method, meta, curves)

    def _method(self, cell: Cell) -> Method:
        size, contender = cell.image.size, cell.contender
        context = Context(
            cell.seed,
            self.device,
            (size, size),
            self.plan.budget.memory_gb,
            self.checkpoints / cell.fit_key,
            functools.partial(self._extractor, cell),
            by_path(cell.train) if contender.method.reads_order else None,
            functools.partial(self._judge, cell) if contender.method.selects_on_test(contender.options) else None,
        )
        return contender.method(contender.options, context)

    def _judge(self, cell: Cell, method: Method) -> float:
        """The image AUROC of a method in training on the cell's test images."""
        scores = evaluation.score(method, self._source(cell, "test"), silent)[1]
        return image_metrics(scores, cell.test["label"].to_numpy())["i_auroc"]

    def _source(self, cell: Cell, part: str) -> Pictures | Mapped | Live:
        """What the method sees of the cell's images: their features, or the images themselves."""
        images = image_set(cell, part)
        if issubclass(cell.contender.method, ImageMethod):
            return Pictures(images, cell.image, self.device)
        return self.bank.source(images, self._extraction(cell, cell.levels))

    def _timed(self, cell: Cell) -> Timed:
        return self._fitted(cell).method, reader(cell.contender.method, lambda: self._extractor(cell), self.device)

    def _size(self, cell: Cell) -> Size:
        extractor = self._extractor(cell)
        return size(extractor, cell.contender.method.sized(cell.contender.options, extractor))

    def _extractor(self, cell: Cell) -> Extractor:
        return self.bank.extractor(self._extraction(cell, cell.levels))

    def _extraction(self, cell: Cell, levels: Levels) -> Extraction:
        return Extraction(cell.backbone, cell.image, levels, cell.links)

    def _weights(self, key: str) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = load_file(self.store.path("enhancer", key) / "weights.safetensors")
        return state

    def _forget_checkpoints(self, key: str) -> None:
        for path in self.checkpoints.glob(f"{key}*"):
            path.unlink(missing_ok=True)


def _share(progress: Progress, done: int, part: int, total: int) -> Progress:
    return lambda fraction: progress((done + fraction * part) / total)


def _bytes(state: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """NaN is null in JSON."""
    return {name: None if value != value else value for name, value in values.items()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")
