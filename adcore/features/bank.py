"""The feature bank: a backbone runs once over an image set, whichever methods read its maps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from adcore.core import contracts, keys
from adcore.core.contracts import Maps
from adcore.core.devices import is_accelerator, to_device
from adcore.core.disk import room
from adcore.core.plan import ImageSpec
from adcore.core.store import Store, use_of
from adcore.features import backbones
from adcore.features.extractor import BATCH, Extraction, Extractor, Weights, decoded
from adcore.vision.images import ImageFile

KEPT = 3  # extractors: every fine-tuned category has its own


@dataclass(frozen=True)
class ImageSet:
    """Image files and what they hold (`ImageFile.content`, behind it `#N` for a few-shot version), in the same order;
    `variants`: those N."""

    paths: tuple[Path, ...]
    hashes: tuple[str, ...]
    variants: tuple[int, ...] = ()

    @property
    def files(self) -> list[ImageFile]:
        return [ImageFile.of(path, content) for path, content in zip(self.paths, self.hashes, strict=True)]

    def decoded(self, image: ImageSpec, only: Sequence[int] | None = None) -> Iterator[torch.Tensor]:
        """Batches (B, 3, H, W), uint8, of all; or one batch of the images with the indices `only`."""
        files = self.files
        if only is None:
            return decoded(files, image, variants=self.variants)
        variants = [self.variants[index] for index in only] if self.variants else ()
        return decoded([files[index] for index in only], image, batch=len(only), variants=variants)


class Mapped:
    """FeatureSource over memory-mapped files. They stay readable when the bank drops them; nothing of them stays
    resident between batches."""

    def __init__(self, files: Sequence[Path], device: str, seconds: float, images: Pictures) -> None:
        self.device = device
        self.images = images
        self.seconds = seconds  # that their extraction took, whenever that was
        self._arrays = [_open(file) for file in files]
        for file, _, _ in self._arrays:
            weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return self._arrays[0][1][0]

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for start in range(0, len(self), BATCH):
            yield self._read(range(start, min(start + BATCH, len(self))))

    def at(self, indices: Sequence[int]) -> list[torch.Tensor]:
        return self._read(indices)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        return [(shape[1], shape[2], shape[3]) for _, shape, _ in self._arrays]

    def _read(self, index: Sequence[int]) -> list[torch.Tensor]:
        batch = []
        for file, shape, offset in self._arrays:
            mapped = np.memmap(file, dtype=np.float32, mode="r", offset=offset, shape=shape)
            values = torch.empty(len(index), *shape[1:], pin_memory=is_accelerator(self.device))
            np.take(mapped, index, axis=0, out=values.numpy(), mode="clip")  # the only copy on the host
            batch.append(to_device(values, self.device))
        return batch


def _open(path: Path) -> tuple[BinaryIO, tuple[int, ...], int]:
    file = path.open("rb")
    return file, *_header(file)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], int]:
    """The shape of the array in a file, and where it begins."""
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return shape, file.tell()


def _whole(path: Path) -> bool:
    """Whether a file of features is there, as long as it says; a damaged one is extracted again."""
    try:
        with path.open("rb") as file:
            shape, offset = _header(file)
            return path.stat().st_size == offset + 4 * int(np.prod(shape))
    except (OSError, ValueError):
        return False


def _reserve(path: Path) -> None:
    """Take the file's blocks now: on a full disk this is an error, where a write to the map would kill the process."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


class Pictures:
    """ImageSource over files, which are decoded at every pass."""

    def __init__(self, images: ImageSet, image: ImageSpec, device: str) -> None:
        self.set = images
        self.image = image
        self.device = device
        self.seconds = 0.0  # spent on decoding so far

    def __len__(self) -> int:
        return len(self.set.paths)

    def __iter__(self) -> Iterator[torch.Tensor]:
        batches = self.set.decoded(self.image)
        for _ in range(0, len(self), BATCH):
            yield self._next(batches)

    def at(self, indices: Sequence[int]) -> torch.Tensor:
        return self._next(self.set.decoded(self.image, indices))

    def _next(self, batches: Iterator[torch.Tensor]) -> torch.Tensor:
        started = time.perf_counter()
        batch = to_device(next(batches), self.device)
        self.seconds += time.perf_counter() - started
        return batch


class Live:
    """FeatureSource that runs the backbone at every pass: for image sets beyond the disk budget."""

    def __init__(self, images: ImageSet, extractor: contracts.Extractor, image: ImageSpec) -> None:
        self.images = Pictures(images, image, extractor.device)
        self.extractor = extractor
        self._spent = 0.0

    @property
    def seconds(self) -> float:
        """Spent on decoding and extraction so far."""
        return self._spent + self.images.seconds

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Maps]:
        for batch in self.images:
            yield self._extract(batch)

    def at(self, indices: Sequence[int]) -> Maps:
        return self._extract(self.images.at(indices))

    def _extract(self, batch: torch.Tensor) -> Maps:
        started = time.perf_counter()
        features = self.extractor(batch)
        self._spent += time.perf_counter() - started
        return features

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        return [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self.at([0])]


class Bank:
    """Features under `root`, at most `disk_gb`; the longest unused go first, and all may be deleted at any time."""

    def __init__(self, root: Path, disk_gb: float, device: str, code: str, weights: Weights | None = None) -> None:
        """`code`: digest of the code that makes features. `weights` gives the state of trained enhancers."""
        self.root = root
        self.code = code
        self.disk_bytes = disk_gb * 1e9
        self.device = device
        self.weights = weights
        self._extractors: dict[Extraction, Extractor] = {}

    def extractor(self, extraction: Extraction) -> Extractor:
        """The extractor; the last few that were used are kept."""
        if extraction in self._extractors:
            found = self._extractors.pop(extraction)
        else:
            found = Extractor(extraction, self.device, self.weights)
        self._extractors[extraction] = found
        for oldest in list(self._extractors)[:-KEPT]:
            del self._extractors[oldest]
        return found

    def source(
        self, images: ImageSet, extraction: Extraction, progress: Callable[[float], None] = lambda done: None
    ) -> Mapped | Live:
        """Features of `images`, extracted now unless they are there; `progress` hears the fraction done."""
        folder = self._folder(images, extraction)
        files = {level: folder / f"{level}.npy" for level in extraction.names}
        with Store(self.root).lock(folder.name):
            missing = [level for level, file in files.items() if not _whole(file)]
            if missing and not self._extract(images, extraction.only(missing), files, progress):
                return Live(images, self.extractor(extraction), extraction.image)
            with contextlib.suppress(FileNotFoundError):
                os.utime(folder)
            pictures = Pictures(images, extraction.image, self.device)
            return Mapped(list(files.values()), self.device, _seconds(folder, set(files)), pictures)

    def _folder(self, images: ImageSet, extraction: Extraction) -> Path:
        content = {
            "images": images.hashes,
            "backbone": backbones.identity(extraction.backbone),
            "image": extraction.image.model_dump(),
            "links": [link.key for link in extraction.links],
            "code": self.code,
            "libraries": keys.libraries(),
        }
        return self.root / keys.digest(content)

    def _extract(
        self,
        images: ImageSet,
        extraction: Extraction,
        files: dict[str, Path],
        progress: Callable[[float], None],
    ) -> bool:
        started = time.perf_counter()
        extractor = self.extractor(extraction)
        names = extraction.names
        folder = files[names[0]].parent
        parts = [files[name].with_suffix(".part") for name in names]  # ours alone: the caller holds the lock
        arrays: list[np.memmap[tuple[int, ...], np.dtype[np.float32]]] = []
        position, total = 0, len(images.paths)
        try:
            for batch in images.decoded(extraction.image):
                maps = extractor(batch)
                if not arrays:
                    shapes = [(total, *features.shape[1:]) for features in maps]
                    size = sum(4 * int(np.prod(shape)) for shape in shapes)
                    if not self._make_room(size, folder):
                        return False
                    with room(self.root, size):
                        folder.mkdir(parents=True, exist_ok=True)
                        for part, shape in zip(parts, shapes, strict=True):
                            arrays.append(np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape))
                            _reserve(part)
                for array, features in zip(arrays, maps, strict=True):
                    array[position : position + len(batch)] = features.cpu().numpy()
                position += len(batch)
                progress(position / total)
            arrays.clear()
            self._note_seconds(folder, names, time.perf_counter() - started)
            for part, name in zip(parts, names, strict=True):
                part.rename(files[name])
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
        return True

    def _note_seconds(self, folder: Path, names: Sequence[str], seconds: float) -> None:
        path = folder / "seconds.json"
        record = _record(folder)
        record["+".join(names)] = seconds
        part = path.with_suffix(".part")
        part.write_text(json.dumps(record), encoding="utf-8")
        part.rename(path)

    def _make_room(self, wanted: int, keep: Path) -> bool:
        """Delete the longest unused image sets until `wanted` bytes fit the budget beside `keep`; False where they do
        not fit. What another process is extracting stays."""
        if wanted + use_of(keep)[1] > self.disk_bytes:
            return False
        folders = [folder for folder in self.root.iterdir() if folder.is_dir() and folder.name != "locks"]
        uses = {folder: use_of(folder) for folder in folders}
        held = sum(size for _, size in uses.values())
        for folder in sorted(folders, key=lambda folder: uses[folder][0]):
            if held + wanted <= self.disk_bytes:
                break
            if folder != keep and self._evict(folder):
                held -= uses[folder][1]
        return held + wanted <= self.disk_bytes

    def _evict(self, folder: Path) -> bool:
        with Store(self.root).lock(folder.name, wait=False) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)
            return free


def _seconds(folder: Path, names: set[str]) -> float:
    """Seconds of the passes that gave these levels; a pass for several levels counts whole."""
    return float(sum(seconds for passed, seconds in _record(folder).items() if names & set(passed.split("+"))))


def _record(folder: Path) -> dict[str, float]:
    """Levels, joined by `+` -> seconds; nothing where that was not kept."""
    try:
        found: dict[str, float] = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
